"""Formats an alert as a Slack message; Mattermost, Rocket.Chat and others take the same JSON."""

from typing import Any

from k2_market.alerting.alerts import Alert, AlertKind
from k2_market.quality.finding import Severity
from k2_resources.secret_redaction import SecretRedaction

MAX_EXAMPLES = 5
MAX_NUMBERS = 10
"""Slack takes ten fields in a section."""
_MAX_TITLE = 150
_MAX_MESSAGE = 1_500
_MAX_VALUE = 150
_SIGNS = {Severity.ERROR: ":red_circle:", Severity.WARN: ":large_yellow_circle:"}
_RECOVERED = ":large_green_circle:"


def slack_message(alert: Alert, run_url: str, redaction: SecretRedaction) -> dict[str, Any]:
    """Return the alert as a message: ``text`` for notifications, ``blocks`` to be read.

    Values come from the market and may hold anything: control characters are shown as escapes, Slack's ``& < >``
    are escaped (so ``<!channel>`` calls nobody), all lengths are bounded, secrets are hidden.

    Args:
        alert: What to say.
        run_url: Where the run can be looked at; all runs, where it is about none.
        redaction: Hides secrets.
    """

    def shown(value: object, most: int = _MAX_VALUE) -> str:
        return _escaped(_cut(_printable(redaction.text(str(value))), most))

    sign = _RECOVERED if alert.kind is AlertKind.RECOVERY else _SIGNS[alert.severity]
    title = f"{sign} {shown(alert.title, _MAX_TITLE)}"
    blocks = [_section(f"*{title}*\n{shown(alert.message, _MAX_MESSAGE)}")]
    if alert.numbers:
        numbers = list(alert.numbers.items())[:MAX_NUMBERS]
        fields = [{"type": "mrkdwn", "text": f"{shown(name)}: *{shown(value)}*"} for name, value in numbers]
        blocks.append({"type": "section", "fields": fields})
    if alert.examples:
        blocks.append(_section(_example_lines(alert, shown)))
    link = "Runs" if alert.run_id is None else f"Run {shown(alert.run_id[:8])}"
    blocks.append(_section(f"<{_escaped(run_url)}|{link}>"))
    return {"text": title, "blocks": blocks}


def _example_lines(alert: Alert, shown: Any) -> str:
    lines = [
        ", ".join(f"{shown(name)}={shown(value)}" for name, value in list(example.items())[:MAX_NUMBERS])
        for example in alert.examples[:MAX_EXAMPLES]
    ]
    more = len(alert.examples) - len(lines)
    text = "\n".join([*(_cut(line, 500) for line in lines), *([f"… {more} more"] if more else [])])
    return f"```{text.replace('`', 'ʼ')}```"


def _section(text: str) -> dict[str, Any]:
    return {"type": "section", "text": {"type": "mrkdwn", "text": text}}


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _printable(text: str) -> str:
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
