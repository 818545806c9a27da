"""Messages as producers write them, and a plain decoder of one message to hold the real one to."""

import copy
import io
import json
import re
import unicodedata
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import fastavro

from k2_market.feeds.day_window import DayWindow
from k2_market.feeds.trading_calendar import TradingCalendar
from k2_market.messages.batch import MessageBatch
from k2_market.messages.framing import frame
from k2_market.schemas.avro import QUOTE, TRADE
from k2_market.schemas.message_kinds import QUOTE_MESSAGES, TRADE_MESSAGES, MessageKind
from k2_market.schemas.tables import RAW_QUOTES, RAW_TRADES

TOPIC_ID = "b3e1c9f2-0000-4000-8000-0123456789ab"
SCHEMA_ID = 7
SYDNEY = TradingCalendar(ZoneInfo("Australia/Sydney"), "24/7", date(2014, 3, 10))
DAYS = DayWindow(SYDNEY, date(2014, 3, 10), date(2026, 11, 24))
OPEN_US = int(datetime(2014, 3, 10, 23, tzinfo=UTC).timestamp()) * 1_000_000
OPEN_MS = OPEN_US // 1000
TABLES = {TRADE_MESSAGES: RAW_TRADES, QUOTE_MESSAGES: RAW_QUOTES}


def trade(**changes: Any) -> dict[str, Any]:
    """A trade of BHP on 2014-03-11, as fastavro takes it."""
    return {
        "message_id": "m-1",
        "trade_id": "t-1",
        "symbol": "BHP",
        "exchange": "ASX",
        "asset_class": "equities",
        "exchange_timestamp": OPEN_US,
        "trade_date": date(2014, 3, 11),
        "price": Decimal("36.45"),
        "quantity": Decimal(100),
        "currency": "AUD",
        "side": "BUY",
        "conditions": ["XT"],
        "action": "NEW",
        "corrects_trade_id": None,
        "sequence_number": 42,
        "received_timestamp": OPEN_US + 5,
        "attributes": {"venue": "TM"},
        **changes,
    }


def quote(**changes: Any) -> dict[str, Any]:
    """A quote of BHP on 2014-03-11, as fastavro takes it."""
    shared = {field["name"] for field in QUOTE["fields"]}
    prices = {"bid_price": "36.44", "bid_size": "10", "ask_price": "36.46", "ask_size": "20"}
    kept = {name: value for name, value in trade().items() if name in shared}
    return {**kept, **{name: Decimal(number) for name, number in prices.items()}, **changes}


def body(record: Mapping[str, Any], schema: dict[str, Any] = TRADE) -> bytes:
    """A record as Avro binary, without a frame."""
    written = io.BytesIO()
    fastavro.schemaless_writer(written, fastavro.parse_schema(copy.deepcopy(schema)), dict(record))
    return written.getvalue()


def message(record: Mapping[str, Any], schema: dict[str, Any] = TRADE, schema_id: int = SCHEMA_ID) -> bytes:
    """A record as a Kafka value."""
    return frame(schema_id, body(record, schema))


def batch(*values: bytes | None, timestamp_ms: int = OPEN_MS) -> MessageBatch:
    """Values as they come off a partition."""
    count = len(values)
    return MessageBatch(
        topic_id=TOPIC_ID,
        partitions=[3] * count,
        offsets=list(range(100, 100 + count)),
        timestamps_ms=[timestamp_ms] * count,
        keys=[b"BHP"] * count,
        values=list(values),
        correlation_ids=[f"load-{place}" for place in range(count)],
    )


def altered(schema: dict[str, Any], **types: Any) -> dict[str, Any]:
    """A schema with the types of some fields replaced, and with fields of other names added at the end."""
    changed = copy.deepcopy(schema)
    for field in changed["fields"]:
        if field["name"] in types:
            field["type"] = types.pop(field["name"])
            field.pop("default", None)
    changed["fields"] += [{"name": name, "type": avro_type} for name, avro_type in types.items()]
    return changed


def one_message(value: bytes | None, kind: MessageKind, writers: Mapping[int, Any]) -> dict[str, Any] | None:
    """A message's decoded columns the plain way, or None for a dead letter. Knows the schemas of these tests only.

    Enums are read as numbers and decimals as bytes, since fastavro takes an enum's index of -1 for its last symbol
    and rounds decimals to the schema's precision.
    """
    if value is None or len(value) < 5 or value[0] != 0 or int.from_bytes(value[1:5], "big") not in writers:
        return None
    writer = writers[int.from_bytes(value[1:5], "big")]
    stream = io.BytesIO(value[5:])
    try:
        raw = fastavro.schemaless_reader(stream, fastavro.parse_schema(_without_logic(writer)), None)
    except Exception:
        return None
    if stream.tell() != len(value) - 5:
        return None
    row: dict[str, Any] = dict.fromkeys(_message_columns(kind))
    types = {field["name"]: field["type"] for field in kind.avro["fields"]}
    extra = {}
    try:
        for field in kind.avro["fields"]:
            row[field["name"]] = copy.copy(field.get("default"))
        for field in writer["fields"]:
            found = _value(field["type"], raw[field["name"]])
            if field["name"] in types:
                if found is None and not isinstance(types[field["name"]], list):
                    return None
                row[field["name"]] = found
            elif found is not None:
                extra[field["name"]] = found if isinstance(found, str) else _attribute(field["type"], found)
    except (OverflowError, IndexError):
        return None
    if extra:
        row["attributes"] = {**{k: v for k, v in (row["attributes"] or {}).items() if k not in extra}, **extra}
    row = _tidied(row)
    return row if _is_sane(row, kind) else None


def _message_columns(kind: MessageKind) -> list[str]:
    names = TABLES[kind].names
    return names[: names.index("kafka_topic_id")]


def _without_logic(avro: Any) -> Any:
    if isinstance(avro, list):
        return [_without_logic(each) for each in avro]
    if isinstance(avro, str):
        return avro
    if avro["type"] == "record":
        return {**avro, "fields": [{"name": f["name"], "type": _without_logic(f["type"])} for f in avro["fields"]]}
    if avro["type"] == "enum":
        return "long"
    return {key: value for key, value in avro.items() if key not in ("logicalType", "precision", "scale")}


def _value(avro: Any, raw: Any) -> Any:
    if raw is None:
        return None
    if isinstance(avro, list):
        (avro,) = [each for each in avro if each != "null"]
    if isinstance(avro, str):
        return raw
    if avro["type"] == "enum":
        if raw < 0:
            raise IndexError(raw)
        return avro["symbols"][raw]
    match avro.get("logicalType"):
        case "decimal":
            sign, digits = ("-", raw) if int.from_bytes(raw, "big", signed=True) < 0 else ("", raw)
            number = str(abs(int.from_bytes(digits, "big", signed=True)))
            return Decimal(f"{sign}{number}e-{avro['scale']}")
        case "timestamp-micros":
            return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=raw)
        case "date":
            return date(1970, 1, 1) + timedelta(days=raw)
    return raw


def _attribute(avro: Any, value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, datetime):
        return str((value - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1))
    if isinstance(value, date):
        return str((value - date(1970, 1, 1)).days)
    if isinstance(value, int | float):
        return repr(value)
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


_SPACE = "\t\n\v\f\r\x1c\x1d\x1e\x1f \x85\xa0\u1680\u2028\u2029\u202f\u205f\u2060\u3000\ufeff" + "".join(
    map(chr, range(0x2000, 0x200C))
)
_BETWEEN_CODES = re.compile(f"[{re.escape(_SPACE)},;|/\\\\:+&，、；｜]+")


def _tidied(row: dict[str, Any]) -> dict[str, Any]:
    ids = ("trade_id", "symbol", "exchange", "currency", "corrects_trade_id")
    tidy = {name: row[name].strip(_SPACE) for name in ids if row.get(name) is not None}
    if "conditions" in row:
        tidy["conditions"] = [code for item in row["conditions"] for code in _BETWEEN_CODES.split(item) if code]
    return {**row, **tidy}


def _in_symbols(character: str) -> bool:
    return unicodedata.category(character)[0] in "LMN" or character in " ._-/:+=^#@&$*!~"


def _in_microseconds(instant: datetime) -> bool:
    count = (instant - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    return not (10**8 <= count < 10**14)


def _is_sane(row: dict[str, Any], kind: MessageKind) -> bool:
    symbol = row["symbol"]
    texts = [row.get(name) or "" for name in ("message_id", "trade_id", "exchange", "currency", "corrects_trade_id")]
    decimals = [(value, TABLES[kind].field(name).type) for name, value in row.items() if isinstance(value, Decimal)]
    return (
        0 < len(symbol) <= 64
        and all(map(_in_symbols, symbol))
        and symbol[0] not in " -/:+=@&*!~"
        and unicodedata.category(symbol[0])[0] != "M"
        and symbol[-1] != " "
        and ".." not in symbol
        and all(len(text) <= 256 for text in [*texts, *(row.get("conditions") or [])])
        and all(
            datetime(1970, 1, 1, tzinfo=UTC) < row[name] < datetime(2262, 1, 1, tzinfo=UTC)
            for name in ("exchange_timestamp", "received_timestamp")
        )
        and all(_in_microseconds(row[name]) for name in ("exchange_timestamp", "received_timestamp"))
        and not any(re.search(r"[][(){}<>\"'`\x00-\x1f\x7f]|\d[-_.~]\d", code) for code in row.get("conditions") or [])
        and DAYS.first <= row["trade_date"] <= DAYS.last
        and abs((row["trade_date"] - row["exchange_timestamp"].date()).days) <= 13
        and all(abs(value) < Decimal(10) ** (of.precision - of.scale) for value, of in decimals)
    )
