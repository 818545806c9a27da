"""Queries a symbol's bars of one interval, or says why there are none."""

from datetime import date
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from typing import Any, Self

import duckdb
import pyarrow as pa
from pyiceberg.catalog import Catalog

from k2_market.errors import K2Error
from k2_market.schemas.tables import BARS, BarInterval
from k2_resources.query.duckdb_connection import open_connection, seal
from k2_resources.query.views import create_view

_LIKE_IT = 6
"""Symbols to name that look like one that is not there."""


class NoBars(K2Error):
    """There are no bars of what was asked for; the message says what there is instead."""


class NoBarsYet(NoBars):
    """The feed has no bars of that width at all."""


class BarQueries:
    """Bars of a feed and width; a context manager, since it holds a connection."""

    def __init__(self, catalog: Catalog, feed: str, interval: BarInterval, spill_directory: Path) -> None:
        """Open the feed's bars at their current snapshot."""
        self._name = f"{feed}.{interval.table}"
        self._feed = feed
        self._connection = open_connection(spill_directory)
        location = create_view(self._connection, "bars", catalog, feed, interval.table, BARS)
        seal(self._connection, [location] if location else [])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def bars(self, symbol: str, first: date, last: date) -> pa.Table:
        """Return a symbol's bars from one trading day to another, both included, in time order.

        Raises:
            NoBars: There are none; names the nearest days or symbols that have some.
        """
        found = self._run("bars_of_symbol", symbol=symbol, first=first, last=last).to_arrow_table()
        if not found.num_rows:
            raise self._why_none(symbol, first, last)
        return found

    def _why_none(self, symbol: str, first: date, last: date) -> NoBars:
        days = f"on {first}" if first == last else f"from {first} to {last}"
        symbols = [row[0] for row in self._run("symbols_of_days", first=first, last=last).fetchall()]
        if not symbols:
            return self._without_symbols(days, first, last)
        like_it = get_close_matches(symbol.upper(), symbols, n=_LIKE_IT, cutoff=0.5)
        near = f"Symbols like it then: {', '.join(like_it)}" if like_it else f"Symbols then: {', '.join(symbols[:6])}"
        elsewhere = [str(row[0]) for row in self._run("days_of_symbol", symbol=symbol, first=first).fetchall()]
        if elsewhere:
            near = f"It has some on {', '.join(elsewhere)}"
        return NoBars(
            f"{self._name} has no bars of {symbol} {days}. {near} ({len(symbols):,} symbols have bars {days})."
        )

    def _without_symbols(self, asked: str, first: date, last: date) -> NoBars:
        nearest = self._run("days_nearest", first=first, last=last).fetchall()[0]
        days = [str(day) for day in nearest if day is not None]
        without = f"{self._name} has no bars {asked}."
        if days:
            near = f"The nearest {'day that has is' if len(days) == 1 else 'days that have are'} {' and '.join(days)}."
            return NoBars(f"{without} {near}")
        return NoBarsYet(
            f"{without} It is empty: load trades, and let k2 up or k2 catch-up --feed {self._feed} make bars of them."
        )

    def _run(self, statement: str, **values: Any) -> duckdb.DuckDBPyConnection:
        text = (files("k2_resources.query.sql") / f"{statement}.sql").read_text(encoding="utf-8")
        return self._connection.execute(text, values)
