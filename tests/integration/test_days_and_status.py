"""``k2 days`` and ``k2 status`` over feeds with days that are fine and days that are not."""

import json
from pathlib import Path
from typing import Any

import pytest
from small_feeds import k2, with_feeds

from k2_resources.settings import Settings


@pytest.fixture
def settings(stack_settings: Settings, tmp_path: Path) -> Settings:
    """Two days of one feed, the second with a dead letter and a cancel that names no trade; nothing of another."""
    lines = [
        "BTC,2026-11-02T10:00:00Z,100,1,t1",
        "BTC,2026-11-02T10:00:01Z,101,2,t2",
        "BTC,2026-11-03T10:00:00Z,102,1,t3",
    ]
    settings = with_feeds(stack_settings, tmp_path, coins=lines, quiet=[])
    cancel = tmp_path / "cancel.csv"
    cancel.write_text(
        "symbol,exchange_timestamp,price,quantity,trade_id,action,corrects_trade_id\n"
        "BTC,2026-11-03T11:00:00Z,102,1,c1,CANCEL,unheard-of\n"
    )
    loaded = k2(settings, "load", "--feed", "coins", str(cancel))
    assert loaded.exit_code == 0, loaded.output
    return settings


def days(settings: Settings, *options: str) -> list[dict[str, Any]]:
    result = k2(settings, "days", "--feed", "coins", "--json", *options)
    assert result.exit_code == 0, result.output
    found: list[dict[str, Any]] = json.loads(result.stdout)
    return found


def status_of(settings: Settings, feed: str) -> dict[str, Any]:
    result = k2(settings, "status", "--json")
    assert result.exit_code == 0, result.output
    (found,) = [each for each in json.loads(result.stdout)["feeds"] if each["feed"] == feed]
    return dict(found)


def test_days_and_status_show_what_waits_what_was_built_and_what_was_found(settings: Settings) -> None:
    before = status_of(settings, "coins")
    assert (before["behind"], before["days"], before["newest"]) == (4, 0, "2026-11-03T11:00:00+00:00")
    assert days(settings) == []

    assert k2(settings, "catch-up", "--feed", "coins").exit_code == 0

    first, second = days(settings)
    figures = ("day", "messages", "raw_rows", "dead_letters", "trades", "minute_bars", "bars")
    assert [first[name] for name in figures] == ["2026-11-02", 2, 2, 0, 2, 1, "current"]
    assert [second[name] for name in figures] == ["2026-11-03", 2, 2, 0, 1, 1, "current"]
    assert first["found"] == []
    assert first["checks"]["passed"] > 5
    assert first["checks"]["warned"] == first["checks"]["failed"] == 0
    assert any("unheard-of" in json.dumps(found) or "cancel" in found["description"] for found in second["found"])
    assert days(settings, "--bad") == [second]
    assert days(settings, "--to", "2026-11-02") == [first]

    after = status_of(settings, "coins")
    assert (after["behind"], after["days"], after["failed_days"], after["days_to_build"]) == (0, 2, 1, 0)
    quiet = status_of(settings, "quiet")
    assert (quiet["behind"], quiet["newest"], quiet["days"], quiet["error"]) == (0, None, 0, "")


@pytest.mark.slow
def test_days_and_status_are_tables_for_people(settings: Settings) -> None:
    k2(settings, "catch-up", "--feed", "coins")

    shown = k2(settings, "days", "--feed", "coins", "--bad").stdout
    assert "2026-11-03" in shown
    assert "2026-11-02" not in shown
    assert "1 of 2 days of coins should be looked at." in shown
    table = k2(settings, "status").stdout
    assert "behind" in table
    assert "2026-11-03 11:00:00" in table
    assert "disk of" in table


@pytest.mark.slow
def test_without_a_broker_days_are_shown_and_messages_are_not_known(settings: Settings) -> None:
    k2(settings, "catch-up", "--feed", "coins")
    away = settings.model_copy(update={"kafka_bootstrap": "127.0.0.1:1"})

    assert [day["messages"] for day in days(away)] == [None, None]
    found = status_of(away, "coins")
    assert (found["behind"], found["days"]) == (None, 2)
    assert "127.0.0.1:1" in found["error"]
