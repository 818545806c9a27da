"""Sends files or a simulated day to a feed's topic, from reading to the last acknowledgement."""

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from k2_market.feeds.feed import Feed
from k2_market.feeds.trading_calendar import TradingCalendar
from k2_market.kinds.trades import TRADES
from k2_market.messages.outgoing import trade_messages
from k2_market.simulation.market_simulator import SimulationError, simulate_day
from k2_market.simulation.simulated_faults import Fault, PlantedFault, damaged, plant
from k2_market.sources import asx_tickdata as source_asx_tickdata
from k2_market.sources import csv as source_csv
from k2_market.sources import hitbtc as source_hitbtc
from k2_market.sources.format import SourceFormat
from k2_market.sources.limits import LONGEST_AHEAD
from k2_market.sources.trade import SourceRows
from k2_platform.loading import Loading
from k2_resources.files.source_files import find_source_files, read_source_file
from k2_resources.kafka.schema_registry import SchemaRegistry
from k2_resources.kafka.topic_creation import ensure_topic
from k2_resources.kafka.trade_producer import Sent, TradeProducer
from k2_resources.logs.structured_logging import correlation, get_logger
from k2_resources.settings import Settings

_ROWS_AT_ONCE = 20_000
_LOGGER = get_logger("producer")


@dataclass(frozen=True)
class Produced:
    """Describes what was sent, and where it went.

    Attributes:
        feed: The feed's name.
        topic: The topic.
        partitions: How many the topic has.
        messages: How many were sent, all confirmed.
        seconds: Time from the first message to the last confirmation.
        correlation_id: The id in the messages' headers and in the log.
        warnings: Where the topic is not what the feed's file asks for.
        files: What was read, with its rows; none for a simulated day.
        planted: The faults of a simulated day.
    """

    feed: str
    topic: str
    partitions: int
    messages: int
    seconds: float
    correlation_id: str
    warnings: tuple[str, ...]
    files: tuple[tuple[str, int], ...] = ()
    planted: tuple[PlantedFault, ...] = ()

    @property
    def messages_per_second(self) -> int:
        """The rate of sending."""
        return round(self.messages / max(self.seconds, 1e-9))

    def as_json(self) -> dict[str, Any]:
        """For programs: plain values under the attributes' names."""
        planted = [{**asdict(each), "count": each.count} for each in self.planted]
        return {**asdict(self), "messages_per_second": self.messages_per_second, "planted": planted}


def produce_files(
    settings: Settings,
    feed: Feed,
    names: Sequence[str],
    source_format: SourceFormat,
    now: datetime,
    again: bool = False,
) -> Produced:
    """Send the trades of some files, merged in time order; none if a row of any file must not be sent.

    The load is recorded (``k2 loads``).

    Args:
        settings: Where broker and registry are.
        feed: Whose trades they are.
        names: Files, directories, patterns.
        source_format: The files' shape.
        now: The present.
        again: Load files whose content, or rows, were loaded before.

    Raises:
        SourceFileError: A file can't be read, or a row of it; nothing was sent.
        LoadedBefore: A file was loaded before; nothing was sent.
        LoadError: The load can't be recorded.
        KafkaUnavailable: No broker answered; nothing was sent.
        RegistryUnavailable: The registry did not answer; nothing was sent.
        ProduceError: Some messages were not confirmed.
    """
    correlation_id = uuid4().hex
    with correlation(correlation_id):
        paths = find_source_files(names)
        files = [read_file(path, source_format, feed, now) for path in paths]
        read = tuple((each.file, each.rows.height) for each in files)
        _LOGGER.info("files read", feed=feed.name, files=len(files), rows=sum(rows for _, rows in read))
        loaded = Loading(settings, feed).send_files(files, correlation_id, now, again)
        return _produced(feed, loaded.partitions, loaded.remarks, loaded.sent, correlation_id, files=read)


def produce_simulated_day(
    settings: Settings,
    feed: Feed,
    trade_date: date,
    trades: int,
    seed: int,
    symbols: int,
    faults: Collection[Fault],
    now: datetime,
) -> Produced:
    """Send a simulated day, with faults planted into it.

    Args:
        settings: Where broker and registry are.
        feed: A feed that is simulated.
        trade_date: A trading day that is over.
        trades: Messages before faults.
        seed: The same seed gives the same day and the same faults.
        symbols: How many instruments trade.
        faults: What goes wrong.
        now: The present.

    Raises:
        SimulationError: The feed is a real one, or the day is before its first or not over; nothing was sent.
        CalendarError: The day is no trading day; nothing was sent.
        KafkaUnavailable: No broker answered; nothing was sent.
        RegistryUnavailable: The registry did not answer; nothing was sent.
        ProduceError: Some messages were not confirmed.
    """
    correlation_id = uuid4().hex
    with correlation(correlation_id):
        session = TradingCalendar.of(feed).session(trade_date)
        if trade_date < feed.start_date:
            raise SimulationError(f"{trade_date} is before feed {feed.name}'s start_date, {feed.start_date}")
        if session.close > now + LONGEST_AHEAD:
            raise SimulationError(
                f"the session of {trade_date} ends at {session.close:%Y-%m-%dT%H:%M:%SZ}, more than an hour ahead, and "
                "the broker takes no trades of the future; simulate a day that is over"
            )
        day = plant(simulate_day(feed, session, trade_date, trades, seed, symbols), faults, seed)
        topic = ensure_topic(settings.bootstrap_servers, feed.topics.trades, feed.topics)
        producer = _producer(settings, feed)
        batches = (
            damaged(
                trade_messages(day.trades.slice(start, _ROWS_AT_ONCE), feed, producer.schema_id),
                day.damage.slice(start, _ROWS_AT_ONCE).to_list(),
            )
            for start in range(0, day.trades.height, _ROWS_AT_ONCE)
        )
        sent = producer.send(batches, day.trades.height, correlation_id)
        return _produced(feed, topic.partitions, topic.differences, sent, correlation_id, planted=day.planted)


def read_file(path: Path, source_format: SourceFormat, feed: Feed, now: datetime) -> SourceRows:
    """Read a file of trades of some shape.

    Raises:
        SourceFileError: It can't be read, or a row of it.
    """
    content, file = read_source_file(path), str(path)
    match source_format:
        case SourceFormat.CSV:
            return source_csv.read_trades(content, file, feed, now)
        case SourceFormat.HITBTC:
            return source_hitbtc.read_trades(content, file, feed, now)
        case SourceFormat.ASX_TICKDATA:
            companies_path = path.parent / source_asx_tickdata.COMPANY_INFO
            companies = source_asx_tickdata.read_companies(read_source_file(companies_path), str(companies_path))
            return source_asx_tickdata.read_trades(content, file, feed, now, companies)


def _producer(settings: Settings, feed: Feed) -> TradeProducer:
    registry = SchemaRegistry(settings.schema_registry_url)
    return TradeProducer(settings.bootstrap_servers, registry, feed, TRADES)


def _produced(
    feed: Feed, partitions: int, warnings: tuple[str, ...], sent: Sent, correlation_id: str, **what: Any
) -> Produced:
    for warning in warnings:
        _LOGGER.warning(warning, feed=feed.name, topic=sent.topic)
    return Produced(
        feed.name, sent.topic, partitions, sent.messages, sent.seconds, correlation_id, warnings=warnings, **what
    )
