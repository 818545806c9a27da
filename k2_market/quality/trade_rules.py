"""Checks the clean trades of one trading day; each rule returns a ``Finding``."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from itertools import pairwise

import polars as pl
import pyarrow as pa

from k2_market.feeds.feed import PriceRange
from k2_market.feeds.trading_calendar import Session
from k2_market.frames.repeated_keys import rows_sharing_a_key
from k2_market.quality.finding import MAX_EXAMPLES, Example, Finding, Severity, Tally
from k2_market.quality.prefilter import without_plain_trades
from k2_market.quality.statements import run_statement
from k2_market.trades import cleaning as trade_cleaning

_BEFORE_ALL = -(2**63)
"""Stands for the sequence number of a trade that has none: it comes before those of its instant that have one."""

_SHOWN = ("symbol", "trade_id", "exchange_timestamp", "price", "quantity", "kafka_partition", "kafka_offset")

COLUMNS_JUDGED = (
    *_SHOWN,
    "conditions",
    "kafka_topic_id",
    "price_eligible",
    "volume_eligible",
    "sequence_number",
    "trade_order",
)
"""The columns of ``TRADES`` that the rules look at."""


@dataclass(frozen=True)
class TradeRule:
    """Represents a rule that is applied to a day part by part.

    Attributes:
        count: What it counts in a part of the raw rows and the trades of the same whole symbols.
        conclude: What it finds of the day, given the sum over its parts.
    """

    count: Callable[[pa.Table, pa.Table], Tally]
    conclude: Callable[[Tally], Finding]


class TradeChecks:
    """Describes what some rules find of a day that is shown to them part by part."""

    def __init__(self, rules: Iterable[TradeRule]) -> None:
        self._rules = tuple(rules)
        self._tallies: tuple[Tally, ...] | None = None

    def see(self, raw: pa.Table, trades: pa.Table) -> None:
        """Show a part of the day.

        Args:
            raw: Rows of ``RAW_TRADES`` of some symbols, all there are.
            trades: ``TRADES`` of the same symbols.
        """
        counted = tuple(rule.count(raw, trades) for rule in self._rules)
        before = self._tallies
        self._tallies = counted if before is None else tuple(a + b for a, b in zip(before, counted, strict=True))

    def findings(self) -> tuple[Finding, ...]:
        """Return a finding for each rule, in their order; one part at least was shown."""
        assert self._tallies is not None
        return tuple(rule.conclude(tally) for rule, tally in zip(self._rules, self._tallies, strict=True))


def unique_trades(trades: pa.Table) -> Finding:
    """Say whether each (symbol, trade_id) is there once.

    Numbers: ``trades``, ``repeated_ids``, ``surplus_rows``. Examples: rows that share their key.
    """
    return UNIQUE_TRADES.conclude(_count_repeated(trades))


def _count_repeated(trades: pa.Table) -> Tally:
    repeated = rows_sharing_a_key(_frame(trades, _SHOWN), ["symbol", "trade_id"])
    ids = repeated.select(pl.struct("symbol", "trade_id").n_unique()).item() if repeated.height else 0
    return Tally(
        {"trades": trades.num_rows, "repeated_ids": ids, "surplus_rows": repeated.height - ids},
        (_examples(repeated.sort("symbol", "trade_id", "kafka_partition", "kafka_offset")),),
    )


def _unique(tally: Tally) -> Finding:
    ids, surplus = tally.numbers["repeated_ids"], tally.numbers["surplus_rows"]
    return Finding(
        check="unique_trades",
        passed=not ids,
        severity=Severity.ERROR,
        description=f"{ids} of the trades' ids stand on {ids + surplus} rows instead of one each.",
        numbers=tally.numbers,
        examples=tally.shown,
        sizes=frozenset({"trades"}),
    )


def complete_against_raw(raw: pa.Table, trades: pa.Table) -> Finding:
    """Say whether the trades are those that the raw messages report, each with the values of the message it points at.

    Worked out with sets in SQL, after plain trades are set aside, by none of the code that made the trades.
    Numbers: ``expected`` trades, ``missing``, ``unexpected``, ``repeated``, ``unlike_message`` (symbol, price,
    quantity or conditions differ from the raw row at the trade's offset, or that is not there) and
    ``unmatched_cancels``, which is no failure. Examples: trades of the first three kinds, then of the fourth.
    """
    return COMPLETE_AGAINST_RAW.conclude(_count_incomplete(raw, trades))


def _count_incomplete(raw: pa.Table, trades: pa.Table) -> Tally:
    left = without_plain_trades(raw, trades)
    tally = count_by_sets(left.raw, left.trades, left.messages, left.unlike)
    return Tally({**tally.numbers, "expected": tally.numbers["expected"] + left.plain}, tally.examples)


def count_by_sets(raw: pa.Table, trades: pa.Table, messages: pa.Table, beside: pa.Table) -> Tally:
    """Return counts with nothing set aside.

    Args:
        raw: Messages whose ids are held against the trades'.
        trades: The trades of those ids.
        messages: Messages whose values are held against those of the trades beside them.
        beside: Those trades.
    """
    most = {"examples": MAX_EXAMPLES}
    sets = run_statement("trades_against_raw", {"raw": raw, "trades": trades}, most).to_pylist()[0]
    values = run_statement("trades_unlike_message", {"raw": messages, "trades": beside}, most).to_pylist()[0]
    examples = tuple(tuple(each.pop("wrong") or ()) for each in (sets, values))
    return Tally(sets | values, examples)


def _complete(tally: Tally) -> Finding:
    return Finding(
        check="complete_against_raw",
        passed=not any(tally.numbers[name] for name in ("missing", "unexpected", "repeated", "unlike_message")),
        severity=Severity.ERROR,
        description="Of {expected} trades that the messages report {missing} are missing and {repeated} there more "
        "than once; {unexpected} are there that no message reports; {unlike_message} differ from their message.".format(
            **tally.numbers
        ),
        numbers=tally.numbers,
        examples=tally.shown,
        sizes=frozenset({"expected"}),
    )


def trades_in_order(trades: pa.Table) -> Finding:
    """Check that ``trade_order`` counts a symbol's trades from 1, by exchange_timestamp and sequence_number.

    Numbers: ``trades`` and ``out_of_order``, those whose number does not follow the one before, or that are earlier
    than the trade before. Trades of one instant without sequence numbers may stand in any order.
    """
    return TRADES_IN_ORDER.conclude(_count_out_of_order(trades))


def _count_out_of_order(trades: pa.Table) -> Tally:
    order = ["symbol", "trade_order"]
    ordered = _frame(trades, [*_SHOWN, "sequence_number", "trade_order"]).sort(order, nulls_last=True)
    same_symbol = pl.col("symbol") == pl.col("symbol").shift()
    follows = pl.col("trade_order") == pl.when(same_symbol).then(pl.col("trade_order").shift() + 1).otherwise(1)
    time, number = pl.col("exchange_timestamp"), pl.col("sequence_number").fill_null(_BEFORE_ALL)
    earlier = (time < time.shift()) | ((time == time.shift()) & (number < number.shift()))
    wrong = ordered.filter(~follows.fill_null(False) | (same_symbol & earlier).fill_null(False))
    return Tally({"trades": trades.num_rows, "out_of_order": wrong.height}, (_examples(wrong),))


def _in_order(tally: Tally) -> Finding:
    wrong, trades = tally.numbers["out_of_order"], tally.numbers["trades"]
    return Finding(
        check="trades_in_order",
        passed=not wrong,
        severity=Severity.ERROR,
        description=f"{wrong} of {trades} trades stand out of order: a bar's open or close may be another's.",
        numbers=tally.numbers,
        examples=tally.shown,
        sizes=frozenset({"trades"}),
    )


def prices_positive(trades: pa.Table, may_be: PriceRange = PriceRange.POSITIVE) -> Finding:
    """Check that no trade has a price that its feed may not have, or a quantity below zero.

    Numbers: ``nonpositive`` trades (of a feed whose prices may be any: those with a quantity below zero), and
    ``eligible_nonpositive``, those of them that are marked eligible all the same: they, and only they, are in the bars.
    """
    rule = prices_positive_rule(may_be)
    return rule.conclude(rule.count(trades, trades))


def prices_positive_rule(may_be: PriceRange) -> TradeRule:
    """Make the rule of ``prices_positive`` for what prices of a feed may be."""
    return TradeRule(lambda _, trades: _count_nonpositive(trades, may_be), partial(_positive, may_be))


def _count_nonpositive(trades: pa.Table, may_be: PriceRange) -> Tally:
    wrong_price = pl.lit(False) if may_be is PriceRange.ANY else pl.col("price") <= 0
    found = _frame(trades, [*_SHOWN, "price_eligible", "volume_eligible"]).filter(
        wrong_price | (pl.col("quantity") < 0)
    )
    eligible = pl.col("price_eligible") | pl.col("volume_eligible")
    in_bars, others = found.filter(eligible), found.filter(~eligible)
    return Tally(
        {"nonpositive": found.height, "eligible_nonpositive": in_bars.height}, (_examples(in_bars), _examples(others))
    )


def _positive(may_be: PriceRange, tally: Tally) -> Finding:
    wrong = "a quantity below zero" if may_be is PriceRange.ANY else "a price of zero or less or a quantity below zero"
    return Finding(
        check="prices_positive",
        passed=not tally.numbers["nonpositive"],
        severity=Severity.ERROR if tally.numbers["eligible_nonpositive"] else Severity.WARN,
        description=f"{tally.numbers['nonpositive']} trades have {wrong}; "
        f"{tally.numbers['eligible_nonpositive']} of them are in the bars.",
        numbers=tally.numbers,
        examples=tally.shown,
    )


def unmatched_amendments(raw: pa.Table) -> Finding:
    """Check that every cancel and correction names a trade that the day, or a day before within reach, reports.

    Numbers: ``unmatched_cancels``, which do nothing, and ``unmatched_corrections``, which are taken as the trades that
    they correct. Examples: the trade that is named, and the place of the message.

    Args:
        raw: The day's messages, without those that are about trades of other days (``cross_day``).
    """
    return UNMATCHED_AMENDMENTS.conclude(_count_unmatched(raw))


def _count_unmatched(raw: pa.Table) -> Tally:
    unmatched = trade_cleaning.unmatched_amendments(raw)
    rows = raw.select(["action", "kafka_partition", "kafka_offset"]).take(pa.array(unmatched.rows, pa.int64()))
    shown = [
        {"symbol": symbol, "names": trade_id, **row}
        for (symbol, trade_id), row in zip(unmatched.named, rows.to_pylist(), strict=True)
    ]
    counts = Counter(row["action"] for row in shown)
    return Tally(
        {"unmatched_cancels": counts["CANCEL"], "unmatched_corrections": counts["CORRECT"]},
        (tuple(shown[:MAX_EXAMPLES]),),
    )


def _unmatched(tally: Tally) -> Finding:
    cancels, corrections = tally.numbers["unmatched_cancels"], tally.numbers["unmatched_corrections"]
    return Finding(
        check="unmatched_amendments",
        passed=not (cancels or corrections),
        severity=Severity.WARN,
        description=f"{cancels} cancels and {corrections} corrections name a trade that neither the day nor a day "
        "before it within reach reports. The corrections are taken as the trades that they correct.",
        numbers=tally.numbers,
        examples=tally.shown,
    )


UNMATCHED_AMENDMENTS = TradeRule(lambda raw, _: _count_unmatched(raw), _unmatched)
UNIQUE_TRADES = TradeRule(lambda _, trades: _count_repeated(trades), _unique)
TRADES_IN_ORDER = TradeRule(lambda _, trades: _count_out_of_order(trades), _in_order)
COMPLETE_AGAINST_RAW = TradeRule(_count_incomplete, _complete)


def inside_session(trades: pa.Table, session: Session | None, minutes_before: int, minutes_after: int) -> Finding:
    """Say whether the trades that set prices lie within the exchange's session; see ``inside_session_rule``."""
    rule = inside_session_rule(session, minutes_before, minutes_after)
    return rule.conclude(rule.count(trades, trades))


def inside_session_rule(
    session: Session | None, minutes_before: int, minutes_after: int, closed: str = "the exchange is closed"
) -> TradeRule:
    """Return the rule that the trades that set prices lie within the exchange's open hours.

    Numbers: ``price_eligible`` trades, ``outside`` of them, ``session_open`` and ``session_close`` as looked at,
    tolerance included (empty on a day without a session, when every trade is outside), and, where there are breaks
    longer than the tolerance, ``session_breaks``.

    Args:
        session: The day's session; none on a day when the exchange is closed, or of which nothing is known.
        minutes_before: Tolerance before each open, for auctions; after a break, too.
        minutes_after: Tolerance after each close; before a break, too.
        closed: Why there is no session.
    """
    before, after = timedelta(minutes=minutes_before), timedelta(minutes=minutes_after)
    spans = [] if session is None else [(opens - before, closes + after) for opens, closes in session.open_spans]
    inside = pl.any_horizontal(
        pl.lit(False), *(pl.col("exchange_timestamp").is_between(opens, closes) for opens, closes in spans)
    )
    first, last = (spans[0][0].isoformat(), spans[-1][1].isoformat()) if spans else ("", "")
    hours = {"session_open": first, "session_close": last}
    breaks = ", ".join(
        f"{closes.isoformat()} to {opens.isoformat()}" for (_, closes), (opens, _) in pairwise(spans) if closes < opens
    )
    if breaks:
        hours["session_breaks"] = breaks

    def count(_: pa.Table, trades: pa.Table) -> Tally:
        eligible = _frame(trades, [*_SHOWN, "price_eligible"]).filter("price_eligible")
        outside = eligible.filter(~inside)
        return Tally({"price_eligible": eligible.height, "outside": outside.height}, (_examples(outside),))

    def conclude(tally: Tally) -> Finding:
        expected = f"{first} to {last}" if spans else f"any session: {closed}"
        if breaks:
            expected += f", or within the break from {breaks}"
        eligible, outside = tally.numbers["price_eligible"], tally.numbers["outside"]
        return Finding(
            check="inside_session",
            passed=not outside,
            severity=Severity.WARN,
            description=f"{outside} of {eligible} price-eligible trades lie outside of {expected}.",
            numbers={**tally.numbers, **hours},
            examples=tally.shown,
            sizes=frozenset({"price_eligible"}),
        )

    return TradeRule(count, conclude)


def _examples(trades: pl.DataFrame) -> tuple[Example, ...]:
    shown = trades.head(MAX_EXAMPLES).select(
        pl.col(column).dt.to_string("iso:strict") if column == "exchange_timestamp" else pl.col(column).cast(kind)
        for column, kind in _PLAIN.items()
    )
    return tuple(shown.to_dicts())


_PLAIN: dict[str, type[pl.DataType]] = dict.fromkeys(_SHOWN, pl.String) | {
    "kafka_partition": pl.Int64,
    "kafka_offset": pl.Int64,
}


def _frame(table: pa.Table, columns: Sequence[str]) -> pl.DataFrame:
    frame = pl.from_arrow(table.select(columns))
    assert isinstance(frame, pl.DataFrame)
    return frame
