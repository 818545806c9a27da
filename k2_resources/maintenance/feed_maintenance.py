"""Maintains a feed's tables after a day's close: compacts files, tags the day's end, deletes orphan files.

Each step is safe beside ingestion, builds and readers, and does nothing where nothing is to be done; so it can be
carried out at any time and any number of times.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

from pyiceberg.catalog import Catalog

from k2_market.feeds.feed import Feed
from k2_market.feeds.trading_calendar import TradingCalendar
from k2_market.kinds.raw_kind import RawKind
from k2_market.plans.build_plan import GRACE
from k2_market.plans.compaction_plan import CompactionPlan
from k2_market.plans.day_tags import TagPlan
from k2_market.plans.orphan_files import SweepPlan
from k2_resources.iceberg.catalog import find_table
from k2_resources.iceberg.table_storage import TableStorage
from k2_resources.maintenance.day_tagging import tag_day, tags_to_set
from k2_resources.maintenance.orphan_cleaner import OrphanCleaner
from k2_resources.maintenance.raw_compaction import Compaction, RawCompactor, TableFiles
from k2_resources.maintenance.table_properties import complete_properties, properties_to_set

MOST_COMMITS = 10
"""Most compaction commits of one maintenance. Each expires a snapshot, of which some may be of commits that no run has
reported yet; a longer backlog is left to the next maintenance."""

ORPHANS_REST = timedelta(hours=24)
"""Time that a file rests without reference before it is removed."""


@dataclass(frozen=True)
class MaintenancePlan:
    """Describes a maintenance before it is done: properties, tags and files, and the first compaction commit."""

    properties: Mapping[str, Mapping[str, str]]
    compaction: CompactionPlan
    tags: Mapping[str, TagPlan]
    swept: Mapping[str, SweepPlan]


@dataclass
class MaintenanceResult:
    """Describes what a maintenance did.

    Attributes:
        before: The raw table's files before it.
        after: Those after it.
        properties: Each table's properties that it lacked, as a table of an earlier version, and that were set.
        compactions: The commits by which files were put together.
        tags: Each table's tags that were set and removed.
        swept: Each table's files that nothing referred to.
    """

    before: TableFiles
    after: TableFiles = field(default_factory=TableFiles)
    properties: dict[str, dict[str, str]] = field(default_factory=dict)
    compactions: list[Compaction] = field(default_factory=list)
    tags: dict[str, TagPlan] = field(default_factory=dict)
    swept: dict[str, SweepPlan] = field(default_factory=dict)


class FeedMaintenance:
    """Maintains a feed's tables of one kind.

    Args:
        catalog: The catalog.
        feed: The feed.
        kind: Whose tables.
        clock: The time; a day that is over by it, and its time of grace with it, has closed.
        storage_clock: The time by a storage's own clock.
    """

    def __init__(
        self,
        catalog: Catalog,
        feed: Feed,
        kind: RawKind,
        clock: Callable[[], datetime],
        storage_clock: Callable[[TableStorage], datetime] | None = None,
    ) -> None:
        self._catalog = catalog
        self._feed = feed
        self._kind = kind
        self._clock = clock
        self._calendar = TradingCalendar.of(feed)
        self._compactor = RawCompactor(catalog, feed.name, kind, self._closed)
        self._cleaner = OrphanCleaner(catalog, ORPHANS_REST, storage_clock)

    def look(self, day: date) -> MaintenancePlan:
        """Tell what a maintenance after a day's close would do; raises like ``carry_out``."""
        ended = self._ended(day)
        found = {name: find_table(self._catalog, self._feed.name, name) for name in self._tables}
        return MaintenancePlan(
            properties={name: properties_to_set(table) for name, table in found.items()},
            compaction=self._compactor.look(),
            tags={name: tags_to_set(table, ended) for name, table in found.items()},
            swept={
                name: sweep for name in self._tables if (sweep := self._cleaner.look(self._feed.name, name)) is not None
            },
        )

    def carry_out(self, day: date) -> MaintenanceResult:
        """Complete properties, put small files together, tag the end of the day, remove what nothing refers to.

        Args:
            day: The trading day that has closed. If a later one has, the tables are not as they were at its end, and
                it gets no tag.

        Raises:
            LedgerError: The raw table's ledger can't be trusted.
            RowsChanged: A file that was written does not hold the rows that were read; it was not committed.
            ForeignTable: A table is another home's; nothing was done to it.
            FileMissing: A table refers to a file that is not there; nothing of it was deleted.
            LocationShared: Another table lies under a table's location; nothing of it was deleted.
            CatalogUnavailable: The catalog does not answer.
            WarehouseUnavailable: A file can't be read or written.
            CommitOutcomeUnknown: The catalog gave no answer to a compaction.
        """
        done = MaintenanceResult(before=self._compactor.files())
        done.properties = {
            name: completed
            for name in self._tables
            if (completed := complete_properties(self._catalog, self._feed.name, name))
        }
        done.compactions = list(self._compactions())
        ended = self._ended(day)
        done.tags = {name: tag_day(self._catalog, self._feed.name, name, ended) for name in self._tables}
        for name in self._tables:
            sweep = self._cleaner.clean(self._feed.name, name)
            if sweep is not None:
                done.swept[name] = sweep
        done.after = self._compactor.files()
        return done

    def latest_closed(self) -> date:
        """Return the trading day that closed last."""
        return self._calendar.last_closed(self._clock() - GRACE)

    @property
    def _tables(self) -> list[str]:
        return [name for name in self._kind.tables if find_table(self._catalog, self._feed.name, name) is not None]

    def _compactions(self) -> Iterator[Compaction]:
        for _ in range(MOST_COMMITS):
            compaction = self._compactor.compact()
            if compaction is None:
                return
            yield compaction

    def _ended(self, day: date) -> date | None:
        return day if day == self.latest_closed() else None

    def _closed(self, days: frozenset[date]) -> frozenset[date]:
        return frozenset(day for day in days if self._has_closed(day))

    def _has_closed(self, day: date) -> bool:
        return self._calendar.closes_at(day) + GRACE <= self._clock()
