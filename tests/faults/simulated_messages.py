"""Messages of a simulated feed, encoded once for all schedules: trades that can be told apart, and poison."""

import io
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cache
from typing import Any

import fastavro
from simulated_broker import Entry, Fate, Harm

from k2_market.feeds.feed import Feed, parse_feed
from k2_market.messages.framing import frame
from k2_market.schemas.avro import TRADE

FEED: Feed = parse_feed(
    """
    name = "simulated"
    exchange = "SIMULATED"
    asset_class = "crypto"
    timezone = "UTC"
    calendar = "24/7"
    start_date = 2026-11-01
    currency = "USD"
    [topics]
    trades = "market.crypto.trades.simulated"
    """,
    "simulated feed",
)
EPOCH = datetime(2026, 11, 20, 12, tzinfo=UTC)
"""When each schedule starts."""

SCHEMA_ID = 7
_DAYS = (date(2026, 11, 18), date(2026, 11, 19), date(2026, 11, 20))
_TRADES = 600


@dataclass(frozen=True)
class Message:
    """What is sent, and the trade id that its row will have; None where it can't be read."""

    value: bytes | None
    trade_id: str | None
    timestamp_ms: int
    harm: Harm | None = None

    def entry(self) -> Entry:
        """The message as it is written to a log."""
        return Entry(Fate.COMMITTED, self.value, b"SYM", self.timestamp_ms, self.harm)


class Registry:
    """A schema registry that knows one schema, and may be down."""

    def __init__(self, is_down: Any) -> None:
        self._is_down = is_down

    def writer_schemas(self, ids: Iterable[int]) -> dict[int, dict[str, Any]]:
        self._is_down()
        return {each: TRADE for each in ids if each == SCHEMA_ID}


@cache
def trades() -> tuple[Message, ...]:
    """Trades of some days, late ones among them; no two alike."""
    return tuple(_trade(number) for number in range(_TRADES))


@cache
def poison() -> tuple[Message, ...]:
    """Messages that become dead letters, each for another reason."""
    good = trades()[0]
    assert good.value is not None
    values = (
        b"junk",
        b"",
        None,
        good.value[:-3],
        good.value + b"\x00",
        struct.pack(">bI", 0, 99) + good.value[5:],
        b"\x01" + good.value[1:],
    )
    return tuple(Message(value, None, good.timestamp_ms) for value in values)


@cache
def harmful() -> tuple[Message, ...]:
    """Messages that end or fail whatever reads or decodes them."""
    return tuple(Message(each.value.encode(), None, trades()[0].timestamp_ms, each) for each in Harm)


def _trade(number: int) -> Message:
    day = _DAYS[min(number * 7919 % 10, 2)]
    instant = datetime(day.year, day.month, day.day, 1 + number % 10, number % 60, tzinfo=UTC)
    microseconds = int(instant.timestamp()) * 1_000_000
    record = {
        "message_id": f"m-{number}",
        "trade_id": f"t-{number}",
        "symbol": f"SYM{number % 5}",
        "exchange": FEED.exchange,
        "asset_class": "crypto",
        "exchange_timestamp": microseconds,
        "trade_date": (day - date(1970, 1, 1)).days,
        "price": (number + 1).to_bytes(4, "big"),
        "quantity": (10**8).to_bytes(5, "big"),
        "currency": "USD",
        "side": "BUY",
        "conditions": [],
        "action": "NEW",
        "corrects_trade_id": None,
        "sequence_number": number,
        "received_timestamp": microseconds,
        "attributes": None,
    }
    return Message(frame(SCHEMA_ID, _avro(record)), f"t-{number}", microseconds // 1000)


def _avro(record: dict[str, Any]) -> bytes:
    body = io.BytesIO()
    fastavro.schemaless_writer(body, _schema(), record)
    return body.getvalue()


@cache
def _schema() -> Any:
    return fastavro.parse_schema(TRADE)
