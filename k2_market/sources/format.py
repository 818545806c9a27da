"""The shapes that files of trades come in, each with a reader of its own (``source_<shape>.py``)."""

from enum import StrEnum


class SourceFormat(StrEnum):
    """A shape of file."""

    CSV = "csv"
    """K2's own: a header names the columns."""
    ASX_TICKDATA = "asx-tickdata"
    """Tick Data's ASX trades."""
    HITBTC = "hitbtc"
    """HitBTC's trades."""
