"""What ``k2 repair --dead-letters`` prints of offsets that had been set aside unread."""

import json

import pytest

from k2_cli.output.repair_report import print_dead_letters
from k2_market.ledger.offset_ranges import OffsetRange, RangeSet
from k2_resources.raw.repair import ReadAgain

FOUND = ReadAgain(
    rows=7,
    read=RangeSet.of([OffsetRange("T", 0, 3, 10)]),
    unread={"T/1: the batch at offset 4 can't be read\x1b[31m": RangeSet.of([OffsetRange("T", 1, 4, 5)])},
)


def test_offsets_that_were_set_aside_unread_are_printed_with_what_became_of_them(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_dead_letters("asx.raw_trades", [], FOUND, dry_run=False, as_json=False)
    out = " ".join(capsys.readouterr().out.split())
    assert "read now: 7 messages of T/0[3,10)" in out
    assert "still so: T/1[4,5): T/1: the batch at offset 4 can't be read" in out
    assert "\x1b" not in out, "what comes from outside does not drive the terminal"
    assert "Nothing to repair" not in out


def test_offsets_that_still_can_not_be_read_leave_nothing_repaired(capsys: pytest.CaptureFixture[str]) -> None:
    print_dead_letters("asx.raw_trades", [], ReadAgain(0, RangeSet(), FOUND.unread), dry_run=False, as_json=False)
    assert "Nothing to repair." in capsys.readouterr().out


def test_programs_get_the_same_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    print_dead_letters("asx.raw_trades", [], FOUND, dry_run=False, as_json=True)
    unread = json.loads(capsys.readouterr().out)["unread"]
    assert (unread["rows"], unread["read"]) == (7, ["T/0[3,10)"])
    assert list(unread["still_unread"].values()) == [["T/1[4,5)"]]
