"""Trades, from ``raw_trades`` through ``trades`` to bars."""

from __future__ import annotations

from typing import TYPE_CHECKING

from k2_market.kinds.raw_kind import RawKind, RawRule
from k2_market.schemas.message_kinds import TRADE_MESSAGES
from k2_market.schemas.tables import BAR_INTERVALS, BARS
from k2_market.schemas.tables import TRADES as TRADES_COLUMNS

if TYPE_CHECKING:
    from k2_market.feeds.feed import Feed
    from k2_market.frames.day_batches import DayBatches
    from k2_market.quality.finding import Finding


CLEAN_TRADES = "trades"
"""The table of clean, sorted trading days, which bars are made of."""


# Rules are imported where they are applied: commands that only read the tables must not wait for them.
def _dead_letters(_: Feed, day: DayBatches) -> Finding:
    from k2_market.quality.raw_rules import dead_letters

    return dead_letters(day)


def _duplicate_messages(feed: Feed, day: DayBatches) -> Finding:
    from k2_market.quality.raw_rules import duplicate_messages

    return duplicate_messages(day, scope=feed.ids.unique_within)


def _sequence_gaps(feed: Feed, day: DayBatches) -> Finding:
    from k2_market.quality.raw_rules import sequence_gaps

    return sequence_gaps(day, feed.sequence.scope)


TRADES = RawKind(
    name="trades",
    topic_of=lambda topics: topics.trades,
    messages=TRADE_MESSAGES,
    raw_table="raw_trades",
    derived={CLEAN_TRADES: TRADES_COLUMNS, **{interval.table: BARS for interval in BAR_INTERVALS}},
    rules=(
        RawRule("dead_letters", "Every message of the day could be decoded.", _dead_letters),
        RawRule("duplicate_messages", "No trade was sent more than once.", _duplicate_messages),
        RawRule("sequence_gaps", "No sequence number is missing within the day.", _sequence_gaps),
    ),
    # The first kind that there was: its jobs and pools bear the feed's name alone, in homes that are there.
    family_suffix="",
)
