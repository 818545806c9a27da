"""Publishes trading days of a derived table: replaces a day as a whole, without touching other days' files."""

import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date

import pyarrow as pa
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.table import Table
from tenacity import (
    Retrying,
    retry_if_exception_type,
    stop_after_attempt,
    stop_after_delay,
    wait_exponential,
    wait_random,
)

from k2_market.kinds.shipped import KINDS, tables_of
from k2_market.plans.build_rules import RULES_PROPERTY, BuildRules, rules_from_json, rules_to_json
from k2_market.plans.day_builds import BUILDS_PROPERTY, Builds, DayBuild, builds_from_json, builds_to_json, supersedes
from k2_resources.iceberg.catalog import ensure_table, find_table
from k2_resources.iceberg.day_reader import DayReader
from k2_resources.iceberg.scan_files import DayFiles, files_by_day, of_days, paths_by_day
from k2_resources.iceberg.snapshot_expiry import expire_oldest
from k2_resources.iceberg.snapshot_summary import RUN_ID
from k2_resources.iceberg.staged_day import StagedDay
from k2_resources.iceberg.table_errors import CatalogUnavailable, translate_errors
from k2_resources.iceberg.table_transaction import TableTransaction
from k2_resources.runtime import crash_points

_ATTEMPTS = 10
_MOST_SECONDS = 60.0
"""Time for retries of a catalog that does not answer, or lets others commit first."""


@dataclass(frozen=True)
class PublishResult:
    """Describes what publishing a day did.

    Attributes:
        snapshot_id: The table's snapshot after it.
        changed: Rows differ from the version that was published; if not, no rows were written.
        superseded: A build of newer rows was published meanwhile and stays.
        write_seconds: Time to write data and manifest files.
        commit_seconds: Time from there to the catalog's answer.
    """

    snapshot_id: int | None
    changed: bool
    superseded: bool = False
    write_seconds: float = 0.0
    commit_seconds: float = 0.0


class DayTable:
    """Reads and writes a table that is derived from a feed's raw one, by a kind that is shipped."""

    def __init__(self, catalog: Catalog, feed: str, name: str) -> None:
        self._catalog = catalog
        self._feed = feed
        self._name = name
        self.schema = tables_of(KINDS)[name]

    @property
    def identifier(self) -> str:
        """Catalog name, as ``asx.trades``."""
        return f"{self._feed}.{self._name}"

    def builds(self) -> dict[date, DayBuild]:
        """Read what each published day was made from.

        Raises:
            CatalogUnavailable: The catalog does not answer.
        """
        table = find_table(self._catalog, self._feed, self._name)
        return {} if table is None else builds_of(table)

    def reader_and_builds(self, days: Sequence[date]) -> tuple[DayReader, dict[date, DayBuild]]:
        """Give a reader of some days, and what each published day was made from, both of the same snapshot."""
        table = find_table(self._catalog, self._feed, self._name)
        return DayReader(table, self.schema, days), {} if table is None else builds_of(table)

    def rules(self) -> dict[str, BuildRules]:
        """Read the rules that published days were built under, by fingerprint; raises like ``builds``."""
        table = find_table(self._catalog, self._feed, self._name)
        text = None if table is None else table.properties.get(RULES_PROPERTY)
        return {} if text is None else rules_from_json(text)

    def reader(self, days: Sequence[date]) -> DayReader:
        """Reads some trading days as they are published now, one after the other.

        Raises:
            CatalogUnavailable: The catalog does not answer.
        """
        return DayReader(find_table(self._catalog, self._feed, self._name), self.schema, days)

    def read_day(self, day: date, *columns: str) -> pa.Table:
        """Return the published rows of a trading day, in the order in which they were written.

        Args:
            day: The trading day.
            *columns: Those to read; all if none are named.

        Raises:
            CatalogUnavailable: The catalog does not answer.
            WarehouseUnavailable: A file of the table can't be read.
        """
        return self.reader([day]).read_day(day, *columns)

    def files_by_day(self, days: Sequence[date]) -> Mapping[date, DayFiles]:
        """Return the files of trading days' published versions."""
        return files_by_day(find_table(self._catalog, self._feed, self._name), days)

    def replace_day(self, day: date, rows: pa.Table, run_id: str) -> PublishResult:
        """Make ``rows`` the day's published version; see ``Stager`` and ``publish``.

        Args:
            day: The trading day.
            rows: All of the day's rows, in the table's schema; may be empty.
            run_id: The run that publishes, for the snapshot's summary.
        """
        with self.stager([day]) as stager, stager.stage(day) as staged:
            staged.add(rows)
            return self.publish([staged], run_id)[day]

    @contextmanager
    def stager(self, days: Sequence[date]) -> Iterator["Stager"]:
        """Stages some trading days, one after the other.

        Raises:
            ForeignTable: The table is another home's.
            CatalogUnavailable: The catalog does not answer.
        """
        table = ensure_table(self._catalog, self._feed, self._name, self.schema)
        with ThreadPoolExecutor(1) as writing:
            yield Stager(table, self.schema, paths_by_day(table, days), writing)

    def publish(
        self,
        days: Sequence[StagedDay],
        run_id: str,
        made_from: Builds | None = None,
        rules: Mapping[str, BuildRules] | None = None,
    ) -> dict[date, PublishResult]:
        """Make staged days the published versions, in one commit; readers see the old or the new days.

        A commit whose answer was lost is simply tried again: where it landed, the files are the table's already. A day
        of which a build of newer rows was published meanwhile stays as it is.

        Args:
            days: Each with all of its rows.
            run_id: The run that publishes, for the snapshot's summary.
            made_from: For each day what it was made from, to be recorded beside it.
            rules: The rules that ``made_from`` names, by fingerprint, where the table is to keep them.

        Raises:
            FilesGone: A staged file is not there any more; its day has to be built anew.
            ForeignTable: The table is another home's.
            CatalogUnavailable: The catalog does not answer, or others commit first each time.
            WarehouseUnavailable: A file of the table can't be read or written.
        """
        named = _named([staged.day for staged in days])
        started = time.perf_counter()
        with translate_errors(self.identifier, f"publishing {named} in"):
            for staged in days:
                staged.end()
        ended = time.perf_counter()
        retrying = Retrying(
            retry=retry_if_exception_type((CommitFailedException, CatalogUnavailable)),
            stop=stop_after_attempt(_ATTEMPTS) | stop_after_delay(_MOST_SECONDS),
            wait=wait_exponential(multiplier=0.05, max=5) + wait_random(0, 0.2),  # 16 s in all: a database's restart
            reraise=True,
        )
        try:
            published = retrying(self._attempt, days, named, run_id, made_from or {}, rules or {})
        except CommitFailedException as conflict:
            raise CatalogUnavailable(
                f"{self.identifier}: {named} was not published: other writers committed first each time: {conflict}"
            ) from conflict
        return {
            day: replace(each, write_seconds=each.write_seconds + ended - started) for day, each in published.items()
        }

    def _attempt(
        self, days: Sequence[StagedDay], named: str, run_id: str, made_from: Builds, rules: Mapping[str, BuildRules]
    ) -> dict[date, PublishResult]:
        table = ensure_table(self._catalog, self._feed, self._name, self.schema)
        snapshot = table.current_snapshot()
        as_it_is = None if snapshot is None else snapshot.snapshot_id
        now = paths_by_day(table, [staged.day for staged in days])
        recorded = builds_of(table)
        older = {day for day, build in made_from.items() if not supersedes(build, recorded.get(day))}
        done = {
            staged.day: PublishResult(as_it_is, changed=staged.is_in(now[staged.day]), superseded=staged.day in older)
            for staged in days
        }
        new = [
            staged
            for staged in days
            if staged.day not in older
            and not staged.is_in(now[staged.day])
            and not staged.says_the_same_as(now[staged.day])
        ]
        record = _recorded(table, recorded | {day: made_from[day] for day in made_from if day not in older}, rules)
        if new:
            with translate_errors(self.identifier, f"publishing {named} in"):
                for staged in new:
                    staged.fit(table)
                there = [staged.day for staged in new if now[staged.day]]
                replaced = self._replaced(table, new, there, run_id, record)
            done |= {staged.day: replaced for staged in new}
        elif record:
            # Without a snapshot nothing but the record can be lost to another writer, and its days are then built anew.
            transaction = TableTransaction(table)
            transaction.set_properties(record)
            with translate_errors(self.identifier, f"recording the build of {named} in"):
                transaction.commit_transaction()
        return done

    def _replaced(
        self, table: Table, days: list[StagedDay], there: list[date], run_id: str, record: dict[str, str]
    ) -> PublishResult:
        started = time.perf_counter()
        transaction = TableTransaction(table)
        expire_oldest(transaction, table)
        summary = {RUN_ID: run_id}
        if there:
            transaction.delete(of_days(there), snapshot_properties=summary)
        files = [staged.data_file for staged in days if staged.data_file is not None]
        if files:
            with transaction.update_snapshot(snapshot_properties=summary).merge_append() as append:
                for file in files:
                    append.append_data_file(file)
        if record:
            transaction.set_properties(record)
        written = time.perf_counter()
        crash_points.reached("bars_half")
        for staged in days:
            staged.keep()  # from here on the files may be the table's, whatever the catalog answers
        committed = transaction.commit_transaction().current_snapshot()
        return PublishResult(
            snapshot_id=None if committed is None else committed.snapshot_id,
            changed=True,
            write_seconds=written - started,
            commit_seconds=time.perf_counter() - written,
        )


def builds_of(table: Table) -> dict[date, DayBuild]:
    """Read what each day of a loaded table was made from."""
    text = table.properties.get(BUILDS_PROPERTY)
    return {} if text is None else builds_from_json(text)


def _recorded(table: Table, builds: Builds, rules: Mapping[str, BuildRules]) -> dict[str, str]:
    """Make the properties to be set for builds to be on record; none where all of it is there already."""
    wanted = {BUILDS_PROPERTY: builds_to_json(builds)} if builds else {}
    if rules:
        kept = rules_from_json(table.properties.get(RULES_PROPERTY, "{}"))
        in_use = {build.rules for build in builds.values()}
        wanted[RULES_PROPERTY] = rules_to_json({name: r for name, r in {**kept, **rules}.items() if name in in_use})
    return {name: text for name, text in wanted.items() if table.properties.get(name) != text}


@dataclass(frozen=True)
class Stager:
    """Writes days for a table without a reader seeing them.

    Attributes:
        table: The table at the snapshot that the days are held against.
        schema: Its columns.
        published: For each day the paths of the files that hold it there.
        writing: Writes for all days.
    """

    table: Table
    schema: pa.Schema
    published: Mapping[date, frozenset[str]]
    writing: Executor

    @contextmanager
    def stage(self, day: date) -> Iterator[StagedDay]:
        """Write a day's rows part by part; what is not published is taken away again.

        Raises:
            WarehouseUnavailable: A file of the table can't be read or written.
        """
        with translate_errors(".".join(self.table.name()), f"writing {day} of"):
            staged = StagedDay(self.table, day, self.schema, self.published[day], self.writing)
            try:
                yield staged
            finally:
                staged.close()


def _named(days: Sequence[date]) -> str:
    return str(days[0]) if len(days) == 1 else f"{len(days)} days from {min(days)} to {max(days)}"
