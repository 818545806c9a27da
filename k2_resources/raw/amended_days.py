"""Finds the days of a raw table that the cancels and corrections of one day have to do with (``cross_day``)."""

from collections.abc import Collection, Iterator
from dataclasses import replace
from datetime import date
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.expressions import BooleanExpression

from k2_market.feeds.feed import IdScope
from k2_market.feeds.id_scopes import columns_with_scope, ids_as_sent, named_by_symbol, once_in_feed
from k2_market.frames.symbol_parts import symbol_parts
from k2_market.ledger.ledger import PROPERTY
from k2_market.plans.day_builds import AMENDMENT_REACH
from k2_market.schemas.tables import PARTITION_COLUMN
from k2_market.trades.cleaning import COLUMNS_READ, unmatched_amendments
from k2_market.trades.cross_day import Settled, TradeKey, settle
from k2_market.verification.ledger_claims import ledger_claims
from k2_resources.iceberg.day_reader import DayReader
from k2_resources.iceberg.row_filters import all_of, at_least, below, equals, is_in, is_null
from k2_resources.iceberg.scan_files import of_day
from k2_resources.iceberg.table_errors import translate_errors
from k2_resources.raw.view import RawView


def settled_parts(
    view: RawView, reader: DayReader, day: date, later: Collection[date], scope: IdScope, *beside: pa.Table
) -> Iterator[tuple[Settled, *tuple[pa.Table, ...]]]:
    """Read a day's messages in parts of whole symbols, with what cancels and corrections have to do with other days.

    Args:
        view: The raw table at the snapshot that is read.
        reader: Reads the day at that snapshot.
        day: The trading day.
        later: Later days that are known to name trades of the day.
        scope: What trade ids are unique within.
        *beside: Other tables with a column ``symbol``, cut into the same parts.
    """
    other_days = OtherDays(view, scope)
    reaching = other_days.reaching(day, later)
    read = named_by_symbol(reader.read_day_compactly(day, *columns_with_scope(COLUMNS_READ, scope)), scope)
    once = once_in_feed(read.select(COLUMNS_READ), scope, _topics_of(view))
    left_out, ids = once.left_out, once.ids
    for messages, *others in symbol_parts(once.rows, *beside):
        settled = settle(messages, reaching, partial(other_days.holders, day))
        yield replace(settled, repeated_elsewhere=left_out, ids_elsewhere=ids), *others
        left_out = ids = 0


class OtherDays:
    """Reads cancels, corrections and trade ids of other days, at one snapshot of a raw table.

    Every method raises ``WarehouseUnavailable`` where a file of the table can't be read.
    """

    def __init__(self, view: RawView, scope: IdScope = IdScope.SYMBOL) -> None:
        self._view = view
        self._scope = scope

    def holders(self, day: date, trades: Collection[TradeKey]) -> dict[TradeKey, date]:
        """Find for some trades the nearest day before a day, within ``AMENDMENT_REACH``, that reports each as new."""
        if not trades or self._scope is IdScope.DAY:
            return {}
        found = self._scan(
            all_of(
                _days(day - AMENDMENT_REACH, day),
                equals("action", "NEW"),
                is_in("symbol", {symbol for symbol, _ in trades}),
                is_in("trade_id", ids_as_sent({trade_id for _, trade_id in trades}, self._scope)),
            ),
            (PARTITION_COLUMN, "symbol", "trade_id"),
        )
        nearest: dict[TradeKey, date] = {}
        for held, *key in zip(*(column.to_pylist() for column in found.columns), strict=True):
            trade = (key[0], key[1])
            if trade in trades and held > nearest.get(trade, date.min):
                nearest[trade] = held
        return nearest

    def reaching(self, day: date, later: Collection[date]) -> dict[date, pa.Table]:
        """Read the raw rows of later days' cancels and corrections that are about a day.

        Args:
            day: The day that holds the trades.
            later: The days to look at.

        Returns:
            ``trade_cleaning.COLUMNS_READ`` by later day; days without any are left out.
        """
        rows = {each: self._about(day, each) for each in sorted(later)}
        return {each: found for each, found in rows.items() if found.num_rows}

    def _about(self, day: date, later: date) -> pa.Table:
        # "CANCEL" and "CORRECT" sort before "NEW", so files and row groups without any are passed over by their bounds.
        amendments = self._scan(all_of(of_day(later), below("action", "NEW")), COLUMNS_READ)
        if not amendments.num_rows:
            return amendments
        mentioned = pc.unique(
            pa.chunked_array([*amendments["trade_id"].chunks, *amendments["corrects_trade_id"].chunks])
        )
        own = self._scan(
            all_of(
                of_day(later),
                equals("action", "NEW"),
                is_in("symbol", set(amendments["symbol"].to_pylist())),
                is_in("trade_id", ids_as_sent({each for each in mentioned.to_pylist() if each}, self._scope)),
            ),
            COLUMNS_READ,
        )
        together = pa.concat_tables([amendments, own])
        unmatched = unmatched_amendments(together, _topics_of(self._view))
        held = self.holders(later, set(unmatched.named))
        about = [row for row, named in zip(unmatched.rows, unmatched.named, strict=True) if held.get(named) == day]
        return together.take(pa.array(about, pa.int64()))

    def _scan(self, row_filter: BooleanExpression, columns: Collection[str]) -> pa.Table:
        table = self._view.table
        read = columns_with_scope(tuple(columns), self._scope)
        schema = pa.schema([self._view.schema.field(name) for name in read])
        if table is None or table.current_snapshot() is None:
            return schema.empty_table().select(list(columns))
        live = all_of(row_filter, is_null("reject_reason"))
        with translate_errors(".".join(table.name()), "reading cancels and corrections of"):
            found = table.scan(row_filter=live, selected_fields=read).to_arrow()
        return named_by_symbol(found.select(schema.names).cast(schema), self._scope).select(list(columns))


def _topics_of(view: RawView) -> tuple[str, ...]:
    """Return the ids of the topics that fed a table, oldest first, also at an earlier snapshot."""
    return () if view.table is None else tuple(ledger_claims(view.table.properties.get(PROPERTY)).topic_names)


def _days(first: date, end: date) -> BooleanExpression:
    return all_of(at_least(PARTITION_COLUMN, first.isoformat()), below(PARTITION_COLUMN, end.isoformat()))
