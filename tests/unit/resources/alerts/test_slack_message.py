import json
from typing import Any

from alert_examples import example_alert
from hypothesis import given
from hypothesis import strategies as st

from k2_market.alerting.alerts import AlertKind
from k2_market.quality.finding import Severity
from k2_resources.alerts.slack_message import slack_message
from k2_resources.secret_redaction import SecretRedaction

RUN_URL = "http://127.0.0.1:3000/runs/0123456789"


def message(**changes: Any) -> dict[str, Any]:
    return slack_message(example_alert(**changes), RUN_URL, SecretRedaction.of(["s3cret-path"]))


def texts(content: Any) -> list[str]:
    if isinstance(content, dict):
        return [text for each in content.values() for text in texts(each)]
    if isinstance(content, list):
        return [text for each in content for text in texts(each)]
    return [content] if isinstance(content, str) else []


def test_a_message_says_where_what_how_many_and_links_the_run() -> None:
    sent = message()

    assert sent["text"] == ":red_circle: asx/trades 2014-03-11: prices_positive failed"
    everything = "\n".join(texts(sent["blocks"]))
    for part in ("1 price is zero or less.", "prices: *1*", "symbol=BHP, price=-1", f"<{RUN_URL}|Run 01234567>"):
        assert part in everything


def test_a_warning_looks_different() -> None:
    assert message(severity=Severity.WARN)["text"].startswith(":large_yellow_circle:")


def test_a_hostile_value_calls_nobody_and_breaks_nothing() -> None:
    sent = message(
        message="<!channel> & <http://evil|ok>\x1b[31m\nnext",
        numbers={"<@U1>": "<!here>"},
        examples=({"symbol": "``` <!channel>\n\u202e"},),
    )

    everything = "\n".join(texts(sent))
    assert "<!" not in everything
    assert "<@" not in everything
    assert "&lt;!channel&gt; &amp; &lt;http://evil|ok&gt;\\x1b[31m\\nnext" in everything
    assert "\\u202e" in everything
    example = next(text for text in texts(sent) if text.startswith("```"))
    assert example.count("```") == 2
    assert example.endswith("```")


def test_secrets_are_hidden() -> None:
    sent = json.dumps(message(message="token=abc s3cret-path", numbers={"url": "https://u:p4ss@host/x"}))

    for secret in ("abc", "s3cret-path", "p4ss"):
        assert secret not in sent


@given(
    st.text(max_size=3000),
    st.dictionaries(st.text(max_size=300), st.integers() | st.text(max_size=300), max_size=20),
    st.lists(st.dictionaries(st.text(max_size=100), st.text(max_size=300), max_size=15), max_size=12),
)
def test_a_message_stays_within_slacks_bounds(
    text: str, numbers: dict[str, int | str], examples: list[dict[str, str]]
) -> None:
    sent = message(message=text, subject=text, numbers=numbers, examples=tuple(examples))

    json.dumps(sent)
    assert len(sent["blocks"]) <= 50
    for block in sent["blocks"]:
        assert len(block.get("text", {}).get("text", "x")) <= 3000 * 5  # escapes count once they are read
        assert len(block.get("fields", [])) <= 10
        assert all(0 < len(field["text"]) <= 2000 for field in block.get("fields", []))


def test_an_alert_that_no_run_raised_links_to_all_runs_and_a_recovery_is_green() -> None:
    alert = example_alert(kind=AlertKind.RECOVERY, subject="Kafka", headline="answers again", run_id=None)

    message = slack_message(alert, "http://127.0.0.1:3000/runs", SecretRedaction.of([]))

    assert message["text"] == ":large_green_circle: Kafka: answers again"
    assert "<http://127.0.0.1:3000/runs|Runs>" in str(message["blocks"])
