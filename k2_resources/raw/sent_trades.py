"""Finds in a feed's raw table the trades that a load brought, and the messages about one trade."""

from collections.abc import Collection

import polars as pl
import pyarrow as pa
from pyiceberg.expressions import BooleanExpression

from k2_market.loads.amending import COLUMNS_READ, NamedTrade
from k2_market.loads.loads import Load, LoadError
from k2_resources.iceberg.row_filters import all_of, any_of, at_least, at_most, equals, is_in, is_null, not_null
from k2_resources.iceberg.table_errors import translate_errors
from k2_resources.raw.view import RawView

_MOST_STEPS = 100


class SentTrades:
    """Reads raw rows by who sent them and which trade they are about, at one snapshot.

    Every method raises ``WarehouseUnavailable`` where a file of the table can't be read.
    """

    def __init__(self, view: RawView) -> None:
        self._view = view

    def about(self, named: NamedTrade) -> pl.DataFrame:
        """Read the live rows of a symbol that have or name a trade's id, corrections of corrections included."""
        of_symbol = all_of(equals("symbol", named.symbol), is_null("reject_reason"))
        ids, rows = {named.trade_id}, self._scan(of_symbol, COLUMNS_READ, _naming({named.trade_id}))
        for _ in range(_MOST_STEPS):
            chained = set(rows.filter(pl.col("action") == "CORRECT")["trade_id"].to_list()) - ids - {""}
            if not chained:
                break
            ids |= chained
            rows = pl.concat([rows, self._scan(of_symbol, COLUMNS_READ, _naming(chained))]).unique(
                ["kafka_topic_id", "kafka_partition", "kafka_offset"], maintain_order=True
            )
        return rows

    def of_load(self, load: Load) -> pl.DataFrame:
        """Read the live rows of a load.

        Raises:
            LoadError: Not all of its messages are in the table yet.
        """
        sent = equals("correlation_id", load.load_id)
        live = self._scan(all_of(sent, is_null("reject_reason")), COLUMNS_READ)
        dead = self._scan(all_of(sent, not_null("reject_reason")), ("correlation_id",))
        if live.height + dead.height < load.rows:
            raise LoadError(
                f"load {load.load_id[:8]}: {live.height + dead.height:,} of its {load.rows:,} messages are in the raw "
                "table yet; expected all. Try again when they are ingested (`k2 catch-up`)"
            )
        return live

    def reported_by_others(self, load: Load, without: Collection[str]) -> pl.DataFrame:
        """Read the trades of a load's days that messages of others report, but for those of some loads.

        Args:
            load: The load.
            without: The ids of loads whose messages are not counted, its own included.

        Returns:
            ``trade_date``, ``symbol``, ``exchange``, ``trade_id`` and ``correlation_id``.
        """
        columns = ("trade_date", "symbol", "exchange", "trade_id", "correlation_id")
        days = sorted(load.days)
        if not days:
            return self._scan(equals("correlation_id", ""), columns)
        between = all_of(at_least("trade_date", days[0].isoformat()), at_most("trade_date", days[-1].isoformat()))
        new = all_of(equals("action", "NEW"), is_null("reject_reason"))
        found = self._scan(all_of(between, new), columns)
        return found.filter(~pl.col("correlation_id").fill_null("").is_in(list(without)))

    def cancelled_by(self, unload: Load) -> set[tuple[str, str]]:
        """Read symbol and id of the trades that an unload cancelled.

        Raises:
            LoadError: Not all of its messages are in the table yet.
        """
        return set(self.of_load(unload).select("symbol", "trade_id").iter_rows())

    def _scan(
        self, row_filter: BooleanExpression, columns: tuple[str, ...], more: BooleanExpression | None = None
    ) -> pl.DataFrame:
        table = self._view.table
        schema = pa.schema([self._view.schema.field(name) for name in columns])
        if table is None or table.current_snapshot() is None:
            return _frame(schema.empty_table())
        wanted = row_filter if more is None else all_of(row_filter, more)
        with translate_errors(".".join(table.name()), "reading messages of"):
            found = table.scan(row_filter=wanted, selected_fields=columns).to_arrow()
        return _frame(found.select(schema.names).cast(schema))


def _naming(ids: set[str]) -> BooleanExpression:
    return any_of(is_in("trade_id", ids), is_in("corrects_trade_id", ids))


def _frame(rows: pa.Table) -> pl.DataFrame:
    frame = pl.from_arrow(rows)
    assert isinstance(frame, pl.DataFrame)
    return frame
