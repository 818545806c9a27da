"""Produces the data of ``k2 demo``, once: a topic that holds messages is left as it is."""

from datetime import datetime
from pathlib import Path

from rich.console import Console

from k2_market.feeds.feed import Feed, feed_named, load_feeds
from k2_market.feeds.trading_calendar import TradingCalendar
from k2_market.simulation.simulated_faults import Fault, PlantedFault
from k2_market.sources.format import SourceFormat
from k2_platform.producing import produce_files, produce_simulated_day
from k2_resources.kafka.topics import KafkaTopics
from k2_resources.settings import Settings

_ASX_TRADES = Path("asx-2014-03/trades")


def produce_simulated(
    settings: Settings, now: datetime, trades: int, seed: int, symbols: int, console: Console
) -> tuple[PlantedFault, ...]:
    """Produce the last closed trading day of the simulated market, with every kind of fault in it."""
    feed = feed_named(load_feeds(settings.feed_directories), "sim")
    if _has_messages(settings, feed):
        console.print(f"  {feed.topics.trades} holds messages already; nothing is produced again", style="dim")
        return ()
    calendar = TradingCalendar.of(feed)
    day = calendar.previous_trading_day(calendar.trading_day_of(now))
    produced = produce_simulated_day(settings, feed, day, trades, seed, symbols, list(Fault), now)
    console.print(f"  {produced.messages:,} simulated trades of {day} produced, faults planted")
    return produced.planted


def produce_asx(settings: Settings, data: Path, now: datetime, console: Console) -> bool:
    """Produce five days of ASX trades where the data is there; whether it is."""
    feed = feed_named(load_feeds(settings.feed_directories), "asx")
    directory = data / _ASX_TRADES
    if not directory.is_dir():
        console.print(f"  no ASX data in {directory} (K2_TEST_DATA): the simulated day alone", style="dim")
        return False
    if _has_messages(settings, feed):
        console.print(f"  {feed.topics.trades} holds messages already; nothing is produced again", style="dim")
        return True
    produced = produce_files(settings, feed, [str(directory)], SourceFormat.ASX_TICKDATA, now)
    console.print(f"  {produced.messages:,} ASX trades produced")
    return True


def _has_messages(settings: Settings, feed: Feed) -> bool:
    topic = KafkaTopics(settings.bootstrap_servers).state(feed.topics.trades)
    return topic is not None and bool(topic.readable)
