"""Makes the cancels and corrections that K2 itself sends: for ``k2 correct``, ``k2 cancel`` and ``k2 unload``.

They are messages like the exchange's: the trade's own symbol, id, time and trading day, sent after it, so that the
rules of ``docs/corrections.md`` apply and nothing is deleted. ``attributes`` say which command sent them.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import polars as pl

from k2_market.errors import K2Error
from k2_market.feeds.feed import Feed, IdScope, PriceRange
from k2_market.loads.loads import Load, LoadError
from k2_market.schemas.tables import PRICE, QUANTITY
from k2_market.sources.trade import as_source_trades

SENT_BY = "sent_by"
"""The attribute that names the command."""

COLUMNS_READ = (
    "trade_date",
    "symbol",
    "exchange",
    "exchange_timestamp",
    "trade_id",
    "price",
    "quantity",
    "side",
    "conditions",
    "action",
    "corrects_trade_id",
    "correlation_id",
    "reject_reason",
    "kafka_topic_id",
    "kafka_partition",
    "kafka_offset",
)
"""The columns of ``RAW_TRADES`` that amendments are made from."""

_LIKE_THE_TRADE = ("symbol", "exchange", "trade_date", "trade_id", "price", "quantity", "side", "conditions")


class AmendmentError(K2Error):
    """A trade can't be amended as it was asked."""


@dataclass(frozen=True)
class NamedTrade:
    """Names a trade that a person wants to amend.

    Attributes:
        symbol: Its symbol.
        trade_id: Its id as the exchange sent it.
        day: Its trading day; None where the id is there on one day alone.
        exchange: Its venue; None where the id is there at one venue alone.
    """

    symbol: str
    trade_id: str
    day: date | None = None
    exchange: str | None = None

    def __str__(self) -> str:
        """Say it in words."""
        return f"trade {self.trade_id!r} of {self.symbol}"


@dataclass(frozen=True)
class StandingTrade:
    """A trade as it stands after all that was said of it.

    Attributes:
        report: The raw row that reports it.
        values: The row that it has its values of: the last correction, or the report.
    """

    report: Mapping[str, Any]
    values: Mapping[str, Any]


def standing_trade(rows: pl.DataFrame, named: NamedTrade, feed: Feed, topics: Sequence[str]) -> StandingTrade:
    """Find a trade among the raw rows that mention it.

    Args:
        rows: ``COLUMNS_READ`` of live rows of the symbol that have or name the id, corrections of corrections included.
        named: Which trade.
        feed: Whose it is.
        topics: Topic ids, the oldest first.

    Raises:
        AmendmentError: There is no such trade, there are several, or it was cancelled.
    """
    of_venue = rows if named.exchange is None else rows.filter(exchange=named.exchange)
    ages = {topic: age for age, topic in enumerate(topics)}
    ordered = of_venue.with_columns(
        age=pl.col("kafka_topic_id").replace_strict(ages, default=len(ages), return_dtype=pl.Int64)
    ).sort("age", "kafka_partition", "kafka_offset")
    reports = ordered.filter(pl.col("action") == "NEW", pl.col("trade_id") == named.trade_id)
    found = reports if named.day is None else reports.filter(trade_date=named.day)
    _refuse_unless_one(found, reports, named, feed)
    report = found.row(0, named=True)
    amending = ordered.filter(pl.col("action") != "NEW").filter(
        (pl.col("trade_date") == report["trade_date"])
        | ((pl.col("trade_date") > report["trade_date"]) & ~pl.col("trade_date").is_in(reports["trade_date"].implode()))
    )
    cancels = amending.filter(action="CANCEL")
    if not cancels.is_empty():
        at = cancels.row(0, named=True)
        raise AmendmentError(
            f"{named} of {report['trade_date']} was cancelled (partition {at['kafka_partition']}, offset "
            f"{at['kafka_offset']}), and a cancel is final"
        )
    corrections = amending.filter(action="CORRECT")
    return StandingTrade(report, corrections.row(-1, named=True) if corrections.height else report)


def _refuse_unless_one(found: pl.DataFrame, reports: pl.DataFrame, named: NamedTrade, feed: Feed) -> None:
    if found.is_empty():
        days = ", ".join(str(day) for day in reports["trade_date"].unique().sort())
        where = f"; it is there on {days}" if days else ". Is it ingested (`k2 catch-up`), and spelled as it was sent?"
        raise AmendmentError(
            f"{named} is not among the raw rows of {feed.name}{f' on {named.day}' if named.day else ''}{where}"
        )
    days_found = found["trade_date"].unique().sort().to_list()
    if len(days_found) > 1:
        raise AmendmentError(f"{named} is there on {', '.join(map(str, days_found))}; say which by --date")
    venues = found["exchange"].unique().sort().to_list()
    if feed.ids.unique_within is IdScope.VENUE and len(venues) > 1:
        raise AmendmentError(f"{named} is there at {', '.join(map(str, venues))}; say which by --exchange")


def cancel_of(trade: StandingTrade, received: datetime) -> pl.DataFrame:
    """Make the cancel of a trade, ``SOURCE_TRADE``."""
    return _amendment(trade, "CANCEL", {}, "k2 cancel", received)


def correction_of(
    trade: StandingTrade, price: Decimal | None, quantity: Decimal | None, feed: Feed, received: datetime
) -> pl.DataFrame:
    """Make the correction of a trade, ``SOURCE_TRADE``; what is not given stays as it stands.

    Raises:
        AmendmentError: Nothing would change, or a value can't be one of the feed's.
    """
    given = {"price": price, "quantity": quantity}
    changes = {name: value for name, value in given.items() if value is not None and value != trade.values[name]}
    if not changes:
        raise AmendmentError(
            f"the trade has price {trade.values['price'].normalize():f} and quantity "
            f"{trade.values['quantity'].normalize():f} already; expected another --price or --quantity"
        )
    for name, kind in (("price", PRICE), ("quantity", QUANTITY)):
        value = changes.get(name)
        if value is not None and (not value.is_finite() or not _fits(value, kind.precision, kind.scale)):
            raise AmendmentError(
                f"--{name}: found {value}; expected at most {kind.precision - kind.scale} digits before the decimal "
                f"point and {kind.scale} behind it"
            )
    if feed.price.may_be is PriceRange.POSITIVE and changes.get("price", Decimal(1)) <= 0:
        raise AmendmentError(f"--price: found {changes['price']}; expected a price above zero ([price] may_be)")
    if changes.get("quantity", Decimal(1)) < 0:
        raise AmendmentError(f"--quantity: found {changes['quantity']}; expected zero or more")
    return _amendment(trade, "CORRECT", changes, "k2 correct", received)


def _fits(value: Decimal, precision: int, scale: int) -> bool:
    exponent = value.normalize().as_tuple().exponent
    return isinstance(exponent, int) and -exponent <= scale and abs(value) < Decimal(10) ** (precision - scale)


def _amendment(
    trade: StandingTrade, action: str, changes: Mapping[str, Decimal], command: str, received: datetime
) -> pl.DataFrame:
    names = {name: trade.report[name] for name in ("symbol", "exchange", "trade_date", "trade_id")}
    values = {name: trade.values[name] for name in ("price", "quantity", "side", "conditions")}
    row = pl.DataFrame([{**names, **values, **changes}], schema_overrides={"conditions": pl.List(pl.String)})
    return _as_messages(
        row.with_columns(exchange_timestamp=pl.lit(trade.report["exchange_timestamp"])), action, command, received
    )


def cancels_of_load(
    rows: pl.DataFrame, load: Load, others: pl.DataFrame, feed: Feed, received: datetime
) -> pl.DataFrame:
    """Make cancels of all trades that a load alone reported, ``SOURCE_TRADE``.

    Args:
        rows: ``COLUMNS_READ`` of the load's live rows.
        load: The load.
        others: ``trade_date``, ``symbol``, ``exchange`` and ``trade_id`` of ``NEW`` rows that others sent, on the same
            days: trades that are there without the load, which stay.
        feed: Whose trades they are.
        received: The present.

    Raises:
        LoadError: The load has cancels or corrections of trades that it did not bring: these can't be taken back.
    """
    key = ["trade_date", "symbol", "trade_id", *(["exchange"] if feed.ids.unique_within is IdScope.VENUE else [])]
    new = rows.filter(action="NEW")
    amending = rows.filter(pl.col("action") != "NEW").with_columns(
        names=pl.when(pl.col("corrects_trade_id").fill_null("") == "").then("trade_id").otherwise("corrects_trade_id")
    )
    own = pl.concat(
        [new.select("symbol", "trade_id"), amending.filter(action="CORRECT").select("symbol", "trade_id")]
    ).unique()
    foreign = amending.join(own, left_on=["symbol", "names"], right_on=["symbol", "trade_id"], how="anti")
    if not foreign.is_empty():
        row = foreign.row(0, named=True)
        raise LoadError(
            f"load {load.load_id[:8]} has {foreign.height} cancels or corrections of trades that it did not bring, as "
            f"of {row['names']!r} of {row['symbol']}; they can't be taken back. Correct the trades by `k2 correct`"
        )
    alone = new.join(others.select(key).unique(), on=key, how="anti", nulls_equal=True)
    return _as_messages(
        alone.unique(key, keep="first", maintain_order=True), "CANCEL", f"k2 unload {load.load_id}", received
    )


def cancelled_again(trades: pl.DataFrame, cancelled: Collection[tuple[str, str]]) -> list[tuple[str, str]]:
    """List which of some new trades were cancelled by an unload, by symbol and id: they would not count.

    Args:
        trades: ``SOURCE_TRADE``, to be sent.
        cancelled: Symbol and id of trades that unloads cancelled.
    """
    known = set(cancelled)
    new = trades.filter(pl.col("action") == "NEW").select("symbol", "trade_id")
    return sorted({key for key in new.iter_rows() if key in known})


def _as_messages(rows: pl.DataFrame, action: str, command: str, received: datetime) -> pl.DataFrame:
    attributes = pl.lit(
        [{"key": SENT_BY, "value": command}], dtype=pl.List(pl.Struct({"key": pl.String, "value": pl.String}))
    )
    told = rows.select(
        *_LIKE_THE_TRADE,
        pl.col("exchange_timestamp").dt.epoch("us").alias("exchange_timestamp_us"),
        pl.lit(action).alias("action"),
        pl.col("trade_id").alias("corrects_trade_id"),
        attributes.alias("attributes"),
    )
    return as_source_trades(told, received=received)
