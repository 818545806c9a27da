"""Repairs a feed's raw table, and has the days that changed checked and built again."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cached_property
from itertools import chain

import pyarrow as pa
from pyiceberg.catalog import Catalog

from k2_assets.records.unreported_commits import report_unreported
from k2_market.feeds.feed import Feed
from k2_market.feeds.trading_calendar import TradingCalendar
from k2_market.kinds.raw_kind import RawKind
from k2_market.ledger.offset_ranges import OffsetRange, RangeSet
from k2_market.ledger.row_offsets import offsets_of
from k2_market.messages.block_decoder import DayWindow
from k2_market.plans.unhalting import Unhalting
from k2_market.repair.day_difference import DayDifference
from k2_market.repair.dead_letter_repair import DeadLetterPlan, dead_letters_of
from k2_platform.catch_up import local_instance
from k2_platform.rechecked_days import recheck
from k2_resources.iceberg.catalog import open_catalog
from k2_resources.kafka.schema_registry import SchemaRegistry
from k2_resources.kafka.topic_reader import TopicReader
from k2_resources.kafka.topics import KafkaTopics
from k2_resources.logs.structured_logging import get_logger
from k2_resources.raw.delivery import Delivery
from k2_resources.raw.ledger_against_log import LedgerAgainstLog
from k2_resources.raw.repair import DayRepair, DeadLetterRepair, ReadAgain, days_with_dead_letters, read_again
from k2_resources.raw.reread_messages import Decoder, RereadMessages
from k2_resources.raw.rewrite import RawRewriter, repair_run_id
from k2_resources.raw.roll_forward import RollForwardPlan, roll_forward, roll_forward_plan
from k2_resources.raw.table import RawTable
from k2_resources.raw.unhalting import Unhalt
from k2_resources.raw.view import RawView
from k2_resources.settings import Settings
from k2_sensors.stale_day_sensor import blocked_days

_log = get_logger("repair")


@dataclass(frozen=True)
class Repairs:
    """Repairs a feed's raw table of a kind; a dry one says what there is to do and changes nothing."""

    settings: Settings
    feed: Feed
    kind: RawKind
    dry_run: bool

    def day(self, day: date) -> DayDifference:
        """Repair a day from Kafka.

        Returns:
            How the day differed from what Kafka has.
        """
        topic = self.kind.topic(self.feed)
        reader = TopicReader(self.settings.bootstrap_servers, topic, f"k2-{self.feed.name}-repair")
        repair = DayRepair(
            day, topic, KafkaTopics(self.settings.bootstrap_servers), RereadMessages(reader, self._decoder)
        )
        if self.dry_run:
            return repair.look(self._rewriter.view())
        self._rewriter.commit(repair.decide)
        assert repair.found is not None
        self._report([day, *repair.found.rewrite.days] if repair.found.changes else [])
        return repair.found

    def dead_letters(self, only: date | None) -> Iterator[tuple[date, DeadLetterPlan]]:
        """Repair the dead letters filed under a day, or under any.

        Those that were set aside come last and one by one: should one of them end this process, too, the others are
        done, and the log's last line names it.

        Returns:
            What became of them, day by day.
        """
        view = self._rewriter.view()
        written: set[date] = set()
        days = days_with_dead_letters(view) if only is None else [only]
        for repair in chain((DeadLetterRepair(day, self._decoder) for day in days), self._set_aside(days, view)):
            if self.dry_run:
                yield repair.day, repair.look(view)
            else:
                self._rewriter.commit(repair.decide)
                assert repair.found is not None
                written |= repair.found.rewrite.days if repair.found.changes else set()
                yield repair.day, repair.found
        if not self.dry_run:
            self._report(written)

    def _set_aside(self, days: Iterable[date], view: RawView) -> Iterator[DeadLetterRepair]:
        """Make a repair for each dead letter of some days that was set aside."""
        aside = view.ledger.set_aside
        for day in days if aside else ():
            for each in offsets_of(dead_letters_of(view.read_day(day))) & aside:
                for offset in range(each.start, each.end):
                    one = OffsetRange(each.topic_id, each.partition, offset, offset + 1)
                    _log.warning("decoding a message that was set aside", offset=str(one))
                    yield DeadLetterRepair(day, self._decoder, RangeSet.of([one]))

    def unread(self) -> ReadAgain:
        """Read the offsets again that were set aside unread, and commit what comes of them."""
        table = RawTable(self._catalog, self.feed.name, self.kind)
        reader = TopicReader(self.settings.bootstrap_servers, self.kind.topic(self.feed), f"k2-{self.feed.name}-repair")
        committed: set[date] = set()

        def take(rows: pa.Table, covered: RangeSet) -> None:
            names = {topic_id: self.kind.topic(self.feed) for topic_id, _ in covered.spans}
            committed.update(table.commit(Delivery(rows, covered, names, repair_run_id())).by_day)

        found = read_again(reader, self._decoder, table.ledger().unread, take if not self.dry_run else lambda *_: None)
        if committed:
            self._report(committed)
        return found

    def roll_forward(self) -> RollForwardPlan | None:
        """Roll the table forward after it was rolled back; None where it was not."""
        if self.dry_run:
            table = self._rewriter.view().table
            assert table is not None
            return roll_forward_plan(table)
        forward = roll_forward(self._rewriter, self._catalog)
        self._report([] if forward is None else forward.days)
        return forward

    def unhalt(self) -> Unhalting:
        """End the halt of the feed's topic, where its log has what was ingested.

        Returns:
            What the ledger records, beside what the log has.
        """
        topic = self.kind.topic(self.feed)
        reader = TopicReader(self.settings.bootstrap_servers, topic, f"k2-{self.feed.name}-repair")
        registry = SchemaRegistry(self.settings.schema_registry_url)
        log = LedgerAgainstLog(reader, registry, TradingCalendar.of(self.feed), self.kind.messages)
        unhalt = Unhalt(topic, KafkaTopics(self.settings.bootstrap_servers), log)
        return unhalt.look(self._rewriter.view()) if self.dry_run else unhalt.commit(self._rewriter)

    @cached_property
    def _catalog(self) -> Catalog:
        return open_catalog(self.settings.iceberg_catalog_uri, self.settings.iceberg_warehouse)

    @property
    def _rewriter(self) -> RawRewriter:
        return RawRewriter(self._catalog, self.feed.name, self.kind)

    @property
    def _decoder(self) -> Decoder:
        registry = SchemaRegistry(self.settings.schema_registry_url)
        return Decoder(registry, self.kind.messages, DayWindow.of(self.feed, datetime.now(UTC)))

    def _report(self, written: Iterable[date]) -> None:
        """Tell Dagster of days that were written, and check them again, and those that a check has blocked.

        The Kafka sensor tells of the days too, should this not be reached; it checks nothing.
        """
        if not (self.settings.dagster_home / "dagster.yaml").exists():
            return
        view = self._rewriter.view()
        with local_instance(self.settings) as instance:
            report_unreported(self.feed, self.kind, view, instance)
            blocked = blocked_days(instance, self.feed, self.kind)
            recheck(self.feed, self.kind, view, instance, sorted({*written, *blocked}))
