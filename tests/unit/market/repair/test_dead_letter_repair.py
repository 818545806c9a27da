"""Dead letters decoded again: their bytes are the messages that they were, and none is moved that must not be."""

from datetime import date
from zoneinfo import ZoneInfo

from hypothesis import given, settings
from hypothesis import strategies as st
from market_rows import DAY, Row, dead_letter, message, raw_table

from k2_market.feeds.day_window import DayWindow
from k2_market.feeds.trading_calendar import TradingCalendar
from k2_market.ledger.ledger import Ledger
from k2_market.ledger.offset_ranges import OffsetRange, RangeSet
from k2_market.ledger.row_offsets import OFFSET_COLUMNS
from k2_market.messages.batch import MessageBatch
from k2_market.messages.block_decoder import decode
from k2_market.repair.dead_letter_repair import (
    DeadLetterPlan,
    dead_letter_plan,
    dead_letters_of,
    kept_messages,
    tried_letters,
)
from k2_market.schemas.message_kinds import TRADE_MESSAGES

NEXT_DAY = date(2026, 3, 11)
NEW_YORK = TradingCalendar(ZoneInfo("America/New_York"), "24/7", date(2020, 1, 1))
WINDOW = DayWindow(NEW_YORK, date(2020, 1, 1), date(2026, 11, 24))
COVERED = RangeSet.of([OffsetRange("topic-a", 0, 0, 10)])

unreadable = st.fixed_dictionaries(
    {
        "partition": st.integers(0, 3),
        "timestamp": st.integers(-1, 2_000_000_000_000),
        "key": st.none() | st.binary(max_size=5),
        "value": st.none() | st.binary(max_size=8),
        "correlation_id": st.none() | st.text(max_size=5),
    }
)


@settings(deadline=None)
@given(st.lists(unreadable, min_size=1, max_size=8))
def test_the_messages_of_dead_letters_are_those_that_were_read(said: list[dict]) -> None:
    batch = MessageBatch(
        topic_id="topic-a",
        partitions=[each["partition"] for each in said],
        offsets=list(range(len(said))),
        timestamps_ms=[each["timestamp"] for each in said],
        keys=[each["key"] for each in said],
        values=[each["value"] for each in said],
        correlation_ids=[each["correlation_id"] for each in said],
    )
    rows = decode(batch, TRADE_MESSAGES, {}, WINDOW)
    assert kept_messages(rows) == [batch]


def test_dead_letters_of_two_topic_ids_are_two_batches() -> None:
    rows = raw_table([dead_letter(1, kafka_topic_id="topic-b"), dead_letter(1)])
    assert [(each.topic_id, each.offsets) for each in kept_messages(rows)] == [("topic-a", [1]), ("topic-b", [1])]


def revived(
    rows: list[Row], again: list[Row], elsewhere: tuple[Row, ...] = (), covered: RangeSet = COVERED
) -> DeadLetterPlan:
    return dead_letter_plan(
        DAY, raw_table(rows), raw_table(elsewhere).select(OFFSET_COLUMNS), covered, raw_table(again)
    )


def offsets(found: DeadLetterPlan, day: date = DAY) -> list[tuple[int, bool]]:
    rows = found.rewrite.in_order.to_pylist()
    return [(row["kafka_offset"], row["reject_reason"] is None) for row in rows if row["trade_date"] == day]


def test_those_that_decode_now_take_the_place_of_their_dead_letters_and_the_others_stay() -> None:
    found = revived([message(0), dead_letter(1), dead_letter(2)], [message(1), dead_letter(2, "still truncated")])
    assert offsets(found) == [(0, True), (1, True), (2, False)]
    assert (found.dead_letters, found.decoded, found.reasons) == (2, {DAY: 1}, {"still truncated": 1})
    assert dead_letters_of(found.rewrite.rows).to_pylist() == raw_table([dead_letter(2)]).to_pylist()


def test_one_that_belongs_to_another_day_goes_there() -> None:
    found = revived([message(0), dead_letter(1)], [message(1, trade_date=NEXT_DAY)])
    assert (offsets(found), offsets(found, NEXT_DAY)) == ([(0, True)], [(1, True)])
    assert (found.decoded, found.rewrite.days) == ({NEXT_DAY: 1}, {DAY, NEXT_DAY})


def test_one_whose_offset_has_another_row_stays() -> None:
    doubled_here = revived([dead_letter(1), dead_letter(1)], [message(1), message(1)])
    doubled_there = revived([dead_letter(1)], [message(1)], (message(1, trade_date=NEXT_DAY),))
    stray = revived([dead_letter(1)], [message(1)], covered=RangeSet())
    for found in (doubled_here, doubled_there, stray):
        assert found.decoded == {}
        assert all("repair the day first" in reason for reason in found.reasons)


def test_where_none_decodes_nothing_changes() -> None:
    rows = [message(0), dead_letter(1)]
    found = revived(rows, [dead_letter(1, trade_date=NEXT_DAY)])
    assert found.decoded == {}
    assert found.rewrite.rows.equals(raw_table(rows))


def test_one_that_was_too_early_and_is_dead_for_another_reason_gets_that_reason_and_is_tried_no_more() -> None:
    too_early = "trade_date 2026-03-12 outside 2020-01-01..2026-03-11"
    found = revived(
        [message(0), dead_letter(1, too_early), dead_letter(2, "cut short")],
        [dead_letter(1, "a condition of 300 characters, at most 256"), dead_letter(2, "cut short, it is said now")],
    )
    assert (found.decoded, found.judged_anew, found.changes) == ({}, 1, True)
    reasons = [row["reject_reason"] for row in found.rewrite.in_order.to_pylist()]
    assert reasons == [None, "a condition of 300 characters, at most 256", "cut short"]


def test_one_that_is_still_too_early_keeps_its_reason() -> None:
    before, now = (f"trade_date 2026-03-19 outside 2020-01-01..2026-03-{last}" for last in (11, 12))
    found = revived([dead_letter(1, before)], [dead_letter(1, now)])
    assert (found.judged_anew, found.changes) == (0, False)
    assert found.rewrite.rows["reject_reason"].to_pylist() == [before]


def test_one_that_decodes_but_can_t_be_moved_waits_for_its_day_s_repair_and_no_more_for_its_day() -> None:
    too_early = "trade_date 2026-03-12 outside 2020-01-01..2026-03-11"
    found = revived([dead_letter(1, too_early)], [message(1)], covered=RangeSet())
    assert (found.decoded, found.judged_anew) == ({}, 1)
    (reason,) = found.rewrite.rows["reject_reason"].to_pylist()
    assert "repair the day first" in reason


def test_what_was_set_aside_is_tried_only_where_it_is_asked_for_and_then_alone() -> None:
    rows = raw_table([message(0), dead_letter(1), dead_letter(2), dead_letter(3), message(4)])
    aside = RangeSet.of([OffsetRange("topic-a", 0, 2, 4)])
    ledger = Ledger(covered=COVERED, messages=5, dead_letters=3, set_aside=aside)
    one = RangeSet.of([OffsetRange("topic-a", 0, 3, 4)])
    usual = RangeSet.of([OffsetRange("topic-a", 0, 1, 2)])
    assert tried_letters(rows, ledger, None)["kafka_offset"].to_pylist() == [1]
    assert tried_letters(rows, ledger, one)["kafka_offset"].to_pylist() == [3]
    assert tried_letters(rows, ledger, usual)["kafka_offset"].to_pylist() == []
