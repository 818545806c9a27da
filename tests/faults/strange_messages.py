"""Messages that no exchange should send, each with its row of the fault catalogue and what it is to become."""

import copy
import io
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any

import fastavro

from k2_market.messages.framing import frame
from k2_market.messages.outgoing import OutgoingMessages
from k2_market.schemas.avro import TRADE
from k2_market.schemas.tables import PRICE, QUANTITY

DAY = date(2026, 11, 20)
AT = datetime(2026, 11, 20, 15, 0, tzinfo=UTC)
_US = int(AT.timestamp()) * 1_000_000


@dataclass(frozen=True)
class Strange:
    """A message, and what it is to become.

    Attributes:
        row: Its row of the fault catalogue.
        value: What is sent.
        reason: Part of the dead letter's reason; empty where the message is a row like any other.
        key: Its key.
        timestamp_ms: Its record timestamp.
    """

    row: str
    value: bytes | None
    reason: str = ""
    key: bytes | None = b"SIM01"
    timestamp_ms: int = _US // 1_000


def trade(number: int, **changes: Any) -> dict[str, Any]:
    """A trade as its Avro record; ``changes`` replace fields."""
    usual = {
        "message_id": f"m{number}",
        "trade_id": f"t{number}",
        "symbol": "SIM01",
        "exchange": "SIM",
        "asset_class": "equities",
        "exchange_timestamp": _US + number,
        "trade_date": DAY,
        "price": Decimal(10).quantize(Decimal(1).scaleb(-PRICE.scale)),
        "quantity": Decimal(100).quantize(Decimal(1).scaleb(-QUANTITY.scale)),
        "currency": "USD",
        "side": "BUY",
        "conditions": [],
        "action": "NEW",
        "corrects_trade_id": None,
        "sequence_number": number,
        "received_timestamp": AT,
        "attributes": None,
    }
    return {**usual, **changes}


def message(schema_id: int, record: dict[str, Any], schema: dict[str, Any] | None = None) -> bytes:
    """A record as a Kafka value."""
    written = io.BytesIO()
    parsed = fastavro.parse_schema(copy.deepcopy(schema or TRADE))
    fastavro.schemaless_writer(written, parsed, record)
    return frame(schema_id, written.getvalue())


def altered(**types: Any) -> dict[str, Any]:
    """The schema of trades under a name of its own, with other types for some fields."""
    schema = copy.deepcopy(TRADE)
    schema["name"] = f"Trade{uuid.uuid4().hex[:8]}"
    for each in schema["fields"]:
        if each["name"] in types:
            each["type"] = types[each["name"]]
            each.pop("default", None)
    return schema


WITH_DOUBLES = altered(price="double", quantity="double")
WITH_LONG_DECIMALS = altered(price={"type": "bytes", "logicalType": "decimal", "precision": 40, "scale": PRICE.scale})
WITH_MORE_PLACES = altered(price={"type": "bytes", "logicalType": "decimal", "precision": 40, "scale": 12})


@dataclass(frozen=True)
class SchemaIds:
    """The registry's ids of the schemas that strange messages are written with."""

    trades: int
    doubles: int
    long_decimals: int
    more_places: int
    quotes: int


def strange_messages(ids: SchemaIds, random: Random) -> list[Strange]:
    """All of them, in an order that is the catalogue's."""
    return [
        *_framing(ids),
        *_bodies(ids, random),
        *_times(ids),
        *_numbers(ids),
        *_sequences(ids),
        *_symbols(ids),
    ]


def outgoing(messages: list[Strange]) -> OutgoingMessages:
    """Messages as they are sent."""
    return OutgoingMessages(
        keys=[each.key for each in messages],  # type: ignore[misc]  # a null key is one of the strange things
        values=[each.value for each in messages],
        timestamps_ms=[each.timestamp_ms for each in messages],
    )


def _framing(ids: SchemaIds) -> Iterator[Strange]:
    whole = message(ids.trades, trade(1_001))
    yield Strange("M1", b"\x02" + whole[1:], "magic byte 0x02")
    yield Strange("M1", b"{" + whole[1:], "magic byte 0x7b")
    yield Strange("M1", b"\x01" + uuid.UUID(int=7).bytes + whole[5:], "magic byte 0x01")
    yield Strange("M2", frame(2_000_000_000, whole[5:]), "unknown schema id 2000000000")
    yield Strange("M2", frame(ids.quotes, whole[5:]), "lacks trade_id, price, quantity")
    for end in range(1, len(whole)):
        yield Strange("M3", whole[:end], "truncated body" if end >= 5 else "shorter than its 5-byte header")
    yield Strange("M4", whole + b"\x00", "1 byte left after the record")
    yield Strange("M4", whole + whole, "left after the record")


def _bodies(ids: SchemaIds, random: Random) -> Iterator[Strange]:
    yield Strange("M5", b"\xff" + random.randbytes(1_040_000), "magic byte 0xff")
    yield Strange("M5", bytes(10_000_000), "schema id 0")
    yield Strange("M5", message(ids.trades, trade(1_002, attributes={"note": random.randbytes(400_000).hex()})))
    yield Strange("M6", None, "null value")
    yield Strange("M6", b"", "empty value")
    yield Strange("M6", message(ids.trades, trade(1_003)), key=None)
    yield Strange("M6", None, "null value", key=None)


def _times(ids: SchemaIds) -> Iterator[Strange]:
    for instant in (0, -1, -(2**63), 2**63 - 1, 9_214_646_400_000_000):
        yield Strange("M7", message(ids.trades, trade(1_004, exchange_timestamp=instant)), "exchange_timestamp")
    yield Strange("M7", message(ids.trades, trade(1_005, exchange_timestamp=_US // 1_000)), "looks like milliseconds")
    yield Strange("M7", message(ids.trades, trade(1_006, trade_date=date(1970, 1, 1))), "trade_date 1970-01-01 outside")
    yield Strange("M7", message(ids.trades, trade(1_006, trade_date=date(2262, 1, 1))), "trade_date 2262-01-01 outside")
    yield Strange("M7", b"x", "magic byte 0x78", timestamp_ms=1)
    yield Strange("M7", message(ids.trades, trade(1_007)), timestamp_ms=1)


def _numbers(ids: SchemaIds) -> Iterator[Strange]:
    for price in (float("nan"), float("inf"), float("-inf"), 1e308, 5e-324):
        record = trade(1_008, price=price, quantity=1.0)
        yield Strange("M8", message(ids.doubles, record, WITH_DOUBLES), "price is double, expected decimal")
    for number, price in enumerate((Decimal(0), Decimal(-5), Decimal(1).scaleb(-PRICE.scale))):
        yield Strange("M8", message(ids.trades, trade(1_010 + number, price=price)))
    yield Strange("M8", message(ids.trades, trade(1_013, quantity=Decimal(-1))))
    record = trade(1_014, price=Decimal(10) ** 25)
    yield Strange("M9", message(ids.long_decimals, record, WITH_LONG_DECIMALS), "price of 36 digits, at most 18")
    record = trade(1_015, price=Decimal("1.000000000001"))
    yield Strange("M9", message(ids.more_places, record, WITH_MORE_PLACES), "expected decimal")


def _sequences(ids: SchemaIds) -> Iterator[Strange]:
    twice = Strange("M10", message(ids.trades, trade(1_020)))
    yield from (twice, twice)
    for number, sequence_number in enumerate((5_000, 4_000, 4_000, 1, 2, 2**63 - 1, -(2**63))):
        yield Strange("M11", message(ids.trades, trade(1_030 + number, sequence_number=sequence_number)))
    earlier = AT - timedelta(days=1)
    times = {"exchange_timestamp": int(earlier.timestamp() * 1e6), "trade_date": earlier.date()}
    yield Strange("M12", message(ids.trades, trade(1_040, **times)))


def _symbols(ids: SchemaIds) -> Iterator[Strange]:
    too_long, empty, climbs, other = (
        "characters, at most 64",
        "is empty",
        "holds '..'",
        "U+",
    )
    refused = {
        "M13": {
            "../../x": climbs,
            "/abs": other,
            "BHP\x00": other,
            "BHP\nRIO": other,
            "\u202eBHP": other,
            "BHP🚀": other,
            "S" * 10_000: too_long,
            "": empty,
        },
        "M14": {"BTC'; drop table t; --": other, "`id`": other, 'a"b': other},
        "M15": {
            "=cmd()|' /C calc'!A0": other,
            "<script>alert(1)</script>": other,
            "\x1b[31mBHP": other,
            "A\r\nB": other,
        },
    }
    for row, symbols in refused.items():
        for symbol, reason in symbols.items():
            record = trade(1_050, symbol=symbol)
            yield Strange(row, message(ids.trades, record), reason, key=symbol.encode())
    for number, symbol in enumerate(("a/b", "CON", "NUL", "A=B", "A@B", "A!B*C~", "é", "e\u0301")):
        yield Strange("M13", message(ids.trades, trade(1_060 + number, symbol=symbol)), key=symbol.encode())
