"""Formats bars as a table: only the digits that are used, long days shortened in the middle."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from k2_cli.output.table_display import TableColumn

if TYPE_CHECKING:
    import pyarrow as pa

_PRICES = ("open", "high", "low", "close", "vwap")
_GAP = "⋮"


def bar_columns(bars: pa.Table, daily: bool, rows: int) -> list[TableColumn]:
    """Return columns to show for some bars.

    Args:
        bars: Rows of ``BARS``, in time order.
        daily: Whether the trading day names a bar well enough.
        rows: How many bars to show; of more, those in the middle are left out. 0 shows all.
    """
    when = (
        TableColumn("trading day", [str(day) for day in bars["trade_date"].to_pylist()], right=False)
        if daily
        else TableColumn("start (UTC)", [f"{at:%Y-%m-%d %H:%M}" for at in bars["bar_start"].to_pylist()], right=False)
    )
    columns = [
        when,
        *(TableColumn(name, used_digits(bars[name].to_pylist()), right=True) for name in _PRICES[:4]),
        TableColumn("volume", used_digits(bars["volume"].to_pylist()), right=True),
        TableColumn("vwap", used_digits(bars["vwap"].to_pylist()), right=True),
        TableColumn("trades", [f"{count:,}" for count in bars["trade_count"].to_pylist()], right=True),
    ]
    return [TableColumn(column.name, _shortened(column.cells, rows), column.right) for column in columns]


def used_digits(values: list[Decimal | None]) -> list[str]:
    """Return decimals with as many digits after the point as any of them needs, so that points stand below each other.

    Example:
        >>> used_digits([Decimal("36.45000000"), Decimal("1200.00000000"), None])
        ['36.45', '1,200.00', '']
    """
    exponents = [value.normalize().as_tuple().exponent for value in values if value is not None]
    digits = max((-exponent for exponent in exponents if isinstance(exponent, int)), default=0)
    return ["" if value is None else f"{value:,.{max(digits, 0)}f}" for value in values]


def _shortened(cells: list[str], rows: int) -> list[str]:
    if rows == 0 or len(cells) <= rows:
        return cells
    head = max(1, rows // 2)
    return [*cells[:head], _GAP, *cells[len(cells) - (rows - head) :]]
