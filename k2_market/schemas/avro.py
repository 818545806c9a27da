"""Defines the Avro schemas of K2's messages, and the names of their registry subjects.

Schemas evolve under BACKWARD_TRANSITIVE: a field that is added here needs a default, so that messages written
before it can still be read. The numbers are decimals and the times integers; nothing on the wire is a float.
"""

from typing import Any

import pyarrow as pa

from k2_market.schemas.tables import PRICE, QUANTITY

NAMESPACE = "k2.market"

AvroSchema = dict[str, Any]
"""A record schema as the registry's JSON reads."""

_TIMESTAMP = {"type": "long", "logicalType": "timestamp-micros"}
_DATE = {"type": "int", "logicalType": "date"}


def _decimal(of: pa.Decimal128Type) -> dict[str, Any]:
    return {"type": "bytes", "logicalType": "decimal", "precision": of.precision, "scale": of.scale}


_PRICE = _decimal(PRICE)
_QUANTITY = _decimal(QUANTITY)
_ASSET_CLASS = {
    "type": "enum",
    "name": "AssetClass",
    "doc": "What the instrument is; the feed's own asset_class.",
    "symbols": ["equities", "crypto", "futures", "options"],
}
_SIDE = {
    "type": "enum",
    "name": "Side",
    "doc": "The aggressor's side.",
    "symbols": ["BUY", "SELL", "SELL_SHORT", "UNKNOWN"],
    "default": "UNKNOWN",
}
_ACTION = {"type": "enum", "name": "Action", "symbols": ["NEW", "CORRECT", "CANCEL"]}


def _field(name: str, avro_type: Any, doc: str, **default: Any) -> AvroSchema:
    return {"name": name, "type": avro_type, "doc": doc, **default}


_IDENTITY = [
    _field("message_id", "string", "Unique to this message at its producer."),
]

_INSTRUMENT = [
    _field("symbol", "string", "The exchange's own code; the Kafka key."),
    _field("exchange", "string", "The feed's exchange name."),
    _field("asset_class", _ASSET_CLASS, "The feed's asset class."),
    _field("exchange_timestamp", _TIMESTAMP, "When it happened at the exchange, UTC; the record timestamp."),
    _field("trade_date", _DATE, "The exchange's own trading day (FIX tag 75)."),
]

_ARRIVAL = [
    _field("sequence_number", ["null", "long"], "The exchange's own count, where it has one.", default=None),
    _field("received_timestamp", _TIMESTAMP, "When the producer received it, UTC."),
    _field(
        "attributes",
        ["null", {"type": "map", "values": "string"}],
        "What the source says besides, by its own names.",
        default=None,
    ),
]

TRADE: AvroSchema = {
    "type": "record",
    "name": "Trade",
    "namespace": NAMESPACE,
    "doc": "A trade at an exchange, or the correction or cancellation of an earlier one.",
    "fields": [
        *_IDENTITY,
        _field("trade_id", "string", "The exchange's id of the trade, unique within a symbol and day."),
        *_INSTRUMENT,
        _field("price", _PRICE, "In units of the currency."),
        _field("quantity", _QUANTITY, "In units of the instrument."),
        _field("currency", "string", "Of the price: ISO 4217, or the exchange's own code."),
        _field("side", _SIDE, "The aggressor's side.", default="UNKNOWN"),
        _field("conditions", {"type": "array", "items": "string"}, "Trade condition codes (FIX tag 277).", default=[]),
        _field("action", _ACTION, "A new trade, or what becomes of an earlier one.", default="NEW"),
        _field(
            "corrects_trade_id", ["null", "string"], "The trade_id that a CORRECT or CANCEL is about.", default=None
        ),
        *_ARRIVAL,
    ],
}

QUOTE: AvroSchema = {
    "type": "record",
    "name": "Quote",
    "namespace": NAMESPACE,
    "doc": "The best bid and offer of an instrument, as it stood from exchange_timestamp on.",
    "fields": [
        *_IDENTITY,
        *_INSTRUMENT,
        _field("bid_price", _PRICE, "In units of the currency."),
        _field("bid_size", _QUANTITY, "In units of the instrument."),
        _field("ask_price", _PRICE, "In units of the currency."),
        _field("ask_size", _QUANTITY, "In units of the instrument."),
        _field("currency", "string", "Of the prices: ISO 4217, or the exchange's own code."),
        *_ARRIVAL,
    ],
}


def subject_of(topic: str) -> str:
    """Return the registry subject of a topic's values.

    Example:
        >>> subject_of("market.equities.trades.asx")
        'market.equities.trades.asx-value'
    """
    return f"{topic}-value"
