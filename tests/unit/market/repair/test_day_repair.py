"""A day's difference from Kafka, against a plain account of each offset; and that a repair leaves none."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal

import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from market_rows import DAY, Row, dead_letter, message, raw_table

from k2_market.ledger.ledger import Ledger
from k2_market.ledger.offset_ranges import OffsetRange, RangeSet
from k2_market.ledger.row_offsets import OFFSET_COLUMNS
from k2_market.ledger.topic_state import PartitionState, TopicState
from k2_market.repair.day_difference import Change, DayDifference, Untouched, difference
from k2_market.repair.day_repair import DayFacts, dead_letters_after, decoded_offsets, retained

NEXT_DAY = date(2026, 3, 11)
TOPIC = "topic-a"


@dataclass(frozen=True)
class World:
    """A topic's log, and a table that was filled from it and then meddled with.

    Attributes:
        log: What each offset decodes to now; None where the log has a hole.
        table: All rows of the table.
        covered: Offsets below this are in the ledger.
        low: Offsets below this are no longer retained.
    """

    log: tuple[Row | None, ...]
    table: tuple[Row, ...]
    covered: int
    low: int = 0

    @property
    def ledger(self) -> Ledger:
        messages = sum(each is not None for each in self.log[: self.covered])
        return Ledger(covered=span(0, self.covered), messages=messages, topic_names={TOPIC: "trades"}, batch_id="b")

    def facts(self, day: date) -> DayFacts:
        return DayFacts(
            day=day,
            rows=raw_table(row for row in self.table if row["trade_date"] == day),
            elsewhere=raw_table(row for row in self.table if row["trade_date"] != day).select(OFFSET_COLUMNS),
            ledger=self.ledger,
            retained=span(self.low, len(self.log)),
        )

    def difference(self, day: date = DAY) -> DayDifference:
        everything = raw_table(row for row in self.log[self.low :] if row is not None)
        return difference(self.facts(day), everything)

    def repaired(self, day: date = DAY) -> "World":
        others = (row for row in self.table if row["trade_date"] != day)
        return replace(self, table=(*others, *self.difference(day).rewrite.rows.to_pylist()))


def span(start: int, end: int) -> RangeSet:
    return RangeSet.of([OffsetRange(TOPIC, 0, start, end)] if end > start else [])


def full(row: Row) -> Row:
    """A row with all columns, as a table gives it."""
    return raw_table([row]).to_pylist()[0]


def of(rows: Iterable[Row], offset: int) -> list[Row]:
    return [full(row) for row in rows if row["kafka_offset"] == offset]


def decodes(row: Row) -> bool:
    return "reject_reason" not in row


KINDS = ["trade", "trade", "trade", "other day", "dead", "dead of other day", "hole"]
MEDDLING = ["delete", "double", "change", "move", "kill", "kill and move", "nothing", "nothing"]


def in_log(offset: int, kind: str) -> Row | None:
    match kind:
        case "hole":
            return None
        case "trade":
            return message(offset)
        case "other day":
            return message(offset, trade_date=NEXT_DAY)
        case "dead":
            return dead_letter(offset)
        case _:
            return dead_letter(offset, trade_date=NEXT_DAY)


def meddled(row: Row, how: str) -> list[Row]:
    moved = {"trade_date": NEXT_DAY if row["trade_date"] == DAY else DAY}
    dead = dead_letter(row["kafka_offset"], "the schema was not known", trade_date=row["trade_date"])
    match how:
        case "delete":
            return []
        case "double":
            return [row, row]
        case "change":
            return [row | {"price": Decimal("99.5")}]
        case "move":
            return [row | moved]
        case "kill":
            return [dead]
        case "kill and move":
            return [dead | moved]
        case _:
            return [row]


@st.composite
def worlds(draw: st.DrawFn) -> World:
    kinds = draw(st.lists(st.sampled_from(KINDS), min_size=1, max_size=10))
    log = tuple(in_log(offset, kind) for offset, kind in enumerate(kinds))
    covered = draw(st.integers(0, len(log)))
    ingested = [row for row in log[:covered] if row is not None]
    table = [each for row in ingested for each in meddled(row, draw(st.sampled_from(MEDDLING)))]
    strays = draw(st.lists(st.integers(covered, covered + 5), max_size=2))
    table += [message(offset, trade_id="planted") for offset in strays]
    return World(log, tuple(draw(st.permutations(table))), covered, draw(st.integers(0, len(log))))


@settings(max_examples=60, deadline=None)
@given(worlds())
def test_after_a_repair_there_is_nothing_to_repair(world: World) -> None:
    repaired = world.repaired()
    assert repaired.difference().changes == ()
    assert repaired.repaired().difference().rewrite.rows.equals(repaired.difference().rewrite.rows)


@settings(max_examples=60, deadline=None)
@given(worlds())
def test_a_repaired_day_has_each_offset_once_and_none_that_the_ledger_has_not(world: World) -> None:
    rows = [row for row in world.repaired().table if row["trade_date"] == DAY]
    offsets = [row["kafka_offset"] for row in rows]
    assert len(offsets) == len(set(offsets))
    assert all(offset < world.covered for offset in offsets)


@settings(max_examples=60, deadline=None)
@given(worlds())
def test_a_repair_never_loses_an_offset_that_a_row_stood_for(world: World) -> None:
    before = {row["kafka_offset"] for row in world.table if row["kafka_offset"] < world.covered}
    assert before <= {row["kafka_offset"] for row in world.repaired().table}


@settings(max_examples=60, deadline=None)
@given(worlds())
def test_rows_of_other_days_stay_as_they_are(world: World) -> None:
    before = Counter(str(full(row)) for row in world.table if row["trade_date"] != DAY)
    after = Counter(str(full(row)) for row in world.repaired().table if row["trade_date"] != DAY)
    assert not before - after


@settings(max_examples=60, deadline=None)
@given(worlds())
def test_what_kafka_still_has_of_the_day_is_there_as_kafka_has_it(world: World) -> None:
    repaired = world.repaired()
    for offset, row in enumerate(world.log[: world.covered]):
        known_elsewhere = any(each["trade_date"] != DAY for each in of(world.table, offset))
        if row is not None and decodes(row) and row["trade_date"] == DAY and offset >= world.low:
            assert known_elsewhere or of(repaired.table, offset) == [full(row)]


@settings(max_examples=60, deadline=None)
@given(worlds())
def test_what_kafka_has_not_any_more_stays_and_once(world: World) -> None:
    repaired = world.repaired()
    for offset in range(min(world.low, world.covered)):
        here = [row for row in of(world.table, offset) if row["trade_date"] == DAY]
        assert [row for row in of(repaired.table, offset) if row["trade_date"] == DAY] == here[:1]


@settings(max_examples=60, deadline=None)
@given(worlds())
def test_the_numbers_told_are_the_difference_of_rows(world: World) -> None:
    found = world.difference()
    told = {each.what: each.rows for each in found.changes}
    of_day = pc.sum(pc.equal(found.rewrite.rows["trade_date"], DAY)).as_py() or 0
    leaving = sum(told.get(each, 0) for each in (Change.MOVED, Change.REPEATED, Change.STRAY))
    assert of_day == found.before + told.get(Change.ADDED, 0) - leaving


@settings(max_examples=40, deadline=None)
@given(worlds())
def test_every_day_repaired_leaves_all_that_kafka_has_once_in_its_own_day(world: World) -> None:
    whole = replace(world, low=0)
    for day in (DAY, NEXT_DAY, DAY):
        whole = whole.repaired(day)
    told = (*whole.difference(DAY).untouched, *whole.difference(NEXT_DAY).untouched)
    leaving = [each.offsets for each in told if each.what is Untouched.LEAVING]
    for row in whole.log[: whole.covered]:
        if row is not None and decodes(row):
            place = (TOPIC, 0, row["kafka_offset"])
            assert any(each.contains(*place) for each in leaving) or of(whole.table, place[2]) == [full(row)]


LOG = (message(0), message(1), message(2, trade_date=NEXT_DAY), None, message(4), dead_letter(5))


def world(*table: Row, low: int = 0) -> World:
    return World(LOG, table, covered=6, low=low)


WHOLE = tuple(row for row in LOG if row is not None)


def found(difference: DayDifference, what: Change | Untouched) -> list[str]:
    return [
        str(place)
        for each in (*difference.changes, *difference.untouched)
        if each.what == what
        for place in each.offsets
    ]


def test_a_day_that_is_as_in_kafka_needs_nothing() -> None:
    told = world(*WHOLE).difference()
    assert (told.changes, told.untouched) == ((), ())


def test_rows_deleted_by_hand_are_added_again_and_those_of_other_days_are_told() -> None:
    told = world(message(0), dead_letter(5)).difference()
    assert found(told, Change.ADDED) == ["topic-a/0[1,2)", "topic-a/0[4,5)"]
    assert found(told, Untouched.MISSING_ELSEWHERE) == ["topic-a/0[2,3)"]
    assert [each.day for each in told.untouched] == [NEXT_DAY]


def test_holes_are_not_looked_for_again_when_no_row_is_missing() -> None:
    assert world(*WHOLE).facts(DAY).without_row == RangeSet()
    assert world(*WHOLE).facts(DAY).wanted == RangeSet.of([OffsetRange(TOPIC, 0, 0, 2), OffsetRange(TOPIC, 0, 4, 6)])
    assert list(world(*WHOLE[1:]).facts(DAY).without_row) == [OffsetRange(TOPIC, 0, 0, 1), OffsetRange(TOPIC, 0, 3, 4)]


def test_missing_rows_that_kafka_does_not_retain_are_told_as_gone() -> None:
    told = world(*WHOLE[1:], low=1).difference()
    assert (found(told, Untouched.GONE), told.changes) == (["topic-a/0[0,1)"], ())


def test_a_row_that_would_not_decode_any_more_is_not_given_up() -> None:
    gone = World((dead_letter(0, "unknown schema id 7"),), (message(0),), covered=1)
    told = gone.difference()
    assert (found(told, Untouched.UNREADABLE), told.changes) == (["topic-a/0[0,1)"], ())


def test_a_dead_letter_that_decodes_now_for_its_day_is_replaced_and_one_of_another_day_is_left() -> None:
    log = (message(0), message(1, trade_date=NEXT_DAY))
    told = World(log, (dead_letter(0), dead_letter(1)), covered=2).difference()
    assert (found(told, Change.DECODED), found(told, Untouched.LEAVING)) == (["topic-a/0[0,1)"], ["topic-a/0[1,2)"])


def test_a_dead_letter_is_as_in_kafka_whatever_its_reason_says_of_today() -> None:
    log = (dead_letter(0, "trade_date 2030-01-01 is outside 2014-03-10..2026-11-25", trade_date=NEXT_DAY),)
    table = (dead_letter(0, "trade_date 2030-01-01 is outside 2014-03-10..2026-11-24"),)
    assert World(log, table, covered=1).difference().changes == ()


def test_a_trade_filed_under_the_wrong_day_is_moved_and_one_that_is_there_too_is_left_out() -> None:
    log = (message(0, trade_date=NEXT_DAY), message(1, trade_date=NEXT_DAY))
    told = World(log, (message(0), message(1), message(1, trade_date=NEXT_DAY)), covered=2).difference()
    assert (found(told, Change.MOVED), found(told, Change.REPEATED)) == (["topic-a/0[0,1)"], ["topic-a/0[1,2)"])
    assert told.rewrite.days == {DAY, NEXT_DAY}


def test_an_offset_that_another_day_has_too_is_told() -> None:
    told = world(*WHOLE, message(0, trade_date=NEXT_DAY)).difference()
    assert (found(told, Untouched.ELSEWHERE_TOO), told.changes) == (["topic-a/0[0,1)"], ())


def test_lists_and_maps_are_compared_by_what_they_hold() -> None:
    told = World((message(0, conditions=["XT"], attributes=[("a", "1")]),), (message(0, conditions=["XT"]),), 1)
    assert found(told.difference(), Change.REPLACED) == ["topic-a/0[0,1)"]


@pytest.mark.parametrize("offset", [0, 5])
def test_dead_letters_are_counted_over_the_whole_table(offset: int) -> None:
    rewrite = world(*WHOLE).difference().rewrite
    elsewhere = raw_table([dead_letter(offset, trade_date=NEXT_DAY), dead_letter(9)])
    assert dead_letters_after(rewrite, elsewhere, world().ledger) == len({offset, 5})


def log_of(partition: int, low: int, high: int) -> PartitionState:
    return PartitionState(partition, low, high, high)


def test_kafka_is_asked_for_what_it_retains() -> None:
    topic = TopicState("trades", TOPIC, (log_of(0, 3, 9), log_of(1, 0, 4)))
    expected = [OffsetRange(TOPIC, 0, 3, 9), OffsetRange(TOPIC, 1, 0, 4)]
    assert list(retained(topic, Ledger(covered=span(0, 9)))) == expected
    assert retained(None, Ledger(covered=span(0, 9))) == RangeSet()


@pytest.mark.parametrize("ledger", [Ledger(covered=span(0, 12)), Ledger(covered=span(0, 8), truncated=span(5, 8))])
def test_a_partition_that_lost_its_end_is_not_asked(ledger: Ledger) -> None:
    topic = TopicState("trades", TOPIC, (log_of(0, 0, 9), log_of(1, 0, 4)))
    assert list(retained(topic, ledger)) == [OffsetRange(TOPIC, 1, 0, 4)]


def test_a_message_that_was_set_aside_is_not_read_again_and_its_dead_letter_stays() -> None:
    log = (message(0), message(1), message(2))
    table = (message(0), dead_letter(1, "set aside after 9 failed attempts"), message(2, price=Decimal(7)))
    aside = replace(World(log, table, covered=3).facts(DAY))
    aside = replace(aside, ledger=replace(aside.ledger, set_aside=span(1, 2)))
    assert aside.wanted == span(0, 1) | span(2, 3)
    told = difference(aside, raw_table([message(0), message(2)]))
    assert found(told, Untouched.SET_ASIDE) == ["topic-a/0[1,2)"]
    assert found(told, Change.REPLACED) == ["topic-a/0[2,3)"]
    assert [row["kafka_offset"] for row in told.rewrite.in_order.to_pylist()] == [0, 1, 2]
    assert decoded_offsets(told.rewrite) == span(0, 1) | span(2, 3)


def test_a_message_that_was_set_aside_and_has_no_row_any_more_is_told_as_gone() -> None:
    facts = World((message(0), message(1)), (message(0),), covered=2).facts(DAY)
    told = difference(replace(facts, ledger=replace(facts.ledger, set_aside=span(1, 2))), raw_table([message(0)]))
    assert found(told, Untouched.GONE) == ["topic-a/0[1,2)"]
