"""An alert to try things on."""

from typing import Any

from k2_market.alerting.alerts import Alert, AlertKind
from k2_market.quality.finding import Severity


def example_alert(**changes: Any) -> Alert:
    """A price of zero or less in ``asx/trades``, with some attributes changed."""
    fields: dict[str, Any] = {
        "kind": AlertKind.CHECK,
        "severity": Severity.ERROR,
        "feed": "asx",
        "day": "2014-03-11",
        "subject": "asx/trades",
        "check": "prices_positive",
        "message": "1 price is zero or less.",
        "run_id": "0123456789",
        "numbers": {"prices": 1},
        "examples": ({"symbol": "BHP", "price": "-1"},),
    }
    return Alert(**{**fields, **changes})
