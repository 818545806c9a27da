"""Simulates a trading day: plausible trades, the same ones for the same seed.

What it has of a real day: an opening and a closing auction with one price and much volume in each symbol; arrivals
that are dense at both ends of the day and come in bursts, each trade drawing others after it (a Hawkes process); few
symbols with most of the trades (Zipf); prices that walk on a grid of ticks between a bid and an ask; round lots;
crossings away from the market under the feed's excluded conditions; some cancels and corrections; sequence numbers
without holes.
"""

from dataclasses import dataclass
from datetime import date, datetime

import numpy as np
import numpy.typing as npt
import polars as pl

from k2_market.errors import K2Error
from k2_market.feeds.feed import Feed
from k2_market.feeds.trading_calendar import Session
from k2_market.schemas.tables import PRICE, QUANTITY
from k2_market.sources.trade import SOURCE_TRADE

NO_MARKET = "XXXX"
"""ISO 10383's code for "no market": feeds that are simulated have it, so that no real feed gets invented trades."""

DEFAULT_SYMBOLS = 50

_OPENING_SHARE, _CLOSING_SHARE = 0.01, 0.03
_CROSSING_SHARE = 0.004
_AMENDMENT_SHARE = 0.002
_FEWEST_FOR_AMENDMENTS = 1_000

_ZIPF_EXPONENT = 1.0
_CHILDREN = 0.5
"""Trades that a trade draws after it, on average; below 1, or bursts would never end."""
_CHILD_DELAY_SECONDS = 4.0
_EDGE_DENSITY = 3.0
"""Density of arrivals at the open and the close relative to midday, less 1."""

_TICK_CENTS = 1
_LOWEST_CENTS, _HIGHEST_CENTS = 2_000, 40_000
_OVERNIGHT_MOVE = 0.01
"""Standard deviation of the logarithm of a day's first price against the symbol's usual one."""
_MARKET_SEED = 1
_TICK_MOVES, _TICK_MOVE_SHARES = (-1, 0, 1), (0.15, 0.7, 0.15)
_ROUND_LOT = 100
_MOST_LOTS = 1_000

_AUCTION_SECONDS = 2.0
_QUIET_SECONDS = 3.0
"""Between an auction and the trading beside it."""
_AMENDED_AFTER_SECONDS = (1.0, 60.0)

_Floats = npt.NDArray[np.float64]
_Ints = npt.NDArray[np.int64]
_Flags = npt.NDArray[np.bool_]


class SimulationError(K2Error):
    """A day can't be simulated for a feed."""


def simulate_day(
    feed: Feed, session: Session, trade_date: date, trades: int, seed: int, symbols: int = DEFAULT_SYMBOLS
) -> pl.DataFrame:
    """Return the trades of a simulated day, in the order in which the exchange tells them.

    Args:
        feed: Whose day it is; its ``mic`` is ``XXXX``.
        session: The day's session.
        trade_date: The day.
        trades: How many messages, cancels and corrections among them.
        seed: The same seed gives the same trades.
        symbols: How many instruments trade, or fewer where there are few trades.

    Returns:
        ``SOURCE_TRADE``, sorted by time; each symbol's sequence numbers count up from 1.

    Raises:
        SimulationError: The feed is a real one.
    """
    if feed.mic != NO_MARKET:
        raise SimulationError(
            f"feed {feed.name}: mic is {feed.mic!r}, expected {NO_MARKET!r}: invented trades never go where real ones "
            "do. Declare a feed of its own for them."
        )
    rng = np.random.default_rng([seed, trade_date.toordinal()])
    amendments = int(trades * _AMENDMENT_SHARE) if trades >= _FEWEST_FOR_AMENDMENTS else 0
    prints = _arrivals(rng, session, trades - amendments, symbols, auctions=not feed.always_open)
    priced = _priced(rng, prints, feed, symbols)
    return _told(rng, _with_amendments(rng, priced, amendments, session), trade_date, len(str(symbols)))


@dataclass(frozen=True)
class _Prints:
    """New trades sorted by symbol and time; ``auction`` marks those of an auction."""

    symbol: _Ints
    time_us: _Ints
    auction: _Flags


def _arrivals(rng: np.random.Generator, session: Session, count: int, symbols: int, *, auctions: bool) -> _Prints:
    start_us, end_us = _microseconds(session.open), _microseconds(session.close)
    weights = np.arange(1, symbols + 1, dtype=np.float64) ** -_ZIPF_EXPONENT
    shares: _Floats = weights / weights.sum()
    opening = int(count * _OPENING_SHARE) if auctions else 0
    closing = int(count * _CLOSING_SHARE) if auctions else 0
    parts = [
        _auction(rng, start_us, opening, shares),
        _bursts(rng, start_us, end_us, count - opening - closing, shares),
        _auction(rng, end_us, closing, shares),
    ]
    symbol = np.concatenate([part[0] for part in parts])
    time_us = np.concatenate([part[1] for part in parts])
    auction = np.repeat([True, False, True], [opening, count - opening - closing, closing])
    order = np.lexsort((time_us, symbol))
    return _Prints(symbol[order], time_us[order], auction[order])


def _auction(rng: np.random.Generator, from_us: int, count: int, shares: _Floats) -> tuple[_Ints, _Ints]:
    """Fills of an auction: all of a symbol's at one instant."""
    instants = from_us + rng.integers(0, int(_AUCTION_SECONDS * 1e6), len(shares))
    symbol = rng.choice(len(shares), count, p=shares)
    return symbol, instants[symbol]


def _bursts(rng: np.random.Generator, start_us: int, end_us: int, count: int, shares: _Floats) -> tuple[_Ints, _Ints]:
    """Return trades between the auctions: some come by themselves, denser at the ends of the day; each draws others."""
    first, length = start_us + _QUIET_SECONDS * 1e6, end_us - start_us - 2 * _QUIET_SECONDS * 1e6
    grid = np.linspace(0.0, 1.0, 1_001)
    cumulated = np.concatenate([[0.0], np.cumsum(1 + _EDGE_DENSITY * (grid[1:] * 2 - 1) ** 2)])
    symbols, times = np.empty(0, np.int64), np.empty(0)
    while len(times) < count:
        alone = int((count - len(times)) * (1 - _CHILDREN) * 1.05) + 10
        new_symbols = rng.choice(len(shares), alone, p=shares)
        new_times = first + length * np.interp(rng.random(alone), cumulated / cumulated[-1], grid)
        while len(new_times):
            inside = new_times < first + length
            new_symbols, new_times = new_symbols[inside], new_times[inside]
            symbols, times = np.concatenate([symbols, new_symbols]), np.concatenate([times, new_times])
            drawn = rng.poisson(_CHILDREN, len(new_times))
            new_symbols = np.repeat(new_symbols, drawn)
            new_times = np.repeat(new_times, drawn) + rng.exponential(_CHILD_DELAY_SECONDS * 1e6, drawn.sum())
    kept = rng.permutation(len(times))[:count]
    return symbols[kept], times[kept].astype(np.int64)


def _priced(rng: np.random.Generator, prints: _Prints, feed: Feed, symbols: int) -> pl.DataFrame:
    """Return the prints with ``cents``, ``quantity``, ``side`` and ``condition``."""
    count = len(prints.symbol)
    starts = (_usual_cents(symbols) * np.exp(rng.normal(0.0, _OVERNIGHT_MOVE, symbols))).astype(np.int64)
    moves = np.where(prints.auction, 0, rng.choice(_TICK_MOVES, count, p=_TICK_MOVE_SHARES))
    bid = np.maximum(starts[prints.symbol] + _TICK_CENTS * _sums_within(prints.symbol, moves), _TICK_CENTS)
    buys = rng.random(count) < 0.5
    cents = np.where(prints.auction, bid, bid + _TICK_CENTS * buys)
    lots = np.minimum(1 + np.exp(rng.normal(0.3, 1.0, count)).astype(np.int64), _MOST_LOTS)
    lots = np.where(prints.auction, 5 * lots, lots)

    codes = sorted(feed.conditions.no_price)
    crossing = ~prints.auction & (rng.random(count) < (_CROSSING_SHARE if codes else 0.0))
    away = 1 + rng.uniform(0.03, 0.15, count) * rng.choice((-1, 1), count)
    cents = np.where(crossing, np.maximum((cents * away).astype(np.int64), _TICK_CENTS), cents)
    lots = np.where(crossing, 50 * lots, lots)
    code = np.where(crossing, rng.integers(0, max(len(codes), 1), count), -1)
    side = np.where(prints.auction | crossing, "UNKNOWN", np.where(buys, "BUY", "SELL"))
    return pl.DataFrame(
        {
            "symbol": prints.symbol,
            "time_us": prints.time_us,
            "cents": cents,
            "quantity": lots * _ROUND_LOT,
            "side": side,
            "condition": pl.Series(code).replace_strict({**dict(enumerate(codes)), -1: None}, return_dtype=pl.String),
            "amendable": ~(prints.auction | crossing),
        }
    )


def _usual_cents(symbols: int) -> _Floats:
    """Give each symbol's usual price: the same on every day and of every seed, so that days lie beside one another."""
    places = np.random.default_rng(_MARKET_SEED).random(symbols)
    usual: _Floats = np.exp(np.log(_LOWEST_CENTS) + places * np.log(_HIGHEST_CENTS / _LOWEST_CENTS))
    return usual


def _sums_within(group: _Ints, values: _Ints) -> _Ints:
    """Return running sums that begin anew with every group; the groups stand together."""
    sums = np.cumsum(values)
    begins = np.flatnonzero(np.diff(group, prepend=-1))
    before = sums[begins] - values[begins]
    return sums - np.repeat(before, np.diff(begins, append=len(group)))


def _with_amendments(rng: np.random.Generator, prints: pl.DataFrame, count: int, session: Session) -> pl.DataFrame:
    """Return the prints with ``count`` cancels and corrections, with ``action`` and ``amends`` (a print's place)."""
    prints = prints.with_row_index("print").with_columns(
        pl.col("print").cast(pl.Int64), action=pl.lit("NEW"), amends=pl.lit(None, pl.Int64)
    )
    latest_us = _microseconds(session.close) - int(_AMENDED_AFTER_SECONDS[1] * 1e6)
    amendable = prints.filter(pl.col("amendable") & (pl.col("time_us") < latest_us))
    chosen = amendable[np.sort(rng.permutation(amendable.height)[:count])]
    corrects = np.arange(chosen.height) % 2 == 0
    amendments = chosen.with_columns(
        amends="print",
        print=pl.lit(None, pl.Int64),
        time_us=pl.col("time_us") + pl.Series(rng.uniform(*_AMENDED_AFTER_SECONDS, chosen.height) * 1e6).cast(pl.Int64),
        cents=pl.col("cents") + _TICK_CENTS * pl.Series(corrects).cast(pl.Int64),
        action=pl.Series(np.where(corrects, "CORRECT", "CANCEL")),
    )
    return pl.concat([prints, amendments])


def _told(rng: np.random.Generator, messages: pl.DataFrame, trade_date: date, symbol_digits: int) -> pl.DataFrame:
    """Return the messages as ``SOURCE_TRADE``, in time order, with ids and sequence numbers."""
    ordered = messages.sort("time_us", "symbol", maintain_order=True).with_columns(
        sequence_number=pl.col("time_us").cum_count().over("symbol").cast(pl.Int64)
    )
    trade_id = pl.format("{}-{}", pl.lit(f"{trade_date:%Y%m%d}"), "sequence_number")
    ordered = ordered.with_columns(trade_id=trade_id)
    amended = ordered.filter(pl.col("print").is_not_null()).select(amends="print", corrects_trade_id="trade_id")
    latency_us = pl.Series(rng.lognormal(np.log(400.0), 0.5, ordered.height)).cast(pl.Int64)
    return (
        ordered.join(amended, on="amends", how="left", maintain_order="left")
        .with_columns(
            symbol=pl.lit("SIM") + (pl.col("symbol") + 1).cast(pl.String).str.zfill(symbol_digits),
            exchange_timestamp_us="time_us",
            trade_date=pl.lit(trade_date),
            price=_decimal("cents", PRICE.precision, PRICE.scale) / 100,
            quantity=_decimal("quantity", QUANTITY.precision, QUANTITY.scale),
            conditions=pl.when(pl.col("condition").is_null())
            .then(pl.lit([], pl.List(pl.String())))
            .otherwise(pl.concat_list("condition")),
            received_timestamp_us=pl.col("time_us") + latency_us,
            attributes=pl.lit(None),
            exchange=pl.lit(None),
        )
        .select(pl.col(name).cast(dtype) for name, dtype in SOURCE_TRADE.items())
    )


def _decimal(column: str, precision: int, scale: int) -> pl.Expr:
    return pl.col(column).cast(pl.Decimal(precision, scale))


def _microseconds(instant: datetime) -> int:
    return round(instant.timestamp() * 1_000_000)
