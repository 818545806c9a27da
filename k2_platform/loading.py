"""Records loads: compares files with earlier loads, takes a load back, amends a trade."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import uuid4

import polars as pl

from k2_market.feeds.feed import Feed
from k2_market.kinds.trades import TRADES
from k2_market.ledger.topic_state import TopicState
from k2_market.loads.amending import (
    NamedTrade,
    StandingTrade,
    cancel_of,
    cancelled_again,
    cancels_of_load,
    correction_of,
    standing_trade,
)
from k2_market.loads.loads import (
    Load,
    LoadedBefore,
    LoadedFile,
    LoadError,
    LoadKind,
    LoadState,
    judge,
    load_named,
    times_unloaded,
)
from k2_market.loads.row_hashes import days_of_rows
from k2_market.sources.ids import refuse_conflicting_ids
from k2_market.sources.trade import SourceRows, in_time_order, with_ids_of_generation
from k2_resources.iceberg.catalog import open_catalog
from k2_resources.kafka.load_records import LoadRecords
from k2_resources.kafka.schema_registry import SchemaRegistry
from k2_resources.kafka.topic_creation import ensure_topic
from k2_resources.kafka.topics import KafkaTopics
from k2_resources.kafka.trade_producer import Sent, TradeProducer
from k2_resources.logs.structured_logging import correlation, get_logger
from k2_resources.raw.sent_trades import SentTrades
from k2_resources.raw.table import RawTable
from k2_resources.raw.view import RawView
from k2_resources.settings import Settings

_LOGGER = get_logger("loads")
_SHOWN = 3


@dataclass(frozen=True)
class SentLoad:
    """Says what became of a load that was sent.

    Attributes:
        sent: What was confirmed.
        partitions: How many partitions the topic has.
        remarks: What is worth saying: of the topic, and of rows that were loaded before.
    """

    sent: Sent
    partitions: int
    remarks: tuple[str, ...]


class Loading:
    """Sends to a feed's topic what files or people say, with a record of each sending."""

    def __init__(self, settings: Settings, feed: Feed) -> None:
        self._settings = settings
        self._feed = feed
        self._records = LoadRecords(settings.bootstrap_servers, feed)

    def loads(self) -> tuple[Load, ...]:
        """Read all loads, the earliest first."""
        return self._records.read()

    def send_files(self, files: Sequence[SourceRows], load_id: str, now: datetime, again: bool) -> "SentLoad":
        """Send the trades of some files, unless they were loaded before.

        Args:
            files: What was read.
            load_id: The correlation id of the messages.
            now: The present.
            again: Load them all the same.

        Raises:
            LoadedBefore: They were; nothing was sent.
            SourceFileError: An id stands for differing trades; nothing was sent.
            LoadError: The load can't be recorded.
        """
        before = self.loads()
        files = [with_ids_of_generation(each, times_unloaded(each.content_hash, before)) for each in files]
        trades = in_time_order(files)
        refuse_conflicting_ids(trades, self._feed)
        loaded = tuple(
            LoadedFile(each.file, each.content_hash, each.rows.height, days_of_rows(each.rows)) for each in files
        )
        judgement = judge(loaded, before)
        if judgement.refusals and not again:
            raise LoadedBefore(_refusal(judgement.refusals))
        self._refuse_cancelled(trades, before)
        load = _begun(load_id, LoadKind.LOAD, trades, now)
        sent = self._send(replace(load, again=again, files=loaded), trades)
        return replace(sent, remarks=(*sent.remarks, *judgement.remarks, *judgement.refusals))

    def unload(self, load_id: str, now: datetime) -> Load:
        """Take a load back: send cancels of the trades that it alone brought.

        Raises:
            LoadError: There is no such load, it was taken back already, is not all ingested, or has amendments of
                trades of others.
        """
        before = self.loads()
        load = load_named(load_id, before)
        if load.kind is not LoadKind.LOAD:
            raise LoadError(f"{load.load_id[:8]} is an {load.kind}, which can't be taken back; expected a load")
        if load.state is LoadState.UNLOADED:
            raise LoadError(f"load {load.load_id[:8]} was taken back already")
        sent = SentTrades(self._raw())
        own = sent.of_load(load)
        contents = {file.content_hash for file in load.files}
        without = {load.load_id} | {
            each.load_id
            for each in before
            if each.state is LoadState.UNLOADED
            or (each.state is LoadState.BEGUN and contents & {file.content_hash for file in each.files})
        }
        cancels = cancels_of_load(own, load, sent.reported_by_others(load, without), self._feed, now)
        unload = replace(_begun(uuid4().hex, LoadKind.UNLOAD, cancels, now), about=load.load_id)
        unload = replace(unload, files=_as_file(cancels, f"unload of {load.load_id[:8]}"))
        if cancels.height:
            self._send(unload, cancels)
        self._records.write(replace(load, state=LoadState.UNLOADED))
        return unload

    def cancel(self, named: NamedTrade, now: datetime) -> StandingTrade:
        """Send the cancel of a trade."""
        trade = self._standing(named)
        self._amend(named, cancel_of(trade, now), "CANCEL", now)
        return trade

    def correct(
        self, named: NamedTrade, price: Decimal | None, quantity: Decimal | None, now: datetime
    ) -> tuple[StandingTrade, pl.DataFrame]:
        """Send the correction of a trade; gives the trade as it stood, and what was sent."""
        trade = self._standing(named)
        correction = correction_of(trade, price, quantity, self._feed, now)
        self._amend(named, correction, "CORRECT", now)
        return trade, correction

    def _amend(self, named: NamedTrade, amendment: pl.DataFrame, action: str, now: datetime) -> None:
        load = replace(_begun(uuid4().hex, LoadKind.AMENDMENT, amendment, now), about=f"{action} {named}")
        self._send(load, amendment)

    def _standing(self, named: NamedTrade) -> StandingTrade:
        view = self._raw()
        return standing_trade(SentTrades(view).about(named), named, self._feed, tuple(view.ledger.topic_names))

    def _refuse_cancelled(self, trades: pl.DataFrame, before: Sequence[Load]) -> None:
        days = set(trades["trade_date"].unique().to_list())
        unloads = [each for each in before if each.kind is LoadKind.UNLOAD and each.days & days]
        if not unloads:
            return
        sent = SentTrades(self._raw())
        cancelled = {key for each in unloads for key in sent.cancelled_by(each)}
        found = cancelled_again(trades, cancelled)
        if found:
            shown = ", ".join(f"{trade_id!r} of {symbol}" for symbol, trade_id in found[:_SHOWN])
            raise LoadedBefore(
                f"{len(found)} of these trades have ids that `k2 unload` cancelled, as {shown}. A cancel is final, so "
                "they would not count, and nothing was sent. Without a column trade_id they get ids of their own"
            )

    def _send(self, load: Load, trades: pl.DataFrame) -> SentLoad:
        topic = ensure_topic(self._settings.bootstrap_servers, self._feed.topics.trades, self._feed.topics)
        registry = SchemaRegistry(self._settings.schema_registry_url)
        producer = TradeProducer(self._settings.bootstrap_servers, registry, self._feed, TRADES)
        topics = KafkaTopics(self._settings.bootstrap_servers)
        state_before = topics.state(self._feed.topics.trades)
        self._records.write(load)
        with correlation(load.load_id):
            sent = producer.send_trades(trades, load.load_id)
        state_after = topics.state(self._feed.topics.trades)
        topic_id = "" if state_after is None else state_after.topic_id
        offsets = _offsets(state_before, state_after)
        self._records.write(replace(load, state=LoadState.COMPLETE, topic_id=topic_id, offsets=offsets))
        _LOGGER.info("load recorded", feed=self._feed.name, load=load.load_id, kind=load.kind.value, rows=load.rows)
        return SentLoad(sent, topic.partitions, topic.differences)

    def _raw(self) -> RawView:
        catalog = open_catalog(self._settings.iceberg_catalog_uri, self._settings.iceberg_warehouse)
        return RawTable(catalog, self._feed.name, TRADES).view()


def _begun(load_id: str, kind: LoadKind, trades: pl.DataFrame, now: datetime) -> Load:
    times = trades["exchange_timestamp_us"]
    first, last = (None, None) if times.is_empty() else (_instant(times.min()), _instant(times.max()))
    return Load(load_id, kind, LoadState.BEGUN, now, trades.height, first, last)


def _instant(microseconds: object) -> datetime:
    assert isinstance(microseconds, int)
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)


def _as_file(trades: pl.DataFrame, name: str) -> tuple[LoadedFile, ...]:
    return (LoadedFile(name, "", trades.height, days_of_rows(trades)),)


def _offsets(before: TopicState | None, after: TopicState | None) -> dict[int, tuple[int, int]]:
    if after is None:
        return {}
    starts = {} if before is None else {each.partition: each.high for each in before.partitions}
    spans = {each.partition: (starts.get(each.partition, 0), each.high) for each in after.partitions}
    return {partition: (start, end) for partition, (start, end) in spans.items() if end > start}


def _refusal(reasons: Sequence[str]) -> str:
    more = f"; and {len(reasons) - _SHOWN} more files" if len(reasons) > _SHOWN else ""
    return (
        f"{'; '.join(reasons[:_SHOWN])}{more}. Nothing was sent; `--again` loads it all the same, `k2 loads` lists "
        "what was loaded, `k2 unload` takes a load back"
    )
