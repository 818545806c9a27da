"""Bars from raw rows, another way: message by message in plain Python, after the rules as they are written down.

Shares nothing with what builds trades and bars. Numbers are whole units (price x 10^10, quantity x 10^8), so that every
sum is exact; they become decimals when a bar is finished.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import ROUND_HALF_UP, Context, Decimal
from zoneinfo import ZoneInfo

import polars as pl
import pyarrow as pa

WIDTHS = {
    "1m": timedelta(minutes=1),
    "5m": timedelta(minutes=5),
    "15m": timedelta(minutes=15),
    "30m": timedelta(minutes=30),
    "1h": timedelta(hours=1),
    "1d": None,
}
COLUMNS = [
    "symbol",
    "exchange_timestamp",
    "sequence_number",
    "trade_id",
    "price",
    "quantity",
    "side",
    "conditions",
    "currency",
    "action",
    "corrects_trade_id",
    "reject_reason",
    "kafka_topic_id",
    "kafka_partition",
    "kafka_offset",
]
_MICROSECOND = timedelta(microseconds=1)
_EXACT = Context(prec=80)

Bar = tuple[object, ...]
"""bar_end, open, high, low, close, volume, vwap, notional, priced_volume, trade_count, priced_count."""
BAR_COLUMNS = (
    "bar_end",
    "open",
    "high",
    "low",
    "close",
    "volume",
    "vwap",
    "notional",
    "priced_volume",
    "trade_count",
    "priced_count",
)


@dataclass(slots=True)
class Message:
    """What one raw row says."""

    at: int
    sequence: int | None
    trade_id: str
    price: int
    quantity: int
    side: str
    conditions: tuple[str, ...]
    currency: str
    action: str
    corrects: str | None
    topic_rank: int
    partition: int
    offset: int

    def content(self) -> tuple[object, ...]:
        return (
            self.trade_id,
            self.action,
            self.corrects,
            self.sequence,
            self.at,
            self.price,
            self.quantity,
            self.side,
            self.conditions,
            self.currency,
        )


@dataclass(slots=True)
class Trade:
    """A trade: where it stands by the message that reported it, what it says by the one that spoke last."""

    placed: Message
    says: Message


@dataclass(slots=True)
class Sums:
    end: datetime
    open: int | None = None
    high: int = 0
    low: int = 0
    close: int = 0
    volume: int = 0
    notional: int = 0
    priced_volume: int = 0
    trades: int = 0
    priced: int = 0


def bars_of_raw(
    raw: pa.Table, day: date, zone: str, no_price: Iterable[str], no_volume: Iterable[str]
) -> dict[str, dict[tuple[str, datetime], Bar]]:
    """All bars of a day, by width, then by symbol and start.

    Args:
        raw: ``COLUMNS`` of the day's raw rows.
        day: The trading day.
        zone: The exchange's time zone.
        no_price: Conditions that set no price.
        no_volume: Conditions that count for no volume.
    """
    start, end = (
        datetime(each.year, each.month, each.day, tzinfo=ZoneInfo(zone)).astimezone(ZoneInfo("UTC"))
        for each in (day, day + timedelta(days=1))
    )
    bars: dict[str, dict[tuple[str, datetime], Bar]] = {width: {} for width in WIDTHS}
    for symbol, messages in _messages_of_symbols(raw):
        trades = _in_market_order(trades_of(messages))
        for width, found in _bars(trades, start, end, frozenset(no_price), frozenset(no_volume)).items():
            bars[width].update({(symbol, at): bar for at, bar in found.items()})
    return bars


def trades_of(messages: Sequence[Message]) -> list[Trade]:
    """One symbol's messages, in order, as the trades that they amount to."""
    trades: dict[str, Trade] = {}
    amendments: dict[tuple[object, ...], Message] = {}
    for each in messages:
        if each.action == "NEW":
            name = each.trade_id or _place_as_name(each)
            trades.setdefault(name, Trade(each, each))
        else:
            amendments.setdefault(each.content(), each)
    trade_named = _followed(trades, list(amendments.values()))
    cancelled = set()
    for each in amendments.values():
        name = trade_named[id(each)]
        if each.action == "CANCEL":
            cancelled.add(name)
        elif name in trades:
            trades[name].says = each
            if trades[name].placed.action != "NEW":
                trades[name].placed = each
        else:
            trades[name] = Trade(each, each)
    return [trade for name, trade in trades.items() if name not in cancelled]


def _followed(trades: Mapping[str, Trade], amendments: Sequence[Message]) -> dict[int, str]:
    """The trade that each amendment is about: the one it names, or the one that the correction it names is about."""
    own = {id(each): each.trade_id or _place_as_name(each) for each in amendments}
    names = {id(each): each.corrects or own[id(each)] for each in amendments}
    leads_to: dict[str, str] = {}
    for each in amendments:
        mine, named = own[id(each)], names[id(each)]
        if each.action == "CORRECT" and named != mine and mine not in trades:
            leads_to[mine] = min(named, leads_to.get(mine, named))
    about = {}
    for each in amendments:
        at, passed = names[id(each)], set()
        while at in leads_to and at not in passed:
            passed.add(at)
            at = leads_to[at]
        about[id(each)] = names[id(each)] if at in passed else at
    return about


def _place_as_name(message: Message) -> str:
    return f"kafka:{message.topic_rank}:{message.partition}:{message.offset}"


def _in_market_order(trades: list[Trade]) -> list[Trade]:
    return sorted(
        trades,
        key=lambda trade: (
            trade.placed.at,
            -1 if trade.placed.sequence is None else trade.placed.sequence,
            trade.says.partition,
            trade.says.offset,
            trade.says.topic_rank,
        ),
    )


def _bars(
    trades: Sequence[Trade], start: datetime, end: datetime, no_price: frozenset[str], no_volume: frozenset[str]
) -> dict[str, dict[datetime, Bar]]:
    midnight = _micros(start)
    found: dict[str, dict[datetime, Bar]] = {}
    for name, width in WIDTHS.items():
        step = None if width is None else width // _MICROSECOND
        sums: dict[int, Sums] = {}
        for trade in trades:
            says = trade.says
            if says.price <= 0 or says.quantity < 0:
                continue
            sets_price = no_price.isdisjoint(says.conditions)
            counts = no_volume.isdisjoint(says.conditions)
            if not (sets_price or counts):
                continue
            slot = 0 if step is None else (trade.placed.at - midnight) // step
            bar = sums.get(slot)
            if bar is None:
                bar = sums[slot] = Sums(end if width is None else start + width * (slot + 1))
            if sets_price:
                price, quantity = says.price, says.quantity
                if bar.open is None:
                    bar.open, bar.high, bar.low = price, price, price
                elif price > bar.high:
                    bar.high = price
                elif price < bar.low:
                    bar.low = price
                bar.close = price
                bar.notional += price * quantity
                bar.priced_volume += quantity
                bar.priced += 1
            if counts:
                bar.volume += says.quantity
                bar.trades += 1
        found[name] = {start + (width or timedelta()) * slot: _finished(bar) for slot, bar in sums.items()}
    return found


def _finished(sums: Sums) -> Bar:
    priced = sums.open is not None
    vwap = None
    if sums.priced_volume:
        exact = _EXACT.divide(_decimal(sums.notional, 18), _decimal(sums.priced_volume, 8))
        vwap = exact.quantize(Decimal("1e-10"), rounding=ROUND_HALF_UP, context=_EXACT)
    return (
        sums.end,
        *((_decimal(each, 10) if priced else None) for each in (sums.open or 0, sums.high, sums.low, sums.close)),
        _decimal(sums.volume, 8),
        vwap,
        _decimal(sums.notional, 18),
        _decimal(sums.priced_volume, 8),
        sums.trades,
        sums.priced,
    )


def _decimal(units: int, places: int) -> Decimal:
    return _EXACT.scaleb(Decimal(units), -places)


def _micros(instant: datetime) -> int:
    return (instant - datetime(1970, 1, 1, tzinfo=ZoneInfo("UTC"))) // _MICROSECOND


def _messages_of_symbols(raw: pa.Table) -> Iterable[tuple[str, list[Message]]]:
    """The live messages of each symbol, in the order in which they were sent."""
    frame = pl.DataFrame(pl.from_arrow(raw.select(COLUMNS))).filter(pl.col("reject_reason").is_null())
    shown = frame.select(
        "symbol",
        pl.col("exchange_timestamp").to_physical(),
        "sequence_number",
        pl.col("trade_id").fill_null(""),
        *(pl.col(name).reinterpret(dtype=pl.Int128).cast(pl.Int64) for name in ("price", "quantity")),
        "side",
        "conditions",
        "currency",
        "action",
        pl.col("corrects_trade_id").replace("", None),
        pl.col("kafka_topic_id").rank("dense").alias("topic"),
        "kafka_partition",
        "kafka_offset",
    )
    for (symbol,), own in (
        shown.sort("topic", "kafka_partition", "kafka_offset").partition_by("symbol", as_dict=True).items()
    ):
        yield (
            str(symbol),
            [Message(*row[:6], tuple(row[6]), *row[7:]) for row in own.drop("symbol").iter_rows()],
        )
