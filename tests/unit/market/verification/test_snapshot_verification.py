"""What snapshots say of a ledger, and how a history that does not fit is named."""

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from typing import Any

import pytest

from k2_market.errors import LedgerError
from k2_market.quality.structure_rules import ledger_verified
from k2_market.verification.file_verification import FileKind, FileState, file_violations, row_count_violations
from k2_market.verification.invariants import Invariant, Violation
from k2_market.verification.ledger_claims import ledger_claims
from k2_market.verification.snapshot_verification import RetainedSnapshot, TableHistory, history_violations

DAY = date(2026, 11, 20)


def ledger(spans: Sequence[tuple[int, int]], batch: str, messages: int | None = None, **more: Any) -> str:
    covered = sum(end - start for start, end in spans)
    count = covered if messages is None else messages
    topic = {"name": "trades", "partitions": {"0": [list(each) for each in spans]}, "lost": {}, "truncated": {}}
    content = {
        "version": 1,
        "batch_id": batch,
        "messages": count,
        "holes": covered - count,
        "dead_letters": 0,
        "late_rows": 0,
        "topics": {"t": topic},
    }
    return json.dumps({**content, **more})


def commit(
    number: int, start: int, end: int, *, total: int, messages: int | None = None, **said: Any
) -> RetainedSnapshot:
    """The ``number``-th commit of a table; its id is 100 times its number."""
    count = end - start if messages is None else messages
    summary = {
        "k2.batch-id": f"batch-{number}",
        "k2.ranges": f"t/0[{start},{end})",
        "k2.messages": str(count),
        "added-records": str(count),
        "total-records": str(total),
    }
    return RetainedSnapshot(number * 100, (number - 1) * 100 or None, number, {**summary, **said})


THREE = (commit(1, 0, 10, total=10), commit(2, 10, 30, total=30), commit(3, 30, 35, total=35))
WHOLE = TableHistory(300, THREE, ledger([(0, 35)], "batch-3"))


def violations(history: TableHistory) -> list[Violation]:
    return history_violations(history, ledger_claims(history.ledger))


def found(history: TableHistory) -> list[tuple[str, tuple[str, ...]]]:
    return [(each.invariant.value, each.where) for each in violations(history)]


def test_commits_that_chain_and_add_up_to_the_ledger_are_fine() -> None:
    assert found(WHOLE) == []


def test_a_table_without_a_commit_or_a_ledger_is_fine() -> None:
    assert found(TableHistory(None, (), None)) == []


def test_a_commit_of_holes_alone_is_fine() -> None:
    holes = commit(4, 35, 37, total=35, messages=0)
    assert found(TableHistory(400, (*THREE, holes), ledger([(0, 37)], "batch-4", 35))) == []


def test_expired_commits_account_for_the_rest_of_the_ledger() -> None:
    assert found(replace(WHOLE, snapshots=THREE[1:])) == []


def test_more_messages_than_expired_commits_can_have_brought_are_named() -> None:
    history = replace(WHOLE, snapshots=THREE[1:], ledger=ledger([(0, 35)], "batch-3", 36, holes=-1))
    assert ("I4", ("t/0[0,10)",)) in found(history)


def test_a_rolled_back_table_is_named_with_the_ranges_that_went() -> None:
    first = violations(replace(WHOLE, current_id=200))[0]
    assert (first.invariant, first.where, first.count) == (Invariant.HISTORY, ("t/0[30,35)",), 5)
    assert "rolled back" in first.what
    assert "snapshot 300" in first.what


def test_a_commit_on_top_of_a_rolled_back_table_does_not_hide_it() -> None:
    fork = replace(commit(4, 35, 40, total=35), parent_id=200)
    history = TableHistory(400, (*THREE, fork), ledger([(0, 40)], "batch-4"))
    assert ("I3", ("t/0[30,35)",)) in found(history)


def test_a_ledger_set_back_by_hand_is_named_by_the_ranges_that_commits_brought() -> None:
    assert ("I3", ("t/0[33,35)",)) in found(replace(WHOLE, ledger=ledger([(0, 33)], "batch-3")))


def test_ranges_in_the_ledger_that_no_commit_brought_are_named() -> None:
    assert ("I3", ("t/0[35,40)",)) in found(replace(WHOLE, ledger=ledger([(0, 40)], "batch-3", 35)))


def test_two_commits_of_one_range_are_named_both() -> None:
    again = commit(4, 5, 7, total=37)
    each = violations(TableHistory(400, (*THREE, again), ledger([(0, 35)], "batch-4", 37, holes=-2)))
    doubled = next(one for one in each if "more than one commit" in one.what)
    assert doubled.where == ("t/0[5,7)",)
    assert "snapshot 400, snapshot 100" in doubled.what


def test_a_commit_that_added_other_rows_than_it_says_is_named() -> None:
    wrong = commit(3, 30, 35, total=36, **{"added-records": "6"})
    assert ("I4", ("t/0[30,35)",)) in found(replace(WHOLE, snapshots=(*THREE[:2], wrong)))


def test_totals_that_do_not_follow_from_the_commit_before_are_named() -> None:
    wrong = commit(3, 30, 35, total=99)
    assert ("I4", ("300",)) in found(replace(WHOLE, snapshots=(*THREE[:2], wrong)))


def test_a_snapshot_of_another_writer_may_change_files_but_not_rows() -> None:
    compaction = RetainedSnapshot(400, 300, 4, {"added-records": "35", "deleted-records": "35", "total-records": "35"})
    assert found(replace(WHOLE, current_id=400, snapshots=(*THREE, compaction))) == []


def test_a_ledger_that_is_less_than_an_earlier_one_is_named() -> None:
    earlier = (("1.json", None), ("2.json", ledger([(0, 35)], "batch-3")), ("3.json", ledger([(0, 20)], "batch-3")))
    names = [each.what for each in violations(replace(WHOLE, earlier_ledgers=earlier))]
    assert names == ["the ledger went back from 2.json (35 messages) to 3.json (20)"]


def test_a_summary_that_is_no_ranges_is_named_and_does_not_raise() -> None:
    wrong = commit(3, 30, 35, total=35, **{"k2.ranges": "t/0[35,30)"})
    (each,) = violations(replace(WHOLE, snapshots=(*THREE[:2], wrong)))
    assert "'t/0[35,30)' is no offset range" in each.what


@pytest.mark.parametrize("text", ["{}", "[]", '{"version": 9}', ledger([(5, 5)], "b"), ledger([(0, 5)], "b", topics=3)])
def test_a_text_that_is_no_ledger_is_refused(text: str) -> None:
    with pytest.raises(LedgerError):
        ledger_claims(text)


def data_file(**said: Any) -> FileState:
    return FileState(**{"path": "f", "kind": FileKind.DATA, "snapshot_id": 1, "bytes_found": 9, "rows_said": 3, **said})


@pytest.mark.parametrize(
    ("file", "complaint"),
    [
        (data_file(bytes_found=None), "is not there"),
        (data_file(bytes_said=10), "has 9 bytes, the metadata says 10"),
        (data_file(bytes_said=9, rows_found=2), "has 2 rows, the metadata says 3"),
        (data_file(fault="bad page"), "can't be read: bad page"),
        (data_file(kind=FileKind.DELETES), "deletes rows of other files, which K2 never does"),
    ],
)
def test_a_file_that_is_not_what_the_metadata_says_is_named(file: FileState, complaint: str) -> None:
    (each,) = file_violations([data_file(), file])
    assert each.invariant is Invariant.READABLE
    assert f"{file.kind} f {complaint}" in each.where[0]


def test_files_that_hold_other_rows_than_snapshot_and_ledger_say_are_named() -> None:
    claims = ledger_claims(WHOLE.ledger)
    assert row_count_violations(WHOLE, claims, {100: 10, 200: 30, 300: 35}) == []
    of_snapshot, of_ledger = row_count_violations(WHOLE, claims, {100: 10, 200: 30, 300: 34})
    assert of_snapshot.where == ("300",)
    assert (of_ledger.what, of_ledger.count) == ("the ledger has 35 messages, the table 34 rows", 1)


def test_the_check_passes_a_history_that_fits_with_files_that_are_there() -> None:
    finding = ledger_verified(DAY, WHOLE, [data_file()])
    assert finding.passed
    assert finding.numbers["files_of_day"] == 1


def test_the_check_names_a_rollback_and_a_deleted_file() -> None:
    finding = ledger_verified(DAY, replace(WHOLE, current_id=200), [data_file(bytes_found=None)])
    assert not finding.passed
    assert finding.numbers["broken_files"] == 1
    assert "rolled back" in finding.description
    assert finding.examples[0]["where"] == "t/0[30,35)"


def test_the_check_fails_on_a_ledger_that_can_not_be_read() -> None:
    finding = ledger_verified(DAY, replace(WHOLE, ledger="{"), [])
    assert (finding.passed, finding.numbers["broken_history"]) == (False, 1)
