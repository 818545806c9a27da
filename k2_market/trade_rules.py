"""Quality rules of the clean trades of one trading day; each returns a ``Finding``."""

from collections.abc import Sequence
from datetime import timedelta

import polars as pl
import pyarrow as pa

from k2_market.finding import MAX_EXAMPLES, Example, Finding, Severity
from k2_market.repeated_keys import rows_sharing_a_key
from k2_market.statements import run_statement
from k2_market.trading_calendar import Session

_SHOWN = ("symbol", "trade_id", "exchange_timestamp", "price", "quantity", "kafka_partition", "kafka_offset")


def unique_trades(trades: pa.Table) -> Finding:
    """Whether each (symbol, trade_id) is there once.

    Numbers: ``trades``, ``repeated_ids``, ``surplus_rows``. Examples: rows that share their key.
    """
    repeated = rows_sharing_a_key(_frame(trades, _SHOWN), ["symbol", "trade_id"])
    ids = repeated.select(pl.struct("symbol", "trade_id").n_unique()).item() if repeated.height else 0
    return Finding(
        check="unique_trades",
        passed=repeated.is_empty(),
        severity=Severity.ERROR,
        description=f"{ids} of the trades' ids stand on {repeated.height} rows instead of one each.",
        numbers={"trades": trades.num_rows, "repeated_ids": ids, "surplus_rows": repeated.height - ids},
        examples=_examples(repeated.sort("symbol", "trade_id", "kafka_partition", "kafka_offset")),
        sizes=frozenset({"trades"}),
    )


def complete_against_raw(raw: pa.Table, trades: pa.Table) -> Finding:
    """Whether the trades are those that the raw messages report, each with the values of the message it points at.

    Worked out with sets in SQL, by none of the code that made the trades.
    Numbers: ``expected`` trades, ``missing``, ``unexpected``, ``repeated``, ``unlike_message`` (symbol, price,
    quantity or conditions differ from the raw row at the trade's offset, or that is not there) and
    ``unmatched_cancels``, which is no failure. Examples: trades of the first three kinds, then of the fourth.
    """
    sets = run_statement("trades_against_raw", {"raw": raw, "trades": trades}, {"examples": MAX_EXAMPLES})
    values = run_statement("trades_unlike_message", {"raw": raw, "trades": trades}, {"examples": MAX_EXAMPLES})
    numbers = sets.drop_columns(["wrong"]).to_pylist()[0] | values.drop_columns(["wrong"]).to_pylist()[0]
    wrong = [*(sets["wrong"][0].as_py() or ()), *(values["wrong"][0].as_py() or ())]
    return Finding(
        check="complete_against_raw",
        passed=not any(numbers[name] for name in ("missing", "unexpected", "repeated", "unlike_message")),
        severity=Severity.ERROR,
        description="Of {expected} trades that the messages report {missing} are missing and {repeated} there more "
        "than once; {unexpected} are there that no message reports; {unlike_message} differ from their message.".format(
            **numbers
        ),
        numbers=numbers,
        examples=tuple(wrong[:MAX_EXAMPLES]),
        sizes=frozenset({"expected"}),
    )


def prices_positive(trades: pa.Table) -> Finding:
    """Whether no trade has a price of zero or less, or a quantity below zero.

    Numbers: ``nonpositive`` trades, and ``eligible_nonpositive``, those of them that are marked eligible all the
    same: they, and only they, are in the bars.
    """
    eligible = pl.col("price_eligible") | pl.col("volume_eligible")
    found = _frame(trades, [*_SHOWN, "price_eligible", "volume_eligible"]).filter(
        (pl.col("price") <= 0) | (pl.col("quantity") < 0)
    )
    in_bars = found.filter(eligible).height
    return Finding(
        check="prices_positive",
        passed=found.is_empty(),
        severity=Severity.ERROR,
        description=f"{found.height} trades have a price of zero or less or a quantity below zero; "
        f"{in_bars} of them are in the bars.",
        numbers={"nonpositive": found.height, "eligible_nonpositive": in_bars},
        examples=_examples(found.sort(eligible, descending=True, maintain_order=True)),
    )


def inside_session(trades: pa.Table, session: Session | None, minutes_before: int, minutes_after: int) -> Finding:
    """Whether the trades that set prices lie within the exchange's session.

    Numbers: ``price_eligible`` trades, ``outside`` of them, ``session_open`` and ``session_close`` as looked at,
    tolerance included (empty on a day without a session, when every trade is outside).

    Args:
        trades: ``TRADES``.
        session: The day's regular session; none on a day when the exchange is closed.
        minutes_before: Tolerance before the open, for auctions.
        minutes_after: Tolerance after the close.
    """
    eligible = _frame(trades, [*_SHOWN, "price_eligible"]).filter("price_eligible")
    outside, first, last = eligible, "", ""
    if session is not None:
        opens = session.open - timedelta(minutes=minutes_before)
        closes = session.close + timedelta(minutes=minutes_after)
        outside = eligible.filter(~pl.col("exchange_timestamp").is_between(opens, closes))
        first, last = opens.isoformat(), closes.isoformat()
    expected = f"{first} to {last}" if session else "any session: the exchange is closed"
    return Finding(
        check="inside_session",
        passed=outside.is_empty(),
        severity=Severity.WARN,
        description=f"{outside.height} of {eligible.height} price-eligible trades lie outside of {expected}.",
        numbers={
            "price_eligible": eligible.height,
            "outside": outside.height,
            "session_open": first,
            "session_close": last,
        },
        examples=_examples(outside),
        sizes=frozenset({"price_eligible"}),
    )


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
