"""Plants faults into a simulated day, as they happen on the way to Kafka, with an account of each.

Each kind of fault is for one check to find, so the kinds don't mix: a corrupt message is a damaged copy that is sent
beside the good one, not in its place, which would be a gap as well; no trade is hit by two faults.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import polars as pl

from k2_market.messages.framing import HEADER_BYTES, frame
from k2_market.messages.outgoing import OutgoingMessages


class Fault(StrEnum):
    """A kind of fault."""

    GAPS = "gaps"
    """Runs of sequence numbers that never arrive."""
    LATE = "late"
    """Trades sent after all others, out of order."""
    DUPLICATES = "duplicates"
    """Messages sent a second time."""
    CORRUPT = "corrupt"
    """Messages that can't be decoded."""
    NEGATIVE_PRICE = "negative-price"
    """Trades whose price has the wrong sign."""
    NULL_VALUE = "null-value"
    """Messages with a key and no value."""


class Damage(StrEnum):
    """Describes what is wrong with a message as bytes."""

    TRUNCATED = "truncated body"
    WRONG_MAGIC = "wrong magic byte"
    UNKNOWN_SCHEMA = "unknown schema id"
    NULL_VALUE = "null value"


UNKNOWN_SCHEMA_ID = 2**31 - 1
_WRONG_MAGIC = b"\x7b"

_GAPS, _LONGEST_GAP = 3, 5
_DUPLICATES = 5
_CORRUPT_OF_EACH = 2
_NEGATIVE_PRICES = 3
_NULL_VALUES = 2
_LATE_SHARE, _MOST_LATE = 0.001, 1_000
_RECEIVED_LATE_US = 30 * 60 * 1_000_000
_RESENT_AFTER = 50
"""A second copy follows within this many messages."""


@dataclass(frozen=True)
class PlantedFault:
    """Faults of one kind in one symbol.

    Attributes:
        fault: The kind.
        symbol: Where.
        sequence_numbers: Which trades, as ranges with both ends included, in order.
        detail: What exactly, where a kind has several forms.
    """

    fault: Fault
    symbol: str
    sequence_numbers: tuple[tuple[int, int], ...]
    detail: str = ""

    @property
    def count(self) -> int:
        """Tell how many trades or messages."""
        return sum(last - first + 1 for first, last in self.sequence_numbers)


@dataclass(frozen=True)
class PlantedFaults:
    """A day with faults in it.

    Attributes:
        trades: ``SOURCE_TRADE`` in the order of sending.
        damage: For each trade how its message is damaged (``Damage``), or null.
        planted: All faults, by kind and symbol.
    """

    trades: pl.DataFrame
    damage: pl.Series
    planted: tuple[PlantedFault, ...]

    def count(self, fault: Fault) -> int:
        """Tell how many trades or messages have a fault."""
        return sum(each.count for each in self.planted if each.fault is fault)


def plant(trades: pl.DataFrame, faults: Collection[Fault], seed: int) -> PlantedFaults:
    """Return a day with some kinds of fault planted into it.

    Args:
        trades: A simulated day: ``SOURCE_TRADE``, sorted by time, sequence numbers without holes.
        faults: Which kinds; where the day is too small for a kind, it has fewer of it or none.
        seed: The same seed plants the same faults.
    """
    rng = np.random.default_rng([seed, trades.height])
    victims = _Victims(trades, rng)
    gaps = [victims.run(int(length)) for length in rng.integers(1, _LONGEST_GAP + 1, _GAPS * (Fault.GAPS in faults))]
    late = victims.some(min(max(int(trades.height * _LATE_SHARE), 1), _MOST_LATE) if Fault.LATE in faults else 0)
    twice = victims.some(_DUPLICATES if Fault.DUPLICATES in faults else 0)
    negative = victims.some(_NEGATIVE_PRICES if Fault.NEGATIVE_PRICE in faults else 0)
    damaged_copies = {
        damage: victims.some(_CORRUPT_OF_EACH if Fault.CORRUPT in faults else 0)
        for damage in (Damage.TRUNCATED, Damage.WRONG_MAGIC, Damage.UNKNOWN_SCHEMA)
    }
    nulls = victims.some(_NULL_VALUES if Fault.NULL_VALUE in faults else 0)

    dropped = [row for run in gaps for row in run]
    copies: list[tuple[int, Damage | None]] = [(row, None) for row in twice]
    copies += [(row, damage) for damage, rows in damaged_copies.items() for row in rows]
    copies += [(row, Damage.NULL_VALUE) for row in nulls]
    order = _sending_order(trades.height, dropped, late, copies, rng)
    planted = [
        *_account(trades, Fault.GAPS, dropped),
        *_account(trades, Fault.LATE, late),
        *_account(trades, Fault.DUPLICATES, twice),
        *(each for damage, rows in damaged_copies.items() for each in _account(trades, Fault.CORRUPT, rows, damage)),
        *_account(trades, Fault.NEGATIVE_PRICE, negative),
        *_account(trades, Fault.NULL_VALUE, nulls),
    ]
    return PlantedFaults(_sent(trades, order["row"], late, negative), order["damage"], tuple(planted))


class _Victims:
    """Hands out rows for faults: each once, with a neighbour of its symbol on either side that has no fault.

    Trades that a cancel or correction names, and these themselves, are spared, and so is each symbol's first and last
    trade: without a neighbour on both sides a gap could not be seen.
    """

    def __init__(self, trades: pl.DataFrame, rng: np.random.Generator) -> None:
        amended = trades.filter(pl.col("corrects_trade_id").is_not_null()).select(
            "symbol", trade_id="corrects_trade_id", amended=pl.lit(True)
        )
        linked = (
            trades.select("symbol", "trade_id", "sequence_number", "action")
            .with_row_index("row")
            .with_columns(pl.col("row").cast(pl.Int64))
            .join(amended, on=["symbol", "trade_id"], how="left")
            .sort("symbol", "sequence_number")
            .with_columns(before=pl.col("row").shift(1).over("symbol"), after=pl.col("row").shift(-1).over("symbol"))
            .sort("row")
        )
        spared = pl.col("amended").is_not_null() | (pl.col("action") != "NEW")
        inside = pl.col("before").is_not_null() & pl.col("after").is_not_null()
        self._free = linked.select(inside & ~spared).to_series().to_list()
        self._before, self._after = linked["before"].to_list(), linked["after"].to_list()
        self._candidates = iter(rng.permutation(trades.height).tolist())

    def some(self, count: int) -> list[int]:
        """Return up to ``count`` rows."""
        return [row for _ in range(count) for row in self.run(1)]

    def run(self, length: int) -> list[int]:
        """Return rows that follow one another in their symbol, ``length`` of them, or none if there are no such."""
        for candidate in self._candidates:
            rows: list[int] = []
            row = candidate
            while row is not None and self._free[row] and len(rows) < length:
                rows.append(row)
                row = self._after[row]
            if len(rows) == length:
                for used in (self._before[rows[0]], *rows, self._after[rows[-1]]):
                    self._free[used] = False
                return rows
        return []


def _sending_order(
    count: int, dropped: list[int], late: list[int], copies: list[tuple[int, Damage | None]], rng: np.random.Generator
) -> pl.DataFrame:
    """``row`` and ``damage`` of each message in the order of sending."""
    place = np.arange(count, dtype=np.float64)
    place[late] += count
    originals = pl.DataFrame({"row": np.arange(count), "place": place}).with_columns(damage=pl.lit(None, pl.String))
    rows = [row for row, _ in copies]
    resent = pl.DataFrame(
        {
            "row": pl.Series(rows, dtype=pl.Int64),
            "place": np.array(rows, dtype=np.float64) + rng.integers(1, _RESENT_AFTER, len(rows)) - 0.5,
            "damage": pl.Series([damage for _, damage in copies], dtype=pl.String),
        }
    )
    sent = originals.filter(~pl.col("row").is_in(dropped))
    return pl.concat([sent, resent]).sort("place", maintain_order=True).drop("place")


def _sent(trades: pl.DataFrame, order: pl.Series, late: list[int], negative: list[int]) -> pl.DataFrame:
    changed = trades.with_row_index("row").with_columns(
        price=pl.when(pl.col("row").is_in(negative))
        .then(-pl.col("price"))
        .otherwise("price")
        .cast(trades.schema["price"]),
        received_timestamp_us=pl.col("received_timestamp_us") + pl.col("row").is_in(late) * _RECEIVED_LATE_US,
    )
    return changed.drop("row")[order]


def _account(trades: pl.DataFrame, fault: Fault, rows: list[int], detail: str = "") -> list[PlantedFault]:
    hit = trades[sorted(rows)].select("symbol", "sequence_number").sort("symbol", "sequence_number")
    return [
        PlantedFault(fault, str(symbol), _ranges(each["sequence_number"].to_list()), detail)
        for (symbol,), each in hit.group_by("symbol", maintain_order=True)
    ]


def _ranges(numbers: list[int]) -> tuple[tuple[int, int], ...]:
    ranges: list[tuple[int, int]] = []
    for number in numbers:
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1] = (ranges[-1][0], number)
        else:
            ranges.append((number, number))
    return tuple(ranges)


def damaged(messages: OutgoingMessages, damage: Sequence[str | None]) -> OutgoingMessages:
    """Return the messages with the values of some damaged."""
    values = [
        value if how is None or value is None else _damaged_value(value, Damage(how))
        for value, how in zip(messages.values, damage, strict=True)
    ]
    return OutgoingMessages(messages.keys, values, messages.timestamps_ms)


def _damaged_value(value: bytes, damage: Damage) -> bytes | None:
    match damage:
        case Damage.TRUNCATED:
            return value[: HEADER_BYTES + (len(value) - HEADER_BYTES) // 2]
        case Damage.WRONG_MAGIC:
            return _WRONG_MAGIC + value[1:]
        case Damage.UNKNOWN_SCHEMA:
            return frame(UNKNOWN_SCHEMA_ID, value[HEADER_BYTES:])
        case Damage.NULL_VALUE:
            return None
