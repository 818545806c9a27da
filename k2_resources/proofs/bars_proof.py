"""Verifies trades and bars: recomputes a day from its raw rows and compares it with what is published."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import partial
from itertools import chain
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.catalog import Catalog
from pyiceberg.expressions import BooleanExpression, parser

from k2_market.feeds.feed import Feed, IdScope, PriceRange
from k2_market.feeds.trading_calendar import TradingCalendar
from k2_market.kinds.trades import CLEAN_TRADES, TRADES
from k2_market.plans.build_plan import is_open
from k2_market.plans.build_rules import BuildRules
from k2_market.schemas.tables import BAR_INTERVALS
from k2_market.verification.bar_recomputation import bar_differences, bar_violations, bars_of_symbol
from k2_market.verification.invariants import Invariant, Note, Verification, Violation
from k2_market.verification.ledger_claims import ledger_claims
from k2_market.verification.trade_recomputation import (
    COLUMNS_READ,
    REACH,
    Eligibility,
    Message,
    Reporting,
    arriving_at,
    messages_by_symbol,
    named_in_scope,
    nearest_before,
    trade_differences,
    trade_violations,
    trades_of_symbol,
)
from k2_resources.iceberg.catalog import find_table
from k2_resources.iceberg.day_table import DayTable
from k2_resources.iceberg.row_filters import all_of, is_in
from k2_resources.iceberg.scan_files import days_of
from k2_resources.iceberg.table_errors import translate_errors

Progress = Callable[[int, int], None]
"""Called with how many days are done, and of how many."""

_NAMING = ("trade_date", "symbol", "trade_id")
_AMENDING = "(action = 'CANCEL' OR action = 'CORRECT') AND reject_reason IS NULL"


def prove_bars(
    catalog: Catalog, feed: Feed, days: Collection[date] | None, now: datetime, progress: Progress | None = None
) -> Verification:
    """Verify that published trades and bars are what the raw rows amount to.

    Args:
        catalog: Where the tables are.
        feed: Whose they are.
        days: The trading days; None for all that have raw rows. A day that is still open is left out unless named.
        now: The time.
        progress: Called after each day.
    """
    raw = _RawRows(catalog, feed)
    calendar = TradingCalendar.of(feed)
    wanted = sorted(raw.days if days is None else days)
    open_days = [day for day in wanted if is_open(day, calendar, now)] if days is None else []
    counts, violations, other_rules = _Counts(), [], []
    rules, builds = BuildRules.of(feed).fingerprint, DayTable(catalog, feed.name, CLEAN_TRADES).builds()
    for number, day in enumerate(day for day in wanted if day not in open_days):
        violations += _violations(catalog, feed, calendar, raw, day, counts)
        if day in builds and builds[day].rules != rules:
            other_rules.append(str(day))
        if progress is not None:
            progress(number + 1, len(wanted) - len(open_days))
    return Verification(
        subject=f"trades and bars of {feed.name}" + (f" on {wanted[0]}" if len(wanted) == 1 else ""),
        looked_at={Invariant.BARS: str(counts)},
        violations=tuple(violations),
        notes=(*_notes(feed, other_rules), *_notes_on_kept_back(counts.kept_back)),
        not_looked_at=tuple(f"{day}, which is still open; name it by --date" for day in open_days),
    )


def _notes(feed: Feed, other_rules: Sequence[str]) -> tuple[Note, ...]:
    if not other_rules:
        return ()
    what = f"days were built under other rules than the feed's file has: k2 rebuild --feed {feed.name}"
    return (Note(what, tuple(other_rules), len(other_rules)),)


def _notes_on_kept_back(places: Sequence[str]) -> Iterator[Note]:
    if places:
        what = "symbols have no bars of an interval, since their sums are too large for one"
        yield Note(what, tuple(places), len(places))


@dataclass
class _Counts:
    """Counts the rows and trades that were compared."""

    days: int = 0
    rows: int = 0
    trades: int = 0
    bars: int = 0
    kept_back: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        days = "1 day" if self.days == 1 else f"{self.days:,} days"
        return f"{self.rows:,} raw rows, {self.trades:,} trades, {self.bars:,} bars of {days}"


def _violations(
    catalog: Catalog, feed: Feed, calendar: TradingCalendar, raw: "_RawRows", day: date, counts: _Counts
) -> list[Violation]:
    any_price = feed.price.may_be is PriceRange.ANY
    eligibility = Eligibility(feed.conditions.no_price, feed.conditions.no_volume, any_price)
    start, end, grid = calendar.day_start(day), calendar.day_end(day), calendar.grid_start(day)
    rows = raw.of_day(day)
    others = raw.other_days(day, rows)
    published = _by_symbol(DayTable(catalog, feed.name, CLEAN_TRADES).read_day(day))
    bars = {each: _by_symbol(DayTable(catalog, feed.name, each.table).read_day(day)) for each in BAR_INTERVALS}
    counts.days += 1
    counts.rows += rows.num_rows
    counts.trades += sum(each.num_rows for each in published.values())
    counts.bars += sum(each.num_rows for of_width in bars.values() for each in of_width.values())
    wrong: list[str] = []
    wrong_bars: dict[str, list[str]] = {each.name: [] for each in BAR_INTERVALS}
    for symbol, messages in _symbols(rows, raw.topics, {*published, *chain.from_iterable(bars.values())}):
        arriving = arriving_at(day, symbol, others.later.get(symbol, {}), others.reporting)
        expected = trades_of_symbol(messages, arriving, partial(others.reported_before, day, symbol))
        wrong += trade_differences(symbol, expected, _rows(published.get(symbol)), eligibility)
        for interval, of_width in bars_of_symbol(expected, eligibility, start, end, grid).items():
            if not of_width and any(any(eligibility.of(trade)) for trade in expected):
                counts.kept_back.append(f"{interval.table} of {day}: {symbol}")
            wrong_bars[interval.name] += bar_differences(symbol, of_width, _rows(bars[interval].get(symbol)))
    found = trade_violations(day, wrong)
    for interval in BAR_INTERVALS:
        found += bar_violations(day, interval, wrong_bars[interval.name])
    return found


def _symbols(rows: pa.Table, topics: Sequence[str], published: Collection[str]) -> Iterator[tuple[str, list[Message]]]:
    """Go through the symbols of a day's raw rows, and those that are published alone, with one's messages at a time."""
    seen = set()
    for symbol, messages in messages_by_symbol(rows, topics):
        seen.add(symbol)
        yield symbol, messages
    yield from ((symbol, []) for symbol in sorted(set(published) - seen))


def _rows(table: pa.Table | None) -> list[dict[str, Any]]:
    return [] if table is None else table.to_pylist()


def _by_symbol(table: pa.Table) -> dict[str, pa.Table]:
    symbols = table["symbol"].unique().to_pylist()
    return {symbol: table.filter(pc.equal(table["symbol"], symbol)) for symbol in symbols}


@dataclass(frozen=True)
class _OtherDays:
    """Holds what other days have to do with a day.

    Attributes:
        later: For each symbol, by later day, cancels and corrections.
        reporting: Which days report the ids that those, and the day's own, mention.
    """

    later: Mapping[str, Mapping[date, Sequence[Message]]] = field(default_factory=dict)
    reporting: Reporting = field(default_factory=dict)

    def reported_before(self, day: date, symbol: str, trade_id: str) -> bool:
        """Tell whether a day before a day, within reach, reports a trade as new."""
        return nearest_before(day, symbol, trade_id, self.reporting) is not None


class _RawRows:
    """Reads a feed's raw table at one snapshot."""

    def __init__(self, catalog: Catalog, feed: Feed) -> None:
        self._scope = feed.ids.unique_within
        self._table = find_table(catalog, feed.name, TRADES.raw_table)
        self._name = f"{feed.name}.{TRADES.raw_table}"

    @property
    def days(self) -> frozenset[date]:
        """The days that have rows."""
        return frozenset() if self._table is None else days_of(self._table)

    @property
    def topics(self) -> tuple[str, ...]:
        """The ids of the topics that fed the table, the oldest first."""
        return () if self._table is None else tuple(ledger_claims(self._table.properties.get("k2.ledger")).topic_names)

    def of_day(self, day: date) -> pa.Table:
        """Read a day's rows."""
        return self._scan(f"trade_date = '{day}'")

    def other_days(self, day: date, rows: pa.Table) -> _OtherDays:
        """Read what other days within reach have to do with a day.

        Args:
            day: The day.
            rows: Its rows.
        """
        if self._scope is IdScope.DAY:
            return _OtherDays()
        later = self._scan(f"trade_date > '{day}' AND trade_date <= '{day + REACH}' AND {_AMENDING}")
        live = rows.filter(rows["reject_reason"].is_null())
        own = live.filter(pc.is_in(live["action"], value_set=pa.array(["CANCEL", "CORRECT"])))
        amending = pa.concat_tables([later, own])
        if not amending.num_rows:
            return _OtherDays()
        ids = {*amending["trade_id"].to_pylist(), *amending["corrects_trade_id"].to_pylist()} - {None, ""}
        symbols = set(amending["symbol"].to_pylist())
        between = f"trade_date >= '{day - REACH}' AND trade_date <= '{day + REACH}'"
        live_new = parser.parse(f"{between} AND action = 'NEW' AND reject_reason IS NULL")
        if self._scope is IdScope.VENUE:
            ids = {each.split(":", 1)[1] for each in ids}
        new = self._scan(all_of(live_new, is_in("symbol", symbols), is_in("trade_id", ids)), _NAMING)
        reporting: dict[tuple[str, str], set[date]] = defaultdict(set)
        for row in new.to_pylist():
            reporting[row["symbol"], row["trade_id"]].add(row["trade_date"])
        of_symbol: dict[str, dict[date, list[Message]]] = {}
        for symbol, messages in messages_by_symbol(later, self.topics):
            by_day = of_symbol.setdefault(symbol, defaultdict(list))
            for each in sorted(messages, key=lambda message: message.place):
                by_day[each.day].append(each)
        return _OtherDays(of_symbol, {key: tuple(days) for key, days in reporting.items()})

    def _scan(self, row_filter: str | BooleanExpression, columns: tuple[str, ...] = COLUMNS_READ) -> pa.Table:
        columns = (*columns, "exchange")
        schema = pa.schema([TRADES.messages.rows.field(name) for name in columns])
        if self._table is None or self._table.current_snapshot() is None:
            return schema.empty_table()
        with translate_errors(self._name, "reading"):
            found = self._table.scan(row_filter=row_filter, selected_fields=columns).to_arrow()
        return named_in_scope(found.select(schema.names).cast(schema), self._scope, self.topics)
