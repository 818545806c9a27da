"""Builds a day of a derived table: computes it, runs its blocking checks, and publishes it only if they pass."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import dagster as dg
import pyarrow as pa
import pyarrow.compute as pc

from k2_assets.records.partitions import by_session, rows_metadata, seconds
from k2_assets.records.run_scope import evaluations
from k2_market.feeds.trading_calendar import TradingCalendar
from k2_market.plans.build_plan import MAX_DAYS_PER_RUN
from k2_market.plans.build_rules import BuildRules
from k2_market.plans.day_builds import DayBuild
from k2_market.quality.finding import Finding, Severity, findings_of_session
from k2_resources.iceberg.day_table import DayTable, PublishResult
from k2_resources.iceberg.scan_files import DayFiles
from k2_resources.iceberg.staged_day import StagedDay
from k2_resources.logs.structured_logging import get_logger

ROWS_A_COMMIT = 2_000_000
"""Days are published together up to so many rows: a large day by itself, a history in few commits."""

BACKFILL = dg.BackfillPolicy.multi_run(MAX_DAYS_PER_RUN)
"""A backfill of many sessions from the UI makes as many of them a run as the stale-day sensor asks for."""

_SUPERSEDED = "Not published: a build of newer raw rows was published meanwhile, and stays."

_log = get_logger("build")


@dataclass(frozen=True)
class BuiltDay:
    """A day as it was built and staged, not yet published.

    Attributes:
        findings: What the gate says of its rows.
        metadata: Goes into the day's materialization beside the usual.
        made_from: The raw rows and rules that the day was made from; None if its source has no record of them.
    """

    findings: tuple[Finding, ...]
    metadata: Mapping[str, Any]
    made_from: DayBuild | None


Build = Callable[[date, StagedDay], BuiltDay]
"""Makes a day: adds all its rows to the staged day, and says what the gate has to know."""


class Gate:
    """Lets built days through to a table, or keeps the last good version published."""

    def __init__(
        self,
        context: dg.AssetExecutionContext,
        asset: dg.AssetKey,
        table: DayTable,
        calendar: TradingCalendar,
        rules: Mapping[str, BuildRules] | None = None,
    ) -> None:
        """Stand before a table.

        Args:
            context: The run's.
            asset: Whose table it is.
            table: The table.
            calendar: The feed's: says with which session a day is reported.
            rules: Rules by fingerprint, where the table is to keep those that its days were built under.
        """
        self._context = context
        self._asset = asset
        self._table = table
        self._calendar = calendar
        self._rules = rules
        self._refused: list[str] = []

    def publish(self, days: Sequence[date], build: Build) -> dict[date, "MadeDay"]:
        """Build days and publish those whose findings allow, many in one commit; gives the sessions that were made."""
        made = self._publish_days(days, build)
        return {session: _of_session(session, of) for session, of in by_session(self._calendar, made).items()}

    def _publish_days(self, days: Sequence[date], build: Build) -> dict[date, "MadeDay"]:
        made: dict[date, MadeDay] = {}
        with self._table.stager(days) as stager, ExitStack() as stack:
            ready: list[_Ready] = []
            for day in days:
                started = time.perf_counter()
                staged = stack.enter_context(stager.stage(day))
                built = build(day, staged)
                if self._let_through(day, built.findings):
                    staged.end()
                    ready.append(_Ready(staged, built, time.perf_counter() - started))
                if sum(each.staged.rows for each in ready) >= ROWS_A_COMMIT:
                    made |= self._publish(ready)
                    ready = []
                    stack.close()
            return made | self._publish(ready)

    def _publish(self, ready: Sequence["_Ready"]) -> dict[date, "MadeDay"]:
        if not ready:
            return {}
        made_from = {each.staged.day: each.built.made_from for each in ready if each.built.made_from is not None}
        staged = [each.staged for each in ready]
        published = self._table.publish(staged, self._context.run.run_id, made_from, self._rules)
        files = self._table.files_by_day([each.staged.day for each in ready])
        for each in ready:
            self._log_published(each, published[each.staged.day])
        return {
            each.staged.day: MadeDay(
                files[each.staged.day].rows if published[each.staged.day].superseded else each.staged.rows,
                _described(each, published[each.staged.day], files[each.staged.day]),
                None if published[each.staged.day].superseded else each.built.made_from,
            )
            for each in ready
        }

    def _log_published(self, ready: "_Ready", published: PublishResult) -> None:
        _log.info(
            "day published",
            table=self._asset.to_user_string(),
            trade_date=ready.staged.day.isoformat(),
            run_id=self._context.run.run_id,
            rows=ready.staged.rows,
            changed=published.changed,
            superseded=published.superseded,
            snapshot_id=published.snapshot_id,
            build_ms=round(ready.build_seconds * 1000, 1),
            write_ms=round(published.write_seconds * 1000, 1),
            commit_ms=round(published.commit_seconds * 1000, 1),
        )

    def _let_through(self, day: date, findings: Iterable[Finding]) -> bool:
        blockers = [each for each in findings if blocks(each)]
        names = frozenset(each.check for each in blockers)
        session = self._calendar.reporting_session(day)
        of_session = findings_of_session(session, {day: blockers})
        for event in evaluations(self._context, self._asset, session, of_session, names):
            self._context.log_event(event)
        self._refused += [f"{day}: {each.check}: {each.description}" for each in blockers]
        return not blockers

    def close(self) -> None:
        """End the run as failed if a day was refused.

        Raises:
            dagster.Failure: Names each refused day and why.
        """
        if self._refused:
            raise dg.Failure(
                description="Not published, the last good version stays: " + "; ".join(self._refused),
                allow_retries=False,
            )


@dataclass(frozen=True)
class MadeDay:
    """Describes a day that a run made: its rows, the metadata of its materialization, and what it was made from.

    Where a build of newer rows stayed published, all are about that one: nothing is known of what it was made from.
    """

    rows: int
    metadata: Mapping[str, Any]
    made_from: DayBuild | None


def _of_session(session: date, made: Mapping[date, MadeDay]) -> MadeDay:
    """Describe a session's dates as one: metadata of the last one, rows of all."""
    last = made[max(made)]
    rows = {day: each.rows for day, each in made.items()}
    return MadeDay(sum(rows.values()), {**rows_metadata(session, rows), **last.metadata}, last.made_from)


def data_versions(made: Mapping[date, MadeDay]) -> dict[date, str]:
    """Make the data versions of days that a run made: the version of their raw rows and the rules they are built by."""
    return {
        day: f"{each.made_from.version}.{each.made_from.rules}"
        for day, each in made.items()
        if each.made_from is not None
    }


@dataclass(frozen=True)
class _Ready:
    """A day that the gate let through: its rows, what it says of itself, and how long it took to make."""

    staged: StagedDay
    built: BuiltDay
    build_seconds: float


def _described(ready: _Ready, published: PublishResult, files: DayFiles) -> dict[str, Any]:
    of_this_build = {} if published.superseded else ready.built.metadata
    return {
        **({"note": _SUPERSEDED} if published.superseded else {}),
        **of_this_build,
        "bytes": files.bytes,
        "files": files.files,
        "changed": published.changed,
        "snapshot_id": str(published.snapshot_id),
        "build_seconds": seconds(ready.build_seconds),
        "write_seconds": seconds(published.write_seconds),
        "commit_seconds": seconds(published.commit_seconds),
    }


def blocks(finding: Finding) -> bool:
    """Say whether a finding keeps a day from being published: what makes bars wrong does."""
    return not finding.passed and finding.severity is Severity.ERROR


@dataclass(frozen=True)
class Extent:
    """From when to when a day's rows are, and of how many symbols; parts that share no symbol add up.

    Attributes:
        symbols: How many there are.
        first: The earliest timestamp; None without rows.
        last: The latest one.
    """

    symbols: int = 0
    first: datetime | None = None
    last: datetime | None = None

    @classmethod
    def of(cls, rows: pa.Table, column: str) -> "Extent":
        """Return the extent of some rows, by a column of timestamps."""
        bounds: Mapping[str, datetime] = pc.min_max(rows[column]).as_py()
        return cls(len(pc.unique(rows["symbol"])), bounds["min"], bounds["max"])

    def __add__(self, other: "Extent") -> "Extent":
        firsts = [each for each in (self.first, other.first) if each is not None]
        lasts = [each for each in (self.last, other.last) if each is not None]
        return Extent(self.symbols + other.symbols, min(firsts, default=None), max(lasts, default=None))

    @property
    def metadata(self) -> dict[str, int | str]:
        """Return it as metadata of a materialization."""
        first, last = ("" if each is None else each.isoformat() for each in (self.first, self.last))
        return {"symbols": self.symbols, "first_timestamp": first, "last_timestamp": last}
