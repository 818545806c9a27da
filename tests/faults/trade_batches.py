"""Simulated trades as messages that are ready to be sent, for a feed that is simulated."""

from collections.abc import Iterator
from datetime import date

from k2_market.feeds.feed import Feed
from k2_market.feeds.trading_calendar import TradingCalendar
from k2_market.messages.outgoing import OutgoingMessages, trade_messages
from k2_market.simulation.market_simulator import simulate_day

DAY = date(2026, 11, 20)


def simulated_trades(
    feed: Feed, schema_id: int, trades: int, *, seed: int = 1, symbols: int = 10, day: date = DAY
) -> OutgoingMessages:
    """A simulated day's messages.

    Args:
        feed: A feed that is simulated.
        schema_id: The registry's id of ``TRADE``.
        trades: How many messages.
        seed: The same seed gives the same messages; another one gives the same trade ids, so one a day is enough.
        symbols: How many instruments trade.
        day: A trading day that is over.
    """
    session = TradingCalendar.of(feed).session(day)
    return trade_messages(simulate_day(feed, session, day, trades, seed, symbols), feed, schema_id)


def split(messages: OutgoingMessages, *sizes: int) -> Iterator[OutgoingMessages]:
    """Parts of so many messages each, and what is left after them if anything is."""
    start = 0
    for size in (*sizes, len(messages) - sum(sizes)):
        if size:
            part = slice(start, start + size)
            yield OutgoingMessages(messages.keys[part], messages.values[part], messages.timestamps_ms[part])
        start += size
