"""Makes one clean trading day out of the messages of the raw table; ``docs/corrections.md`` explains the rules.

1. Dead letters are left out.
2. A ``NEW`` message that repeats ``(symbol, trade_id)`` is left out; the first in message order stays, also where
   the two differ (a *conflicting id*). A trade without an id is never taken for a repetition: rows with equal
   content are genuine fills. It is named after its place in Kafka.
3. A ``CORRECT`` gives its trade new values: price, quantity, side, conditions, currency. Of several corrections the
   last in message order counts, also where it goes back to earlier values. One that names the trade_id of another
   correction, as FIX does, is followed back to the trade itself.
4. The trade keeps its place in the market: trade_id, exchange_timestamp, sequence_number, trade_date, and its place
   among trades of the same instant. A correction sent at four o'clock does not move a trade of ten o'clock.
   ``kafka_*`` of a corrected trade name the correction, so that its values can be traced to the message they are of.
5. A correction of a trade that was never reported is taken as that trade, under the id that it corrects. The first
   such correction gives the trade its place, the last one its values.
6. A cancelled trade is left out, and stays so whatever corrections name it. A cancel that names no trade does nothing.
7. A ``CORRECT`` or ``CANCEL`` with the content of an earlier one is counted as a duplicate. Where all corrections of a
   trade have sequence numbers, which are part of the content, that is a report delivered again, and it changes nothing.
   Where they have none the exchange may have gone back to earlier values, so it decides as any other correction does;
   the trade then leads back to the first message of that content. Content leaves out ``message_id``,
   ``received_timestamp`` and the place in Kafka.

Message order is that of topic, partition and offset; a symbol's messages share a partition. Nothing depends on the
order of the table's rows, so loading the same messages again changes nothing.

``NEW``, ``CANCEL`` and ``CORRECT`` are FIX TradeReportTransType (487) 0, 1 and 2. That a corrected trade keeps its time
is the practice of NYSE Daily TAQ (correction indicator 01: original time, corrected data).
"""

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, replace

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from k2_market.errors import K2Error
from k2_market.feeds.conditions import price_eligible, volume_eligible
from k2_market.feeds.feed import Conditions, PriceRange
from k2_market.frames.repeated_keys import rows_perhaps_sharing_a_key
from k2_market.schemas.tables import TRADES
from k2_market.trades.order import market_order


class IncompleteTradeError(K2Error):
    """A raw row that is no dead letter lacks a value that every trade has."""


@dataclass(frozen=True)
class CleaningCounts:
    """Describes what became of a day's messages.

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
        """Return those of two parts of a day that share no symbol."""
        return CleaningCounts(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    def with_repeated(self, messages: int, ids: int) -> "CleaningCounts":
        """Count in messages that were left out before as repetitions, of ids that stand for differing trades."""
        return replace(
            self,
            raw_rows=self.raw_rows + messages,
            duplicates=self.duplicates + messages,
            conflicting_ids=self.conflicting_ids + ids,
        )


@dataclass(frozen=True)
class CleanDay:
    """A clean trading day.

    Attributes:
        trades: ``TRADES``, unique by (symbol, trade_id), in the order of symbol and trade_order: by
            exchange_timestamp, sequence_number (none first), and the place in Kafka of the message that reported them.
        counts: How it came about.
    """

    trades: pa.Table
    counts: CleaningCounts


_PLACE_IN_MARKET = ("trade_date", "symbol", "exchange_timestamp", "sequence_number")
_CORRECTABLE = ("price", "quantity", "side", "conditions", "currency", "received_timestamp")
_PLACE_IN_KAFKA = ("kafka_topic_id", "kafka_partition", "kafka_offset")

COLUMNS_READ = (
    *_PLACE_IN_MARKET,
    "trade_id",
    *_CORRECTABLE,
    "action",
    "corrects_trade_id",
    "reject_reason",
    *_PLACE_IN_KAFKA,
)
"""The raw table's columns that cleaning needs; a caller that reads no others saves memory."""

_REQUIRED = ("symbol", "exchange_timestamp", "price", "quantity", "side", "conditions", "currency")
_MESSAGE_ORDER = ("topic_rank", "kafka_partition", "kafka_offset")
_TRADE_KEY = ("symbol", "trade_id")
_TRADE_CONTENT = ("exchange_timestamp", "price", "quantity", "side", "conditions", "currency")
_AMENDMENT_CONTENT = ("symbol", "own_id", "action", "corrects_trade_id", "sequence_number", *_TRADE_CONTENT)


def clean_day(
    raw: pa.Table,
    conditions: Conditions,
    topic_order: Sequence[str] = (),
    price_may_be: PriceRange = PriceRange.POSITIVE,
) -> CleanDay:
    """Return the clean trades that a day's messages amount to.

    No symbol has to do with another: a day may be cleaned in parts (``symbol_parts``), and their trades one part after
    the other are the day's.

    Args:
        raw: Rows of ``RAW_TRADES`` of one trading day, in any order; at least ``COLUMNS_READ``.
        conditions: The feed's conditions profile, which marks eligibility.
        topic_order: Topic ids, oldest first, of a feed whose topic was made anew; others follow by id.
        price_may_be: Which prices may set prices and count.

    Raises:
        IncompleteTradeError: A live row lacks a value that ``TRADES`` requires.
    """
    _refuse_incomplete(raw)
    live = _live_messages(raw, topic_order)
    amends = _amends(raw, live)
    reported = live.filter(~amends) if amends.any() else live
    repeated = _repeated(reported)
    new = _without(reported, repeated)
    amendments = _compared(_in_message_order(_with_content(raw, live.filter(amends))))
    amended = _amended(new, _with_trade_named(new, amendments))

    counts = CleaningCounts(
        raw_rows=raw.num_rows,
        dead_letters=raw.num_rows - live.height,
        duplicates=repeated.height + amended.duplicates,
        conflicting_ids=_conflicting_ids(raw, repeated),
        new_trades=new.height,
        cancels=amended.cancels,
        cancelled=amended.cancelled,
        corrections=amended.corrections,
        unmatched_cancels=amended.unmatched_cancels,
        unmatched_corrections=amended.unmatched_corrections,
        trades=amended.trades.height,
    )
    return CleanDay(_trades_table(raw, amended.trades, conditions, price_may_be), counts)


@dataclass(frozen=True)
class UnmatchedAmendments:
    """Cancels and corrections of a day that name trades which no ``NEW`` message of the day reports.

    Attributes:
        rows: Their positions in the raw rows.
        named: For each the symbol and the trade_id that it names, corrections of corrections followed back.
    """

    rows: list[int]
    named: list[tuple[str, str]]


def unmatched_amendments(raw: pa.Table, topic_order: Sequence[str] = ()) -> UnmatchedAmendments:
    """Find the cancels and corrections that name no trade that the same rows report; arguments as for ``clean_day``."""
    if not pc.any(pc.is_in(raw["action"], value_set=pa.array(["CORRECT", "CANCEL"]))).as_py():
        return UnmatchedAmendments([], [])
    live = _live_messages(raw, topic_order)
    amends = _amends(raw, live)
    reported = live.filter(~amends)
    amendments = _with_trade_named(reported, _in_message_order(_with_content(raw, live.filter(amends))))
    unmatched = amendments.join(reported, on=_TRADE_KEY, how="anti").sort("row")
    keys = unmatched.select(pl.col("symbol").cast(pl.String), "trade_id")
    return UnmatchedAmendments(unmatched["row"].to_list(), list(keys.iter_rows()))


def _live_messages(raw: pa.Table, topic_order: Sequence[str]) -> pl.DataFrame:
    """Tell what tells the live messages apart and puts them in order, without what they say.

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
    """Say whether each live message is a correction or a cancel."""
    amends = _series(pc.or_(pc.equal(raw["action"], "CORRECT"), pc.equal(raw["action"], "CANCEL"))).fill_null(False)
    return amends if live.height == raw.num_rows else amends.gather(live["row"])


def _repeated(reported: pl.DataFrame) -> pl.DataFrame:
    """Return the ``NEW`` messages that repeat an earlier one: ``row``, and ``first_row``, which stays."""
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
    """Tell how many ids name trades that differ from the first of that id."""
    if repeated.is_empty():
        return 0
    again, first = (_content(raw, repeated[column], _TRADE_CONTENT) for column in ("row", "first_row"))
    differs = pl.any_horizontal(again[column].ne_missing(first[column]) for column in _TRADE_CONTENT)
    return repeated.filter(pl.select(differs).to_series())["first_row"].n_unique()


@dataclass(frozen=True)
class _Amended:
    """``trades``: ``row`` gives a trade its place in the market, ``value_row`` its values. The others are counts."""

    trades: pl.DataFrame
    cancels: int = 0
    cancelled: int = 0
    corrections: int = 0
    duplicates: int = 0
    unmatched_cancels: int = 0
    unmatched_corrections: int = 0


def _amended(new: pl.DataFrame, amendments: pl.DataFrame) -> _Amended:
    """Apply cancels and corrections to the trades that they name; the many others are not touched.

    Args:
        new: The trades that are reported.
        amendments: As ``_compared`` and ``_with_trade_named`` give them.
    """
    place = ("row", *_TRADE_KEY, "exchange_timestamp", "sequence_number", *_MESSAGE_ORDER)
    as_reported = new.select(*place, pl.col("row").alias("value_row"), pl.lit(False).alias("corrected"))
    if amendments.is_empty():
        return _Amended(as_reported)

    distinct = amendments.filter(~pl.col("again"))
    cancels = distinct.filter(pl.col("action") == "CANCEL").select(_TRADE_KEY)
    all_numbered = pl.col("sequence_number").is_not_null().all().over(_TRADE_KEY)
    corrections = amendments.filter(pl.col("action") == "CORRECT").filter(~(pl.col("again") & all_numbered))
    first, last = (corrections.unique(_TRADE_KEY, keep=end, maintain_order=True) for end in ("first", "last"))
    named = as_reported.join(amendments, on=_TRADE_KEY, how="semi")
    values = last.select(*_TRADE_KEY, pl.col("first_row").alias("value_row"), pl.lit(True).alias("corrected"))
    never_reported = first.join(named, on=_TRADE_KEY, how="anti")
    known = pl.concat(
        [
            named.join(last, on=_TRADE_KEY, how="anti"),
            named.select(place).join(values, on=_TRADE_KEY),
            never_reported.select(place).join(values, on=_TRADE_KEY),
        ]
    )
    standing = known.join(cancels, on=_TRADE_KEY, how="anti")
    return _Amended(
        trades=pl.concat([_without(as_reported, named), standing]),
        cancels=cancels.height,
        cancelled=known.height - standing.height,
        corrections=distinct.height - cancels.height,
        duplicates=amendments.height - distinct.height,
        unmatched_cancels=cancels.join(known, on=_TRADE_KEY, how="anti").height,
        unmatched_corrections=known.height - named.height,
    )


def _compared(amendments: pl.DataFrame) -> pl.DataFrame:
    """Add ``first_row``, the row of the first amendment with the same content, and ``again``: that is an earlier one.

    Args:
        amendments: In message order, with their content.
    """
    if amendments.is_empty():
        return amendments
    numbered = amendments.with_row_index("position")
    alike = numbered.group_by(_AMENDMENT_CONTENT).agg("position", pl.col("row").first().alias("first_row"))
    first_rows = alike.select("position", "first_row").explode("position").sort("position")["first_row"]
    return amendments.with_columns(first_rows).with_columns(again=pl.col("row") != pl.col("first_row"))


def _with_trade_named(new: pl.DataFrame, amendments: pl.DataFrame) -> pl.DataFrame:
    """Give each amendment the trade_id of the trade that it is about in place of its own.

    Args:
        new: The trades that are reported.
        amendments: In message order.
    """
    if amendments.is_empty():
        return amendments
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
    """Tell where following the links from each id ends; none for ids from which they go round in a circle."""
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


def _trades_table(raw: pa.Table, trades: pl.DataFrame, conditions: Conditions, may_be: PriceRange) -> pa.Table:
    """``TRADES``, put together from the raw rows that the trades point at."""
    order = market_order(trades, ties=["topic_rank"])
    trades = trades.select("row", "value_row", "symbol", "trade_id", "corrected")
    if order is not None:
        trades = trades[order]
    placed, valued = trades["row"].to_arrow(), trades["value_row"].to_arrow()
    columns = {column: _taken(raw, column, placed) for column in _PLACE_IN_MARKET}
    columns |= {column: _taken(raw, column, valued) for column in (*_CORRECTABLE, *_PLACE_IN_KAFKA)}
    columns["trade_id"] = trades["trade_id"].to_arrow().cast(pa.string())
    columns["corrected"] = trades["corrected"].to_arrow()
    columns["trade_order"] = trades.select(pl.int_range(1, pl.len() + 1).over("symbol")).to_series().to_arrow()
    judged = _frame(pa.table({column: columns[column] for column in ("conditions", "price", "quantity")})).select(
        price_eligible=price_eligible(conditions, may_be), volume_eligible=volume_eligible(conditions, may_be)
    )
    columns["price_eligible"] = judged["price_eligible"].to_arrow()
    columns["volume_eligible"] = judged["volume_eligible"].to_arrow()
    return pa.table({field.name: columns[field.name].cast(field.type) for field in TRADES}, schema=TRADES)


def _refuse_incomplete(raw: pa.Table) -> None:
    live = raw["reject_reason"].is_null()
    for column in _REQUIRED:
        if raw[column].null_count and pc.any(lacks := pc.and_(raw[column].is_null(), live)).as_py():
            row = raw.select(_PLACE_IN_KAFKA).filter(lacks).slice(0, 1).to_pylist()[0]
            raise IncompleteTradeError(
                f"raw row {row['kafka_topic_id']}/{row['kafka_partition']}/{row['kafka_offset']}: "
                f"a message that is no dead letter has no {column}; expected a value. "
                "It was not decoded by K2: make it a dead letter."
            )


def _taken(raw: pa.Table, column: str, rows: pa.Array) -> pa.Array:
    return raw[column].combine_chunks().take(rows)  # far quicker than taking from many chunks


def _with_content(raw: pa.Table, messages: pl.DataFrame) -> pl.DataFrame:
    """Return messages with all that they say; ``own_id`` is the trade_id as it was said, empty or not."""
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
