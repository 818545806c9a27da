"""Finds cancels and corrections that name a trade of an earlier day, and those that reach a given day.

An exchange may bust yesterday's trade this morning, in a message of today's trading day. Such a message is about the
day that holds the trade: it counts there, and is no trade of its own day. The nearest earlier day that reports the
trade_id is meant. ``docs/corrections.md`` has an example.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import date

import pyarrow as pa
import pyarrow.compute as pc

from k2_market.trades.cleaning import unmatched_amendments

TradeKey = tuple[str, str]
"""Symbol and trade_id."""

Holders = Callable[[Collection[TradeKey]], Mapping[TradeKey, date]]
"""Finds for some trades the nearest earlier day that reports each; those that none reports are left out."""


@dataclass(frozen=True)
class Settled:
    """Holds a day's messages, or a part's, without those about other days and with those of other days about it.

    Attributes:
        messages: Raw rows, in the columns that were given.
        about_other_days: For each earlier day how many cancels and corrections are about trades of it.
        from_other_days: For each later day how many of its cancels and corrections are about trades of this day.
        sought_in_vain: Whether a cancel or correction names a trade that no day within reach reports.
        repeated_elsewhere: Messages that were left out before, as their ids stand for trades of other symbols
            (``id_scopes``): of the whole day, in its first part.
        ids_elsewhere: How many ids those are.
    """

    messages: pa.Table
    about_other_days: Mapping[date, int]
    from_other_days: Mapping[date, int]
    sought_in_vain: bool
    repeated_elsewhere: int = 0
    ids_elsewhere: int = 0


def settle(messages: pa.Table, reaching: Mapping[date, pa.Table], holders: Holders) -> Settled:
    """Settle which cancels and corrections are about a day.

    Args:
        messages: Raw rows of whole symbols of the day; the columns of ``trade_cleaning.COLUMNS_READ``.
        reaching: For each later day the raw rows of its cancels and corrections that are about this day, of any symbol.
        holders: Finds the earlier days of trades that the day's own cancels and corrections name and it does not have.
    """
    unmatched = unmatched_amendments(messages)
    found = holders(set(unmatched.named)) if unmatched.named else {}
    about = [found.get(name) for name in unmatched.named]
    elsewhere = [row for row, day in zip(unmatched.rows, about, strict=True) if day is not None]
    if elsewhere:
        keep = pc.invert(pc.is_in(pa.array(range(messages.num_rows)), value_set=pa.array(elsewhere, pa.int64())))
        own = messages.filter(keep)
    else:
        own = messages
    symbols = messages["symbol"].unique().drop_null() if reaching else None
    of_part = {day: rows.filter(pc.is_in(rows["symbol"], value_set=symbols)) for day, rows in reaching.items()}
    arrived = {day: rows for day, rows in of_part.items() if rows.num_rows}
    return Settled(
        messages=pa.concat_tables(
            [own, *(rows.select(own.column_names).cast(own.schema) for rows in arrived.values())]
        ),
        about_other_days={day: about.count(day) for day in set(about) if day is not None},
        from_other_days={day: rows.num_rows for day, rows in arrived.items()},
        sought_in_vain=None in about,
    )
