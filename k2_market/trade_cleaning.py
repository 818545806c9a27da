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

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from k2_market.conditions import price_eligible, volume_eligible
from k2_market.errors import K2Error
from k2_market.feed import Conditions
from k2_market.repeated_keys import rows_perhaps_sharing_a_key
from k2_market.table_order import table_order
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

    def __add__(self, other: "CleaningCounts") -> "CleaningCounts":
        """Those of two parts of a day that share no symbol."""
        return CleaningCounts(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))


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
_AMENDMENT_CONTENT = ("symbol", "own_id", "action", "corrects_trade_id", "sequence_number", *_TRADE_CONTENT)


def clean_day(raw: pa.Table, conditions: Conditions, topic_order: Sequence[str] = ()) -> CleanDay:
    """The clean trades that a day's messages amount to.

    No symbol has to do with another: a day may be cleaned in parts (``symbol_parts``), and their trades one part after
    the other are the day's.

    Args:
        raw: Rows of ``RAW_TRADES`` of one trading day, in any order; at least ``COLUMNS_READ``.
        conditions: The feed's conditions profile, which marks eligibility.
        topic_order: Topic ids, oldest first, of a feed whose topic was made anew; others follow by id.

    Raises:
        IncompleteTradeError: A live row lacks a value that ``TRADES`` requires.
    """
    _refuse_incomplete(raw)
    live = _live_messages(raw, topic_order)
    amends = _amends(raw, live)
    reported = live.filter(~amends) if amends.any() else live
    repeated = _repeated(reported)
    new = _without(reported, repeated)
    amendments = _in_message_order(_with_content(raw, live.filter(amends)))
    distinct = amendments.unique(_AMENDMENT_CONTENT, keep="first", maintain_order=True)
    amended = _amended(new, distinct)

    counts = CleaningCounts(
        raw_rows=raw.num_rows,
        dead_letters=raw.num_rows - live.height,
        duplicates=repeated.height + amendments.height - distinct.height,
        conflicting_ids=_conflicting_ids(raw, repeated),
        new_trades=new.height,
        cancels=amended.cancels,
        cancelled=amended.cancelled,
        corrections=distinct.height - amended.cancels,
        unmatched_cancels=amended.unmatched_cancels,
        unmatched_corrections=amended.unmatched_corrections,
        trades=amended.trades.height,
    )
    return CleanDay(_trades_table(raw, amended.trades, conditions), counts)


def _live_messages(raw: pa.Table, topic_order: Sequence[str]) -> pl.DataFrame:
    """What tells the live messages apart and puts them in order, without what they say.

    ``row`` is a message's position in ``raw``, ``topic_rank`` its topic's age. Symbols are an ``Enum`` in
    alphabetical order, which is much quicker to compare and to sort than text.
    """
    messages = _frame(raw.select([*_TRADE_KEY, "exchange_timestamp", "sequence_number", *_PLACE_IN_KAFKA[1:]]))
    named = messages["trade_id"].is_not_null() & (messages["trade_id"] != "")
    if not named.all():
        places = _frame(raw.select(_PLACE_IN_KAFKA)).select(pl.format("kafka:{}:{}:{}", *_PLACE_IN_KAFKA))
        messages = messages.with_columns(messages["trade_id"].zip_with(named, places.to_series()))
    live = messages.with_row_index("row").with_columns(
        pl.col("row").cast(pl.Int64),
        pl.col("symbol").cast(pl.Enum(messages["symbol"].drop_nulls().unique().sort())),
        _topic_rank(raw["kafka_topic_id"], topic_order),
    )
    if raw["reject_reason"].null_count == raw.num_rows:
        return live
    return live.filter(_series(raw["reject_reason"].is_null()))


def _topic_rank(topic_ids: pa.ChunkedArray, topic_order: Sequence[str]) -> pl.Series:
    rank = {topic: place for place, topic in enumerate(topic_order)}
    topics = sorted(topic_ids.unique().to_pylist(), key=lambda topic: (rank.get(topic, len(rank)), topic))
    return _series(pc.index_in(topic_ids, value_set=pa.array(topics, topic_ids.type))).alias("topic_rank")


def _amends(raw: pa.Table, live: pl.DataFrame) -> pl.Series:
    """Whether each live message is a correction or a cancel."""
    amends = _series(pc.or_(pc.equal(raw["action"], "CORRECT"), pc.equal(raw["action"], "CANCEL"))).fill_null(False)
    return amends if live.height == raw.num_rows else amends.gather(live["row"])


def _repeated(reported: pl.DataFrame) -> pl.DataFrame:
    """The ``NEW`` messages that repeat an earlier one: ``row``, and ``first_row``, which is the one that stays."""
    suspects = _in_message_order(
        rows_perhaps_sharing_a_key(reported, _TRADE_KEY).select(*_TRADE_KEY, "row", *_MESSAGE_ORDER)
    )
    paired = suspects.select("row", pl.col("row").first().over(_TRADE_KEY).alias("first_row"))
    return paired.filter(pl.col("row") != pl.col("first_row"))


def _in_message_order(messages: pl.DataFrame) -> pl.DataFrame:
    """Sorts by topic, partition and offset: by one number made of the three where 63 bits hold it."""
    if messages.is_empty():
        return messages
    topics, partitions, offsets = (highest + 1 for highest in messages.select(pl.col(_MESSAGE_ORDER).max()).row(0))
    if topics * partitions * offsets >= 2**63:
        return messages.sort(_MESSAGE_ORDER)
    topic, partition, offset = (pl.col(column).cast(pl.Int64) for column in _MESSAGE_ORDER)
    return messages[messages.select((topic * partitions + partition) * offsets + offset).to_series().arg_sort()]


def _without(messages: pl.DataFrame, left_out: pl.DataFrame) -> pl.DataFrame:
    return messages if left_out.is_empty() else messages.join(left_out, on="row", how="anti")


def _conflicting_ids(raw: pa.Table, repeated: pl.DataFrame) -> int:
    """How many ids name trades that differ from the first of that id."""
    if repeated.is_empty():
        return 0
    again, first = (_content(raw, repeated[column], _TRADE_CONTENT) for column in ("row", "first_row"))
    differs = pl.any_horizontal(again[column].ne_missing(first[column]) for column in _TRADE_CONTENT)
    return repeated.filter(pl.select(differs).to_series())["first_row"].n_unique()


@dataclass(frozen=True)
class _Amended:
    """``trades`` with ``value_row`` (whose values hold) beside ``row`` (whose place in the market holds)."""

    trades: pl.DataFrame
    cancels: int
    cancelled: int
    unmatched_cancels: int
    unmatched_corrections: int


def _amended(new: pl.DataFrame, amendments: pl.DataFrame) -> _Amended:
    """Cancels and corrections applied to the trades; the many that none of them names are not touched."""
    place, message = ("row", *_TRADE_KEY, "exchange_timestamp", "sequence_number"), _MESSAGE_ORDER
    as_reported = new.select(*place, *message, pl.col("row").alias("value_row"), pl.lit(False).alias("corrected"))
    if amendments.is_empty():
        return _Amended(as_reported, 0, 0, 0, 0)

    about = _with_trade_named(new, amendments)
    cancels = about.filter(pl.col("action") == "CANCEL").select(_TRADE_KEY)
    last = about.filter(pl.col("action") == "CORRECT").unique(_TRADE_KEY, keep="last", maintain_order=True)
    named = as_reported.join(about, on=_TRADE_KEY, how="semi")
    values = last.select(*_TRADE_KEY, *message, pl.col("row").alias("value_row"), pl.lit(True).alias("corrected"))
    known = pl.concat(
        [
            named.join(last, on=_TRADE_KEY, how="anti"),
            named.select(place).join(values, on=_TRADE_KEY),
            last.select(place).join(named, on=_TRADE_KEY, how="anti").join(values, on=_TRADE_KEY),
        ]
    )
    standing = known.join(cancels, on=_TRADE_KEY, how="anti")
    return _Amended(
        trades=pl.concat([_without(as_reported, named), standing]),
        cancels=cancels.height,
        cancelled=known.height - standing.height,
        unmatched_cancels=cancels.join(known, on=_TRADE_KEY, how="anti").height,
        unmatched_corrections=known.height - named.height,
    )


def _with_trade_named(new: pl.DataFrame, amendments: pl.DataFrame) -> pl.DataFrame:
    """The amendments, each with the trade_id of the trade that it is about in place of its own."""
    corrects = pl.col("corrects_trade_id")
    direct = amendments.with_columns(
        pl.when(corrects.is_null() | (corrects == "")).then("trade_id").otherwise(corrects).alias("names")
    )
    mentioned = pl.concat([direct.select(_TRADE_KEY), direct.select("symbol", pl.col("names").alias("trade_id"))])
    reported = set(new.join(mentioned, on=_TRADE_KEY, how="semi").select(_TRADE_KEY).iter_rows())
    links: dict[tuple[str, str], str] = {}
    for symbol, trade_id, names in direct.filter(action="CORRECT").select(*_TRADE_KEY, "names").iter_rows():
        if names != trade_id and (symbol, trade_id) not in reported:
            links[symbol, trade_id] = min(names, links.get((symbol, trade_id), names))
    ends = _ends(links)
    about = [ends.get((symbol, names)) or names for symbol, names in direct.select("symbol", "names").iter_rows()]
    return direct.drop("names").with_columns(pl.Series("trade_id", about, pl.String))


def _ends(links: Mapping[tuple[str, str], str]) -> dict[tuple[str, str], str | None]:
    """Where following the links from each id ends; none for ids from which they go round in a circle."""
    ends: dict[tuple[str, str], str | None] = {}
    for symbol, start in links:
        passed: dict[str, None] = {}
        reached = start
        while (symbol, reached) in links and (symbol, reached) not in ends and reached not in passed:
            passed[reached] = None
            reached = links[symbol, reached]
        end = None if reached in passed else ends.get((symbol, reached), reached)
        ends |= {(symbol, trade_id): end for trade_id in passed}
    return ends


def _trades_table(raw: pa.Table, trades: pl.DataFrame, conditions: Conditions) -> pa.Table:
    """``TRADES``, put together from the raw rows that the trades point at."""
    order = table_order(trades, ties=["topic_rank"])
    trades = trades.select("row", "value_row", "trade_id", "corrected")
    if order is not None:
        trades = trades[order]
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
    return raw[column].combine_chunks().take(rows)  # far quicker than taking from many chunks


def _with_content(raw: pa.Table, messages: pl.DataFrame) -> pl.DataFrame:
    """Messages with all that they say; ``own_id`` is the trade_id as it was said, empty or not."""
    said = ["trade_id", "action", "corrects_trade_id", *_TRADE_CONTENT[1:]]
    content = _content(raw, messages["row"], said).rename({"trade_id": "own_id"})
    return pl.concat([messages, content], how="horizontal")


def _content(raw: pa.Table, rows: pl.Series, columns: Sequence[str]) -> pl.DataFrame:
    return _frame(raw.select(columns).take(rows.to_arrow()))


def _series(array: pa.Array | pa.ChunkedArray) -> pl.Series:
    series = pl.from_arrow(array)
    assert isinstance(series, pl.Series)
    return series


def _frame(table: pa.Table) -> pl.DataFrame:
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    return frame
