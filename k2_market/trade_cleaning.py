"""Makes one clean trading day out of the messages of the raw table.

What the messages say is settled in this order:

1. Dead letters are left out.
2. A ``NEW`` message that repeats ``(symbol, trade_id)`` is left out; the first in message order stays, also where
   the two differ (a *conflicting id*). A trade without an id is never taken for a repetition: rows with equal
   content are genuine fills. It is named after its place in Kafka.
3. A ``CORRECT`` or ``CANCEL`` with the content of an earlier one is a repetition too. Content is what the exchange
   said: not ``message_id``, not ``received_timestamp``, not the place in Kafka.
4. A ``CORRECT`` gives its trade new values: price, quantity, side, conditions, currency, and its own place in Kafka,
   so that a value can be traced to the message that said it. The trade keeps its place in the market: trade_id,
   exchange_timestamp, sequence_number, trade_date; a correction sent at four o'clock does not move a trade of ten
   o'clock into the closing bar. Of several corrections the last in message order counts. One that names the
   trade_id of another correction, as FIX does, is followed back to the trade itself.
5. A correction of a trade that the day does not hold is taken as that trade, under the id that it corrects.
6. A cancelled trade is left out, and stays so whatever corrections name it. A cancel that names nothing does nothing.

Message order is that of topic, partition and offset; a symbol's messages share a partition. Nothing depends on the
order of the table's rows, so loading the same messages again changes nothing.

``NEW``, ``CORRECT`` and ``CANCEL`` are FIX TradeReportTransType 0, 2 and 1; that a correction keeps the trade's time
is the practice of NYSE TAQ.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from k2_market.conditions import price_eligible, volume_eligible
from k2_market.errors import K2Error
from k2_market.feed import Conditions
from k2_market.repeated_keys import rows_sharing_a_key
from k2_market.table_order import in_table_order
from k2_market.table_schemas import TRADES


class IncompleteTradeError(K2Error):
    """A raw row that is no dead letter lacks a value that every trade has."""


@dataclass(frozen=True)
class CleaningCounts:
    """What became of a day's messages.

    They always add up::

        raw_rows == dead_letters + duplicates + cancels + corrections + new_trades
        trades == new_trades + unmatched_corrections - cancelled

    Attributes:
        raw_rows: Rows of the raw table.
        dead_letters: Rows that would not decode.
        duplicates: Messages of any action that repeat an earlier one.
        conflicting_ids: Distinct ``(symbol, trade_id)`` that ``NEW`` messages use for differing trades.
        new_trades: Distinct trades that a ``NEW`` message reports.
        cancels: Distinct ``CANCEL`` messages.
        cancelled: Trades that a cancel took out.
        corrections: Distinct ``CORRECT`` messages.
        unmatched_cancels: Distinct ``CANCEL`` messages that name no trade of the day.
        unmatched_corrections: Trades that only ``CORRECT`` messages report.
        trades: Rows of the clean table.
    """

    raw_rows: int
    dead_letters: int
    duplicates: int
    conflicting_ids: int
    new_trades: int
    cancels: int
    cancelled: int
    corrections: int
    unmatched_cancels: int
    unmatched_corrections: int
    trades: int


@dataclass(frozen=True)
class CleanDay:
    """A clean trading day.

    Attributes:
        trades: ``TRADES``, unique by (symbol, trade_id), in table order: by symbol, exchange_timestamp,
            sequence_number (none first), kafka_partition and kafka_offset.
        counts: How it came about.
    """

    trades: pa.Table
    counts: CleaningCounts


_PLACE_IN_MARKET = ("trade_date", "symbol", "exchange_timestamp", "sequence_number")
_SAID_LAST = ("price", "quantity", "side", "conditions", "currency", "received_timestamp")
_PLACE_IN_KAFKA = ("kafka_topic_id", "kafka_partition", "kafka_offset")

COLUMNS_READ = (
    *_PLACE_IN_MARKET,
    "trade_id",
    *_SAID_LAST,
    "action",
    "corrects_trade_id",
    "reject_reason",
    *_PLACE_IN_KAFKA,
)
"""The raw table's columns that cleaning needs; a caller that reads no others saves memory."""

_ALWAYS_SAID = ("symbol", "exchange_timestamp", "price", "quantity", "side", "conditions", "currency")
_MESSAGE_ORDER = ("topic_rank", "kafka_partition", "kafka_offset")
_TRADE_KEY = ("symbol", "trade_id")
_TRADE_CONTENT = ("exchange_timestamp", "price", "quantity", "side", "conditions", "currency")
_AMENDMENT_CONTENT = (*_TRADE_KEY, "action", "corrects_trade_id", "sequence_number", *_TRADE_CONTENT)


def clean_day(raw: pa.Table, conditions: Conditions, topic_order: Sequence[str] = ()) -> CleanDay:
    """The clean trades that a day's messages amount to.

    Args:
        raw: Rows of ``RAW_TRADES`` of one trading day, in any order; at least ``COLUMNS_READ``.
        conditions: The feed's conditions profile, which marks eligibility.
        topic_order: Topic ids, oldest first, of a feed whose topic was made anew; others follow by id.

    Raises:
        IncompleteTradeError: A live row lacks a value that ``TRADES`` requires.
    """
    _refuse_incomplete(raw)
    messages = _messages(raw, topic_order)
    live = messages if raw["reject_reason"].null_count == raw.num_rows else messages.filter(~pl.col("dead"))
    is_amendment = live["action"].is_in(["CORRECT", "CANCEL"])
    if is_amendment.any():
        reported, amendments = live.filter(~is_amendment), live.filter(is_amendment)
    else:
        reported, amendments = live, live.clear()

    repeated = _repeated(reported)
    new = reported if repeated.is_empty() else reported.join(repeated, on="row", how="anti")
    distinct_amendments = _distinct_amendments(raw, amendments)
    amended = _amended(new, distinct_amendments)
    trades = in_table_order(amended.trades, ties=["topic_rank"])

    counts = CleaningCounts(
        raw_rows=raw.num_rows,
        dead_letters=messages.height - live.height,
        duplicates=repeated.height + amendments.height - distinct_amendments.height,
        conflicting_ids=_conflicting_ids(raw, repeated),
        new_trades=new.height,
        cancels=amended.cancels,
        cancelled=amended.cancelled,
        corrections=distinct_amendments.height - amended.cancels,
        unmatched_cancels=amended.unmatched_cancels,
        unmatched_corrections=amended.unmatched_corrections,
        trades=trades.height,
    )
    return CleanDay(_trades_table(raw, trades, conditions), counts)


def _messages(raw: pa.Table, topic_order: Sequence[str]) -> pl.DataFrame:
    """What decides about a message, a row each: ``row`` is its place in ``raw``, ``topic_rank`` its topic's."""
    columns = ["symbol", "trade_id", "action", "corrects_trade_id", "exchange_timestamp", "sequence_number"]
    messages = _frame(raw.select([*columns, "reject_reason", *_PLACE_IN_KAFKA]))
    rank = {topic: place for place, topic in enumerate(topic_order)}
    topics = sorted(messages["kafka_topic_id"].unique(), key=lambda topic: (rank.get(topic, len(rank)), topic))
    trade_id = pl.col("trade_id")
    if (messages["trade_id"].is_null() | (messages["trade_id"] == "")).any():
        trade_id = pl.when(trade_id.is_null() | (trade_id == "")).then(_NAME_BY_KAFKA_PLACE).otherwise(trade_id)
    return messages.with_row_index("row").select(
        pl.col("row").cast(pl.Int64),
        "symbol",
        trade_id.alias("trade_id"),
        *columns[2:],
        *_PLACE_IN_KAFKA[1:],
        pl.col("kafka_topic_id").cast(pl.Enum(topics)).to_physical().cast(pl.Int32).alias("topic_rank"),
        pl.col("reject_reason").is_not_null().alias("dead"),
    )


_NAME_BY_KAFKA_PLACE = pl.format("kafka:{}:{}:{}", *_PLACE_IN_KAFKA)


def _repeated(reported: pl.DataFrame) -> pl.DataFrame:
    """The ``NEW`` messages that repeat an earlier one: ``row``, and ``first_row``, which is the one that stays."""
    suspects = rows_sharing_a_key(reported, _TRADE_KEY).sort(_MESSAGE_ORDER)
    first = suspects.unique(_TRADE_KEY, keep="first", maintain_order=True).select(*_TRADE_KEY, first_row="row")
    paired = suspects.join(first, on=_TRADE_KEY)
    return paired.filter(pl.col("row") != pl.col("first_row")).select("row", "first_row")


def _conflicting_ids(raw: pa.Table, repeated: pl.DataFrame) -> int:
    """How many ids name trades that differ from the first of that id."""
    if repeated.is_empty():
        return 0
    again, first = (_content(raw, repeated[column], _TRADE_CONTENT) for column in ("row", "first_row"))
    differs = pl.any_horizontal(again[column].ne_missing(first[column]) for column in _TRADE_CONTENT)
    return repeated.filter(pl.select(differs).to_series())["first_row"].n_unique()


def _distinct_amendments(raw: pa.Table, amendments: pl.DataFrame) -> pl.DataFrame:
    """Corrections and cancels in message order, repetitions left out."""
    if amendments.is_empty():
        return amendments
    content = _content(raw, amendments["row"], _AMENDMENT_CONTENT).rename(lambda name: f"said_{name}")
    said = content.columns
    in_order = pl.concat([amendments, content], how="horizontal").sort(_MESSAGE_ORDER)
    return in_order.unique(said, keep="first", maintain_order=True).drop(said)


@dataclass(frozen=True)
class _Amended:
    """``trades`` with ``value_row`` (whose values hold) beside ``row`` (whose place in the market holds)."""

    trades: pl.DataFrame
    cancels: int
    cancelled: int
    unmatched_cancels: int
    unmatched_corrections: int


def _amended(new: pl.DataFrame, amendments: pl.DataFrame) -> _Amended:
    """Cancels and corrections applied to the trades."""
    reported = new.with_columns(pl.col("row").alias("value_row"), pl.lit(False).alias("corrected"))
    if amendments.is_empty():
        return _Amended(reported, 0, 0, 0, 0)
    named = _with_trade_named(new, amendments)
    cancels = named.filter(pl.col("action") == "CANCEL")
    corrections = named.filter(pl.col("action") == "CORRECT")
    last = (
        corrections.unique(["symbol", "names"], keep="last", maintain_order=True)
        .drop("trade_id")
        .rename({"names": "trade_id"})
    )

    values = last.select(*_TRADE_KEY, *_MESSAGE_ORDER, value_row="row", corrected=pl.lit(True))
    untouched = reported.join(values, on=_TRADE_KEY, how="anti")
    matched = new.drop(_MESSAGE_ORDER).join(values, on=_TRADE_KEY).select(reported.columns)
    unmatched = (
        last.join(new, on=_TRADE_KEY, how="anti")
        .with_columns(pl.col("row").alias("value_row"), pl.lit(True).alias("corrected"))
        .select(reported.columns)
    )
    known = pl.concat([untouched, matched, unmatched])
    cancelled_keys = cancels.select("symbol", trade_id="names")
    trades = known.join(cancelled_keys.unique(), on=_TRADE_KEY, how="anti")
    return _Amended(
        trades=trades,
        cancels=cancels.height,
        cancelled=known.height - trades.height,
        unmatched_cancels=cancelled_keys.join(known, on=_TRADE_KEY, how="anti").height,
        unmatched_corrections=unmatched.height,
    )


def _with_trade_named(new: pl.DataFrame, amendments: pl.DataFrame) -> pl.DataFrame:
    """The amendments with ``names``: the id of the trade that each is about, chains of corrections followed back."""
    corrects = pl.col("corrects_trade_id")
    direct = amendments.with_columns(
        pl.when(corrects.is_null() | (corrects == "")).then("trade_id").otherwise(corrects).alias("names")
    )
    mentioned = pl.concat([direct.select(_TRADE_KEY), direct.select("symbol", pl.col("names").alias("trade_id"))])
    trades = set(mentioned.unique().join(new, on=_TRADE_KEY, how="semi").iter_rows())
    links: dict[tuple[str, str], str] = {}
    for action, symbol, trade_id, named in direct.select("action", *_TRADE_KEY, "names").iter_rows():
        if action == "CORRECT" and trade_id != named:
            links[symbol, trade_id] = min(named, links.get((symbol, trade_id), named))

    def origin(symbol: str, named: str) -> str:
        """The end of the links from ``named``; itself where they go round in a circle."""
        reached, passed = named, set()
        while (symbol, reached) in links and (symbol, reached) not in trades:
            if reached in passed:
                return named
            passed.add(reached)
            reached = links[symbol, reached]
        return reached

    names = [origin(symbol, name) for symbol, name in direct.select("symbol", "names").iter_rows()]
    return direct.with_columns(pl.Series("names", names, pl.String))


def _trades_table(raw: pa.Table, trades: pl.DataFrame, conditions: Conditions) -> pa.Table:
    """``TRADES``, put together from the raw rows that the trades point at."""
    placed, valued = trades["row"].to_arrow(), trades["value_row"].to_arrow()
    columns = {column: _taken(raw, column, placed) for column in _PLACE_IN_MARKET}
    columns |= {column: _taken(raw, column, valued) for column in (*_SAID_LAST, *_PLACE_IN_KAFKA)}
    columns["trade_id"] = trades["trade_id"].to_arrow().cast(pa.string())
    columns["corrected"] = trades["corrected"].to_arrow()
    judged = _frame(pa.table({column: columns[column] for column in ("conditions", "price", "quantity")})).select(
        price_eligible=price_eligible(conditions), volume_eligible=volume_eligible(conditions)
    )
    columns["price_eligible"] = judged["price_eligible"].to_arrow()
    columns["volume_eligible"] = judged["volume_eligible"].to_arrow()
    return pa.table({field.name: columns[field.name].cast(field.type) for field in TRADES}, schema=TRADES)


def _refuse_incomplete(raw: pa.Table) -> None:
    live = raw["reject_reason"].is_null()
    for column in _ALWAYS_SAID:
        if raw[column].null_count and pc.any(lacks := pc.and_(raw[column].is_null(), live)).as_py():
            row = raw.select(_PLACE_IN_KAFKA).filter(lacks).slice(0, 1).to_pylist()[0]
            raise IncompleteTradeError(
                f"raw_trades row {row['kafka_topic_id']}/{row['kafka_partition']}/{row['kafka_offset']}: "
                f"a message that is no dead letter has no {column}; expected a value. "
                "It was not decoded by K2: make it a dead letter."
            )


def _taken(raw: pa.Table, column: str, rows: pa.Array) -> pa.Array:
    whole = raw[column].combine_chunks()
    return whole.take(rows)


def _content(raw: pa.Table, rows: pl.Series, columns: Sequence[str]) -> pl.DataFrame:
    return _frame(raw.select(columns).take(rows.to_arrow()))


def _frame(table: pa.Table) -> pl.DataFrame:
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    return frame
