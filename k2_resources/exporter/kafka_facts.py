"""Collects metrics of topics: watermarks, and how far the ledger is behind them."""

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime

from confluent_kafka.admin import AdminClient
from pyiceberg.catalog import Catalog

from k2_market.alerting.silence import open_time_since
from k2_market.errors import CalendarError, LedgerError
from k2_market.feeds.feed import Feed
from k2_market.kinds.raw_kind import RawKind
from k2_market.kinds.shipped import kinds_of
from k2_market.ledger.ledger import Ledger
from k2_market.ledger.offset_ranges import RangeSet
from k2_market.ledger.topic_state import TopicState
from k2_resources.kafka.answers import answered
from k2_resources.kafka.topics import KafkaTopics
from k2_resources.logs.structured_logging import kafka_client_logger
from k2_resources.metrics.figures import Figures
from k2_resources.metrics.registry import Source
from k2_resources.raw.table import RawTable

_TIMEOUT_SECONDS = 5.0


class KafkaFacts:
    """Reads the topics of some feeds and holds them against the ledgers of their raw tables."""

    source = Source.KAFKA

    def __init__(
        self, bootstrap_servers: str, catalog: Callable[[], Catalog], feeds: Iterable[Feed], kinds: Sequence[RawKind]
    ) -> None:
        self._topics = KafkaTopics(bootstrap_servers)
        self._admin = AdminClient(
            {"bootstrap.servers": bootstrap_servers, "socket.timeout.ms": int(_TIMEOUT_SECONDS * 1000)},
            logger=kafka_client_logger("exporter"),
        )
        self._catalog = catalog
        self._feeds = tuple(feeds)
        self._kinds = kinds

    def report(self, figures: Figures) -> None:
        """Fill in the figures.

        Raises:
            KafkaUnavailable: No broker answered.
            CatalogUnavailable: The ledgers can't be read.
        """
        for feed in self._feeds:
            for kind in kinds_of(feed, self._kinds):
                state = self._topics.state(kind.topic(feed))
                if state is None:
                    continue
                of_table = figures.with_labels(
                    exchange=feed.exchange, asset_class=feed.asset_class, feed=feed.name, table=kind.raw_table
                )
                _report_watermarks(of_table, state)
                found = self._topics.newest_record(state)
                # One that lies ahead counts as now, since lag is reckoned from it.
                newest = None if found is None else min(found.timestamp(), time.time())
                if newest is not None:
                    of_table.gauge("k2_topic_newest_record_timestamp_seconds").set(newest)
                    _report_silence(of_table, feed, newest)
                ledger = self._ledger(feed.name, kind)
                if ledger is not None:
                    self._report_lag(of_table, state, ledger, newest)
        cluster = answered(self._admin.describe_cluster(request_timeout=_TIMEOUT_SECONDS), _TIMEOUT_SECONDS)
        figures.gauge("k2_kafka_brokers").set(len(cluster.nodes))

    def _report_lag(self, figures: Figures, state: TopicState, ledger: Ledger, newest: float | None) -> None:
        pending = state.readable - ledger.settled
        for each in state.partitions:
            waiting = len(RangeSet({key: spans for key, spans in pending.spans.items() if key[1] == each.partition}))
            figures.gauge("k2_ingest_lag_messages").set(waiting, partition=str(each.partition))
        figures.gauge("k2_ingest_removed_messages").set(len(state.removed - ledger.settled))
        if not pending:
            figures.gauge("k2_ingest_lag_seconds").set(0)
            return
        oldest = min(self._topics.first_timestamps(state, pending).values(), default=None)
        if oldest is not None and newest is not None:
            figures.gauge("k2_ingest_lag_seconds").set(max(0.0, newest - oldest.timestamp()))

    def _ledger(self, feed: str, kind: RawKind) -> Ledger | None:
        try:
            return RawTable(self._catalog(), feed, kind).ledger()
        except LedgerError:
            # The facts about tables report it as k2_ledger_trusted 0; what waits can't be told without it.
            return None


def _report_silence(figures: Figures, feed: Feed, newest: float) -> None:
    with suppress(CalendarError):  # beyond its calendar's reach a feed's silence can't be told
        silence = open_time_since(feed, datetime.fromtimestamp(newest, UTC), datetime.now(UTC))
        figures.gauge("k2_feed_silence_seconds").set(silence.total_seconds())


def _report_watermarks(figures: Figures, state: TopicState) -> None:
    figures.gauge("k2_topic_partitions").set(len(state.partitions))
    behind_open_transactions = sum(each.high - each.stable_end for each in state.partitions)
    figures.gauge("k2_topic_open_transaction_messages").set(behind_open_transactions)
    for each in state.partitions:
        partition = str(each.partition)
        figures.gauge("k2_topic_low_watermark").set(each.low, partition=partition)
        figures.gauge("k2_topic_stable_end").set(each.stable_end, partition=partition)
        figures.gauge("k2_topic_high_watermark").set(each.high, partition=partition)
