"""Ledger, rows and broker held against each other, offset by offset."""

from dataclasses import replace
from datetime import date
from typing import Any

import polars as pl

from k2_market.verification.ledger_claims import LedgerClaims
from k2_market.verification.ledger_verification import LogAccount, RowAccount, notes_on_claims, offset_violations
from k2_market.verification.offset_accounts import ranges
from k2_market.verification.snapshot_verification import RetainedSnapshot

NOTHING = ranges([])


def spans(*of: tuple[int, int]) -> pl.DataFrame:
    return ranges(("t", 0, start, end) for start, end in of)


def claims(*covered: tuple[int, int], messages: int, **more: Any) -> LedgerClaims:
    offsets = sum(end - start for start, end in covered)
    return LedgerClaims(
        **{
            "covered": spans(*covered),
            "lost": NOTHING,
            "truncated": NOTHING,
            "topic_names": {"t": "trades"},
            "messages": messages,
            "holes": offsets - messages,
            **more,
        }
    )


def rows(*of: tuple[int, int], dead: tuple[tuple[int, int], ...] = (), day: date | None = None) -> RowAccount:
    return RowAccount(spans(*of), spans(*dead), day)


def log(low: int, end: int, given: tuple[tuple[int, int], ...], **more: Any) -> LogAccount:
    """A log retained from ``low`` to ``end``, all of it asked for."""
    return LogAccount(
        **{
            "topic_id": "t",
            "retained": spans((low, end)),
            "removed": spans((0, low)) if low else NOTHING,
            "asked": spans((low, end)),
            "given": spans(*given),
            "due": spans(*given),
            **more,
        }
    )


def found(
    ledger: LedgerClaims,
    account: RowAccount,
    broker: LogAccount | None = None,
    commits: tuple[RetainedSnapshot, ...] = (),
) -> set[tuple[str, tuple[str, ...], int]]:
    return {
        (each.invariant.value, each.where, each.count) for each in offset_violations(ledger, account, broker, commits)
    }


def commit(start: int, end: int, messages: int) -> RetainedSnapshot:
    return RetainedSnapshot(1, None, 1, {"k2.ranges": f"t/0[{start},{end})", "k2.messages": str(messages)})


def test_rows_that_are_the_ledgers_and_the_brokers_are_fine() -> None:
    assert (
        found(claims((0, 10), messages=10), rows((0, 4), (4, 10)), log(0, 10, ((0, 10),)), (commit(0, 10, 10),))
        == set()
    )


def test_a_message_without_a_row_is_lost_and_named() -> None:
    wrong = found(claims((0, 10), messages=10), rows((0, 4), (5, 10)), log(0, 10, ((0, 10),)))
    assert wrong == {("I1", ("t/0[4,5)",), 1), ("I4", ("t/0[4,5)",), 1)}


def test_without_the_broker_a_missing_row_is_named_by_ledger_and_commit() -> None:
    wrong = found(claims((0, 10), messages=10), rows((0, 4), (5, 10)), None, (commit(0, 10, 10),))
    assert wrong == {("I4", ("t/0[4,5)",), 1)}


def test_an_offset_with_three_rows_has_two_too_many() -> None:
    wrong = found(claims((0, 10), messages=12), rows((0, 10), (4, 5), (4, 5)))
    assert ("I2", ("t/0[4,5)",), 2) in wrong


def test_rows_outside_the_ledger_are_named() -> None:
    assert ("I4", ("t/0[10,12)",), 2) in found(claims((0, 10), messages=10), rows((0, 12)))


def test_a_hole_that_the_broker_confirms_is_fine_and_told() -> None:
    ledger, account, broker = claims((0, 10), messages=9), rows((0, 4), (5, 10)), log(0, 10, ((0, 4), (5, 10)))
    assert found(ledger, account, broker, (commit(0, 10, 9),)) == set()
    (hole,) = notes_on_claims(ledger, account, broker)
    assert (hole.where, hole.count) == (("t/0[4,5)",), 1)
    assert hole.what.startswith("holes")


def test_of_missing_rows_those_are_named_where_the_broker_shows_no_hole() -> None:
    broker = log(5, 10, ((6, 10),))
    wrong = found(claims((0, 10), messages=9), rows((0, 2), (3, 5), (6, 10)), broker)
    assert wrong == {("I4", ("t/0[2,3)",), 1)}


def test_a_row_where_the_broker_has_no_message_is_named_unless_the_topic_is_compacted() -> None:
    ledger, account, broker = claims((0, 10), messages=10), rows((0, 10)), log(0, 10, ((0, 7), (8, 10)))
    assert found(ledger, account, broker) == {("I5", ("t/0[7,8)",), 1)}
    assert found(ledger, account, replace(broker, compacted=True)) == set()


def test_what_the_broker_gives_past_a_recorded_truncation_is_another_matter() -> None:
    ledger = claims((0, 10), messages=10, truncated=spans((6, 10)))
    broker = log(0, 6, ((0, 6),), asked=spans((0, 6)), beyond=spans((6, 10)))
    assert found(ledger, rows((0, 10)), broker) == set()


def test_a_truncation_that_is_not_on_record_is_named() -> None:
    broker = log(0, 6, ((0, 6),), beyond=spans((6, 10)))
    assert found(claims((0, 10), messages=10), rows((0, 10)), broker) == {("I8", ("t/0[6,10)",), 4)}


def test_offsets_that_retention_removed_unread_must_be_on_record() -> None:
    broker = log(5, 10, ((5, 10),))
    assert found(claims((5, 10), messages=5), rows((5, 10)), broker) == {("I8", ("t/0[0,5)",), 5)}
    recorded = claims((5, 10), messages=5, lost=spans((0, 5)))
    assert found(recorded, rows((5, 10)), broker) == set()
    assert [(each.where, each.count) for each in notes_on_claims(recorded, rows((5, 10)), broker)] == [
        (("t/0[0,5)",), 5)
    ]


def test_offsets_on_record_as_lost_that_the_broker_still_has_are_named() -> None:
    ledger = claims((5, 10), messages=5, lost=spans((0, 5)))
    assert ("I8", ("t/0[0,5)",), 5) in found(ledger, rows((5, 10)), log(0, 10, ((0, 10),)))


def test_what_the_broker_has_beyond_the_ledger_is_pending_and_no_fault() -> None:
    ledger, broker = claims((0, 10), messages=10), log(0, 15, ((0, 10),), asked=spans((0, 10)))
    assert found(ledger, rows((0, 10)), broker) == set()
    (pending,) = notes_on_claims(ledger, rows((0, 10)), broker)
    assert (pending.where, pending.count) == (("t/0[10,15)",), 5)


def test_dead_letters_are_told_and_counted_again() -> None:
    ledger, account = claims((0, 10), messages=10, dead_letters=2), rows((0, 10), dead=((3, 5),))
    assert found(ledger, account) == set()
    assert [(each.what, each.where) for each in notes_on_claims(ledger, account, None)] == [
        ("dead letters", ("t/0[3,5)",))
    ]
    assert found(replace(ledger, dead_letters=3), account) == {("I8", ("t/0[3,5)",), 1)}


def test_a_number_of_holes_that_is_not_offsets_less_messages_is_named() -> None:
    assert found(claims((0, 10), messages=10, holes=4), rows((0, 10))) == {("I8", (), 4)}


def test_an_offset_that_the_ledger_has_twice_is_named() -> None:
    assert ("I3", ("t/0[3,5)",), 2) in found(claims((0, 5), (3, 10), messages=12, holes=-2), rows((0, 10)))
    assert ("I3", ("t/0[3,5)",), 2) in found(claims((0, 5), messages=5, lost=spans((3, 9))), rows((0, 5)))


def test_of_one_day_only_its_own_messages_must_be_rows() -> None:
    day = date(2026, 11, 20)
    broker = log(0, 10, ((0, 10),), due=NOTHING)
    assert found(claims((0, 10), messages=10), rows((3, 6), day=day), broker) == set()
    lost = replace(broker, due=spans((6, 7)))
    assert found(claims((0, 10), messages=10), rows((3, 6), day=day), lost) == {("I1", ("t/0[6,7)",), 1)}


def test_what_was_set_aside_is_neither_pending_nor_lost_and_is_told() -> None:
    ledger = claims((0, 10), messages=10, dead_letters=1, set_aside=spans((4, 5), (12, 14)))
    account = rows((0, 10), dead=((4, 5),))
    broker = log(0, 20, ((0, 10),), asked=spans((0, 10)))
    assert found(ledger, account, broker) == set()
    said = {each.what: each.where for each in notes_on_claims(ledger, account, broker)}
    assert said["set aside, as dead letters (ledger.set_aside)"] == ("t/0[4,5)",)
    assert said["set aside unread: no row has them (ledger.set_aside)"] == ("t/0[12,14)",)
    assert said["pending: the broker has them, the ledger not yet"] == ("t/0[10,12)", "t/0[14,20)")


def test_what_was_set_aside_and_removed_since_is_not_missing_from_what_is_lost() -> None:
    ledger = claims((0, 10), messages=10, set_aside=spans((10, 12)))
    assert found(ledger, rows((0, 10)), log(12, 20, (), asked=NOTHING)) == set()


def test_a_decoded_row_of_what_was_set_aside_is_named_and_so_is_what_is_lost_besides() -> None:
    ledger = claims((0, 10), messages=10, set_aside=spans((4, 5)), lost=spans((20, 21)))
    assert ("I8", ("t/0[4,5)",), 1) in found(ledger, rows((0, 10)))
    both = claims((0, 10), messages=10, set_aside=spans((20, 21)), lost=spans((20, 21)))
    assert ("I3", ("t/0[20,21)",), 1) in found(both, rows((0, 10)))
