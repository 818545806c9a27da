"""Trades, from ``raw_trades`` through ``trades`` to bars."""

from k2_market.kinds.raw_kind import RawKind, RawRule
from k2_market.quality.raw_rules import dead_letters, duplicate_messages, sequence_gaps
from k2_market.schemas.message_kinds import TRADE_MESSAGES
from k2_market.schemas.tables import BAR_INTERVALS, BARS
from k2_market.schemas.tables import TRADES as TRADES_COLUMNS

CLEAN_TRADES = "trades"
"""The table of clean, sorted trading days, which bars are made of."""

TRADES = RawKind(
    name="trades",
    topic_of=lambda topics: topics.trades,
    messages=TRADE_MESSAGES,
    raw_table="raw_trades",
    derived={CLEAN_TRADES: TRADES_COLUMNS, **{interval.table: BARS for interval in BAR_INTERVALS}},
    rules=(
        RawRule("dead_letters", "Every message of the day could be decoded.", lambda _, day: dead_letters(day)),
        RawRule(
            "duplicate_messages",
            "No trade was sent more than once.",
            lambda feed, day: duplicate_messages(day, scope=feed.ids.unique_within),
        ),
        RawRule(
            "sequence_gaps",
            "No sequence number is missing within the day.",
            lambda feed, day: sequence_gaps(day, feed.sequence.scope),
        ),
    ),
    # The first kind that there was: its jobs and pools bear the feed's name alone, in homes that are there.
    family_suffix="",
)
