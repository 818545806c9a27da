"""Collects metrics of Iceberg tables from their metadata alone."""

from collections.abc import Callable, Iterable, Sequence

from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from k2_market.errors import LedgerError
from k2_market.feeds.feed import Feed
from k2_market.kinds.raw_kind import RawKind
from k2_resources.iceberg.catalog import find_table
from k2_resources.metrics.figures import Figures
from k2_resources.metrics.registry import Source
from k2_resources.raw.view import ledger_of


class TableFacts:
    """Reads the metadata of all tables of some feeds."""

    source = Source.TABLES

    def __init__(self, catalog: Callable[[], Catalog], feeds: Iterable[Feed], kinds: Sequence[RawKind]) -> None:
        self._catalog = catalog
        self._feeds = tuple(feeds)
        self._kinds = kinds

    def report(self, figures: Figures) -> None:
        """Fill in the figures; a table that nothing was written to yet has none.

        Raises:
            CatalogUnavailable: The catalog can't be reached.
        """
        catalog = self._catalog()
        tables = [(name, name == kind.raw_table) for kind in self._kinds for name in kind.tables]
        for feed in self._feeds:
            of_feed = figures.with_labels(exchange=feed.exchange, asset_class=feed.asset_class, feed=feed.name)
            for name, has_ledger in tables:
                table = find_table(catalog, feed.name, name)
                if table is not None:
                    of_table = of_feed.with_labels(table=name)
                    rows = _report_snapshot(of_table, table)
                    if has_ledger:
                        _report_ledger(of_table, table, rows)


def _report_snapshot(figures: Figures, table: Table) -> int:
    """Report on the current snapshot; the rows it has."""
    figures.gauge("k2_table_snapshots").set(len(table.metadata.snapshots))
    snapshot = table.current_snapshot()
    totals = {} if snapshot is None or snapshot.summary is None else snapshot.summary.additional_properties
    rows = int(totals.get("total-records", 0))
    figures.gauge("k2_table_rows").set(rows)
    figures.gauge("k2_table_data_files").set(int(totals.get("total-data-files", 0)))
    figures.gauge("k2_table_bytes").set(int(totals.get("total-files-size", 0)))
    if snapshot is not None:
        figures.gauge("k2_table_last_commit_timestamp_seconds").set(snapshot.timestamp_ms / 1000)
    return rows


def _report_ledger(figures: Figures, table: Table, rows: int) -> None:
    try:
        ledger = ledger_of(table)
    except LedgerError:
        figures.gauge("k2_ledger_trusted").set(0)
        return
    figures.gauge("k2_ledger_trusted").set(1)
    figures.gauge("k2_ledger_unaccounted_rows").set(rows - ledger.messages)
    figures.gauge("k2_ledger_set_aside_offsets").set(len(ledger.set_aside))
    figures.gauge("k2_ledger_ranges").set(sum(1 for _ in ledger.covered))
    figures.counter("k2_ingested_messages_total").add(ledger.messages)
    figures.counter("k2_ledger_holes_total").add(ledger.holes)
    figures.counter("k2_dead_letters_total").add(ledger.dead_letters)
    figures.counter("k2_late_rows_total").add(ledger.late_rows)
    figures.counter("k2_lost_messages_total").add(len(ledger.lost))
