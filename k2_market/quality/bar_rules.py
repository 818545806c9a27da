"""Checks the bars of one trading day: each rule returns a ``Finding``, and a bar that breaks one is wrong."""

from collections.abc import Callable
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from k2_market.feeds.feed import PriceRange
from k2_market.quality.finding import MAX_EXAMPLES, Finding, Severity
from k2_market.quality.statements import run_statement
from k2_market.schemas.tables import BarInterval

COMPARED_TRADES = ("symbol", "trade_order", "price", "quantity", "price_eligible", "volume_eligible")
"""The columns of ``TRADES`` that daily bars are held against."""


def bar_invariants(bars: pa.Table, may_be: PriceRange = PriceRange.POSITIVE) -> Finding:
    """Say whether every bar is possible, and no two of a symbol share time.

    Numbers: ``bars``, ``broken`` bars, and for each invariant how many bars break it. Examples: a broken bar each,
    with the invariants that it breaks.

    Args:
        bars: ``BARS`` of one interval and trading day, in any order.
        may_be: Which prices the feed may have.
    """
    frame = pl.from_arrow(bars)
    assert isinstance(frame, pl.DataFrame)
    invariants = _INVARIANTS | (_OF_ANY_PRICE if may_be is PriceRange.ANY else {})
    broken = {name: ~holds.fill_null(False) for name, holds in invariants.items()}
    judged = frame.sort("symbol", "bar_start", "bar_end").with_columns(**broken)
    wrong = judged.filter(pl.any_horizontal(*broken))
    return Finding(
        check="bar_invariants",
        passed=wrong.is_empty(),
        severity=Severity.ERROR,
        description=f"{wrong.height} of {frame.height} bars break an invariant.",
        numbers={"bars": frame.height, "broken": wrong.height, **{name: int(judged[name].sum()) for name in broken}},
        examples=tuple(
            {
                "symbol": row["symbol"],
                "bar_start": row["bar_start"].isoformat(),
                "broken": ", ".join(name for name in broken if row[name]),
            }
            for row in wrong.head(MAX_EXAMPLES).iter_rows(named=True)
        ),
        sizes=frozenset({"bars"}),
    )


def roll_up_identity(daily_bars: pa.Table, trades: pa.Table) -> Finding:
    """Check that daily bars equal those computed from the trades in SQL, with none of the bars' code.

    ``vwap`` is not looked at: ``bar_invariants`` holds it to the sums, which are. Nor are symbols that have no bar and
    whose sums may be too large for one: ``bars_complete`` tells of them.
    Numbers: ``symbols`` with a bar or an eligible trade, ``different`` symbols. Examples: a symbol and column each,
    with the bar's value and that of the trades; ``none`` where either is lacking.

    Args:
        daily_bars: ``BARS`` of one day each.
        trades: ``TRADES`` of the same trading day, in any order.
    """
    kept_back = [each["symbol"] for each in _without_bars(daily_bars, trades) if each["too_large"]]
    if kept_back:
        trades = trades.filter(pc.invert(pc.is_in(_texts(trades["symbol"]), pa.array(kept_back))))
    tables = {"daily_bars": daily_bars, "trades": trades}
    (row,) = run_statement("daily_bars_unlike_trades", tables, {"examples": MAX_EXAMPLES}).to_pylist()
    return Finding(
        check="roll_up_identity",
        passed=row["different"] == 0,
        severity=Severity.ERROR,
        description=f"The daily bars of {row['different']} of {row['symbols']} symbols differ from their trades.",
        numbers={"symbols": row["symbols"], "different": row["different"]},
        examples=tuple(row["wrong"] or ()),
        sizes=frozenset({"symbols"}),
    )


def bars_complete(interval: BarInterval, bars: pa.Table, read_trades: Callable[..., pa.Table]) -> Finding:
    """Find the symbols that have eligible trades and no bars, which is so where a bar's sums are too large.

    Numbers: ``symbols`` with eligible trades, ``without_bars``. Examples: a symbol each, with the interval, how many
    eligible trades it has, and their notional and volume.

    Args:
        interval: That of the bars.
        bars: ``BARS`` of the interval and one trading day, in any order.
        read_trades: Given names of columns, reads them of ``TRADES`` of the same trading day, in any order. Prices and
            quantities are read where a symbol has no bars, and not otherwise.
    """
    traded = _eligible_symbols(read_trades("symbol", "price_eligible", "volume_eligible"))
    complete = traded <= set(_texts(bars["symbol"]).unique().to_pylist())
    lacking = [] if complete else _without_bars(bars, read_trades(*_SUMMED))
    symbols = len(traded)
    unexplained = sum(not each["too_large"] for each in lacking)
    description = f"{len(lacking)} of {symbols} symbols have no bars of {interval.name}"
    if lacking:
        description += ", for their sums are too large for a bar"
        description += f", and {unexplained} of these for no reason that their trades give" if unexplained else ""
    return Finding(
        check="bars_complete",
        passed=not lacking,
        severity=Severity.ERROR,
        description=f"{description}.",
        numbers={"symbols": symbols, "without_bars": len(lacking)},
        examples=tuple(
            {
                "symbol": each["symbol"],
                "interval": interval.name,
                "trades": each["trades"],
                "notional": f"{each['notional']:.6g}",
                "volume": f"{each['volume']:.6g}",
            }
            for each in lacking[:MAX_EXAMPLES]
        ),
        sizes=frozenset({"symbols"}),
    )


_SUMMED = ("symbol", "price", "quantity", "price_eligible", "volume_eligible")


def _without_bars(bars: pa.Table, trades: pa.Table) -> list[dict[str, Any]]:
    """Describe the symbols that have eligible trades and no bars."""
    lacking = sorted(_eligible_symbols(trades) - set(_texts(bars["symbol"]).unique().to_pylist()))
    if not lacking:
        return []
    own = trades.select(_SUMMED).filter(pc.is_in(_texts(trades["symbol"]), pa.array(lacking)))
    found: list[dict[str, Any]] = run_statement("sums_of_symbols", {"trades": own}, {}).to_pylist()
    return found


def _eligible_symbols(trades: pa.Table) -> set[str]:
    eligible = pc.or_(trades["price_eligible"], trades["volume_eligible"])
    return set(_texts(trades["symbol"].filter(eligible).unique()).to_pylist())


def _texts(symbols: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    return symbols if pa.types.is_string(symbols.type) else symbols.cast(pa.string())


def _units(column: str) -> pl.Expr:
    """Return a decimal as the whole number of its units."""
    return pl.col(column).reinterpret(dtype=pl.Int128)


_PRICED = pl.col("priced_count") > 0
_PRICES = ("open", "high", "low", "close")
_SUMS = ("volume", "notional", "priced_volume", "trade_count", "priced_count")
_VWAP_ERROR = (_units("notional") - _units("vwap") * _units("priced_volume")).abs()

_INVARIANTS = {
    "prices_in_range": ~_PRICED | pl.all_horizontal(pl.col(p).is_between("low", "high") for p in ("open", "close")),
    "prices_positive": ~_PRICED | pl.all_horizontal(pl.col(p) > 0 for p in _PRICES),
    "prices_present_when_priced": pl.all_horizontal(pl.col(p).is_not_null() == _PRICED for p in _PRICES),
    "vwap_in_range": pl.col("vwap").is_null() | pl.col("vwap").is_between("low", "high"),
    "vwap_is_notional_by_volume": pl.when(pl.col("priced_volume") == 0)
    .then(pl.col("vwap").is_null() & (pl.col("notional") == 0))
    .otherwise(_units("priced_volume") - _VWAP_ERROR >= _VWAP_ERROR),  # half a unit, without doubling
    "sums_not_negative": pl.all_horizontal(pl.col(column) >= 0 for column in _SUMS),
    "sums_zero_without_trades": ((pl.col("trade_count") > 0) | (pl.col("volume") == 0))
    & (_PRICED | (pl.col("priced_volume") == 0)),
    "made_of_trades": (pl.col("trade_count") > 0) | _PRICED,
    "ends_after_start": pl.col("bar_end") > pl.col("bar_start"),
    "no_overlap": (
        (pl.col("bar_start") >= pl.col("bar_end").shift()) | (pl.col("symbol") != pl.col("symbol").shift())
    ).fill_null(True),
    "of_one_day": pl.col("trade_date") == pl.col("trade_date").min(),
}
"""Invariants of every bar, by name; of bars sorted by symbol and time."""

_OF_ANY_PRICE = {
    "prices_positive": pl.lit(True),
    "sums_not_negative": pl.all_horizontal(pl.col(column) >= 0 for column in _SUMS if column != "notional"),
}
"""The rules in their place where prices may be zero or less."""
