"""Verifies I7 for trades: recomputes a day's trades message by message, in plain Python, slowly and simply.

The rules are those of ``docs/corrections.md``. No code is shared with ``trade_cleaning`` and ``cross_day``, so that an
error would have to be made twice to stay unseen.
"""

from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa

from k2_market.verification.invariants import Invariant, Violation, violation

COLUMNS_READ = (
    "trade_date",
    "symbol",
    "exchange_timestamp",
    "sequence_number",
    "trade_id",
    "price",
    "quantity",
    "side",
    "conditions",
    "currency",
    "received_timestamp",
    "action",
    "corrects_trade_id",
    "reject_reason",
    "kafka_topic_id",
    "kafka_partition",
    "kafka_offset",
)
"""The columns of ``RAW_TRADES`` that trades are worked out from."""

REACH = timedelta(days=31)
"""Reach back of cancels and corrections to the trade that they name."""


@dataclass(frozen=True, slots=True, eq=False)
class Message:
    """One live raw row; the names are the columns'. ``age`` counts the topics from the oldest."""

    day: date
    at: datetime
    sequence: int | None
    trade_id: str
    price: Decimal
    quantity: Decimal
    side: str
    conditions: tuple[str, ...]
    currency: str
    received: datetime | None
    action: str
    corrects: str
    age: int
    topic: str
    partition: int
    offset: int

    @property
    def place(self) -> tuple[int, int, int]:
        """Its place in message order."""
        return self.age, self.partition, self.offset

    @property
    def own_name(self) -> str:
        """The id of the trade that it reports, or its own as a correction."""
        return self.trade_id or f"kafka:{self.topic}:{self.partition}:{self.offset}"

    @property
    def content(self) -> tuple[object, ...]:
        """All that makes it the same report as another one."""
        values = (self.price, self.quantity, self.side, self.conditions, self.currency)
        return self.trade_id, self.action, self.corrects, self.sequence, self.at, *values


@dataclass(frozen=True, slots=True)
class RecomputedTrade:
    """A trade: its id, the message that gives its place in the market and the one that gives its values."""

    name: str
    placed: Message
    valued: Message

    @property
    def market_order(self) -> tuple[object, ...]:
        """Sorts the trades of a symbol as the market saw them; trades without a sequence number come first."""
        sequence = self.placed.sequence
        where = (self.placed.partition, self.placed.offset, self.placed.age)
        return self.placed.at, sequence is not None, sequence or 0, *where


Reporting = Mapping[tuple[str, str], Sequence[date]]
"""For a symbol and trade_id the days that report it as new."""


def trades_of_symbol(
    own: Sequence[Message], arriving: Sequence[Message], reported_earlier: Callable[[str], bool]
) -> list[RecomputedTrade]:
    """Work out a symbol's trades of a day, in market order.

    Args:
        own: The day's messages of the symbol.
        arriving: Cancels and corrections of later days that are about trades of the day.
        reported_earlier: Tells whether an earlier day within reach reports a trade_id as new.
    """
    reports: dict[str, Message] = {}
    for each in sorted(own, key=lambda message: message.place):
        if each.action == "NEW":
            reports.setdefault(each.own_name, each)
    amending = sorted((each for each in own if each.action != "NEW"), key=lambda message: message.place)
    mine = [each for each, name in followed(amending, reports) if name in reports or not reported_earlier(name)]
    amendments = sorted([*mine, *arriving], key=lambda message: message.place)
    firsts: dict[tuple[object, ...], Message] = {}
    cancelled: set[str] = set()
    corrections: dict[str, list[Message]] = defaultdict(list)
    for each, name in followed(amendments, reports):
        firsts.setdefault(each.content, each)
        if each.action == "CANCEL":
            cancelled.add(name)
        else:
            corrections[name].append(each)
    trades = []
    for name in reports.keys() | corrections.keys():
        said = corrections.get(name, [])
        if all(each.sequence is not None for each in said):
            said = [each for each in said if firsts[each.content] is each]
        if name not in cancelled:
            placed = reports.get(name) or said[0]
            trades.append(RecomputedTrade(name, placed, firsts[said[-1].content] if said else placed))
    return sorted(trades, key=lambda trade: trade.market_order)


def followed(amendments: Iterable[Message], reported: Container[str]) -> list[tuple[Message, str]]:
    """Pair each cancel and correction with the trade it is about: the one named, by way of corrections of corrections.

    Args:
        amendments: Of one symbol and day.
        reported: The ids that messages of that day report as new.
    """
    named = [(each, each.corrects or each.own_name) for each in amendments]
    leads_to: dict[str, str] = {}
    for each, name in named:
        if each.action == "CORRECT" and name != each.own_name and each.own_name not in reported:
            leads_to[each.own_name] = min(name, leads_to.get(each.own_name, name))
    return [(each, _end(name, leads_to)) for each, name in named]


def _end(name: str, leads_to: Mapping[str, str]) -> str:
    """Follow links to their end; gives the start where they go round in a circle."""
    reached, passed = name, {name}
    while reached in leads_to:
        reached = leads_to[reached]
        if reached in passed:
            return name
        passed.add(reached)
    return reached


def arriving_at(day: date, symbol: str, later: Mapping[date, Sequence[Message]], reporting: Reporting) -> list[Message]:
    """Select the cancels and corrections of later days that are about a day's trades of a symbol.

    Args:
        day: The day.
        symbol: The symbol.
        later: For each later day its cancels and corrections of the symbol.
        reporting: Which days report the ids that they mention.
    """
    found = []
    for other, amendments in later.items():
        own = {trade_id for (of, trade_id), days in reporting.items() if of == symbol and other in days}
        for each, name in followed(amendments, own):
            if name not in own and nearest_before(other, symbol, name, reporting) == day:
                found.append(each)
    return found


def nearest_before(day: date, symbol: str, name: str, reporting: Reporting) -> date | None:
    """Find the nearest earlier day within reach that reports a trade as new."""
    days = reporting.get((symbol, name), ())
    return max((each for each in days if day - REACH <= each < day), default=None)


def messages_by_symbol(raw: pa.Table, topics: Sequence[str]) -> Iterator[tuple[str, list[Message]]]:
    """Read raw rows as messages, symbol by symbol in alphabetical order; dead letters are left out.

    Args:
        raw: ``COLUMNS_READ``, in any order.
        topics: Topic ids, the oldest first; others follow by id.
    """
    unknown = sorted(set(raw["kafka_topic_id"].unique().to_pylist()) - set(topics))
    ages = {topic: age for age, topic in enumerate([*topics, *unknown])}
    live = raw.filter(raw["reject_reason"].is_null())
    coded = live["symbol"].cast(pa.string()).combine_chunks().dictionary_encode()
    codes = coded.indices.to_numpy(zero_copy_only=False)
    order = np.argsort(codes, kind="stable")
    names = coded.dictionary.to_pylist()
    starts = np.searchsorted(codes[order], np.arange(len(names) + 1))
    for code in sorted(range(len(names)), key=names.__getitem__):
        rows = live.take(pa.array(order[starts[code] : starts[code + 1]]))
        yield names[code], [_message(row, ages) for row in rows.to_pylist()]


def named_in_scope(raw: pa.Table, scope: str, topics: Sequence[str]) -> pa.Table:
    """Give raw rows in which symbol and trade_id name a trade, row by row in plain Python.

    Within a venue its name is put before the ids. Within a feed, a ``NEW`` message whose id an earlier one has for
    another symbol is left out.

    Args:
        raw: ``COLUMNS_READ`` and ``exchange``.
        scope: ``symbol``, ``venue``, ``feed`` or ``day``.
        topics: Topic ids, the oldest first; others follow by id.
    """
    if scope == "venue":
        rows = [
            {**row, **{name: _at_venue(row["exchange"], row[name]) for name in _ID_COLUMNS if name in row}}
            for row in raw.to_pylist()
        ]
        return pa.Table.from_pylist(rows, raw.schema)
    if scope == "feed" and {"action", *COLUMNS_READ} <= set(raw.column_names):
        rows = raw.to_pylist()
        ages = {topic: age for age, topic in enumerate(topics)}
        places = {
            number: (ages.get(row["kafka_topic_id"], len(ages)), *(row[name] for name in COLUMNS_READ[-3:]))
            for number, row in enumerate(rows)
            if row["action"] == "NEW" and row["trade_id"] and row["reject_reason"] is None
        }
        holder: dict[str, str] = {}
        for number in sorted(places, key=places.__getitem__):
            holder.setdefault(rows[number]["trade_id"], rows[number]["symbol"])
        left = [n for n, row in enumerate(rows) if n not in places or holder[row["trade_id"]] == row["symbol"]]
        return raw.take(pa.array(left, pa.int64()))
    return raw


_ID_COLUMNS = ("trade_id", "corrects_trade_id")


def _at_venue(exchange: str | None, name: str | None) -> str | None:
    return f"{(exchange or '').replace(':', '_')}:{name}" if name else name


def _message(row: Mapping[str, Any], ages: Mapping[str, int]) -> Message:
    return Message(
        day=row["trade_date"],
        at=row["exchange_timestamp"],
        sequence=row["sequence_number"],
        trade_id=row["trade_id"] or "",
        price=row["price"],
        quantity=row["quantity"],
        side=row["side"],
        conditions=tuple(row["conditions"]),
        currency=row["currency"],
        received=row["received_timestamp"],
        action=row["action"],
        corrects=row["corrects_trade_id"] or "",
        age=ages[row["kafka_topic_id"]],
        topic=row["kafka_topic_id"],
        partition=row["kafka_partition"],
        offset=row["kafka_offset"],
    )


@dataclass(frozen=True)
class Eligibility:
    """Holds the feed's rules of which trades set prices and which count for volume."""

    no_price: frozenset[str]
    no_volume: frozenset[str]
    any_price: bool = False

    def of(self, trade: RecomputedTrade) -> tuple[bool, bool]:
        """Tell whether a trade sets prices, and whether it counts for volume."""
        sound = (self.any_price or trade.valued.price > 0) and trade.valued.quantity >= 0
        conditions = trade.valued.conditions
        return sound and self.no_price.isdisjoint(conditions), sound and self.no_volume.isdisjoint(conditions)


def trade_differences(
    symbol: str, expected: Sequence[RecomputedTrade], published: Sequence[Mapping[str, Any]], eligibility: Eligibility
) -> list[str]:
    """List where the published trades of a symbol are not the expected ones.

    Args:
        symbol: The symbol.
        expected: In market order.
        published: Rows of ``TRADES`` of the symbol, in any order.
        eligibility: The feed's rules.
    """
    wrong = []
    rows: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in published:
        rows[row["trade_id"]].append(row)
    for number, trade in enumerate(expected, 1):
        found = rows.pop(trade.name, [])
        if len(found) != 1:
            wrong.append(f"{symbol} {trade.name}: {'there more than once' if found else 'missing'}")
            continue
        values = _values(trade, number, eligibility)
        differing = [
            f"{name} is {found[0][name]}, expected {value}" for name, value in values if found[0][name] != value
        ]
        if differing:
            wrong.append(f"{symbol} {trade.name}: {'; '.join(differing)}")
    return wrong + [f"{symbol} {name}: there, but no message reports it as it stands" for name in sorted(rows)]


def _values(trade: RecomputedTrade, number: int, eligibility: Eligibility) -> list[tuple[str, object]]:
    placed, valued = trade.placed, trade.valued
    sets_price, counts = eligibility.of(trade)
    return [
        ("trade_order", number),
        ("exchange_timestamp", placed.at),
        ("sequence_number", placed.sequence),
        ("price", valued.price),
        ("quantity", valued.quantity),
        ("side", valued.side),
        ("conditions", list(valued.conditions)),
        ("currency", valued.currency),
        ("price_eligible", sets_price),
        ("volume_eligible", counts),
        ("corrected", valued.action == "CORRECT"),
        ("received_timestamp", valued.received),
        ("kafka_topic_id", valued.topic),
        ("kafka_partition", valued.partition),
        ("kafka_offset", valued.offset),
    ]


def trade_violations(day: date, wrong: Sequence[str]) -> list[Violation]:
    """Make a violation of a day's differences, if there are any."""
    return (
        [violation(Invariant.BARS, f"trades of {day} that are not what the messages amount to", wrong)] if wrong else []
    )
