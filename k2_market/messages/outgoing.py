"""Encodes trades as Kafka messages: keys, Avro values and record timestamps."""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from typing import Any

import polars as pl
from fastavro import parse_schema, schemaless_writer

from k2_market.feeds.feed import Feed
from k2_market.messages.framing import frame
from k2_market.schemas.avro import TRADE

_MESSAGE_ID_BYTES = 16
_MESSAGE_IDENTITY = (
    "symbol",
    "trade_date",
    "trade_id",
    "action",
    "corrects_trade_id",
    "exchange_timestamp_us",
    "price",
    "quantity",
)


@dataclass(frozen=True)
class OutgoingMessages:
    """Messages in the order in which they are to be sent; all lists are of equal length.

    Attributes:
        keys: The symbol, UTF-8.
        values: Framed Avro, or None.
        timestamps_ms: Record timestamp: the exchange's, milliseconds since 1970 UTC.
    """

    keys: list[bytes]
    values: list[bytes | None]
    timestamps_ms: list[int]

    def __len__(self) -> int:
        """Return number of messages."""
        return len(self.values)


def trade_messages(trades: pl.DataFrame, feed: Feed, schema_id: int) -> OutgoingMessages:
    """Return the messages of some trades.

    A message's id is made of what the trade says, so that the same trade is the same message whenever it is sent.

    Args:
        trades: ``SOURCE_TRADE``.
        feed: Whose trades they are.
        schema_id: The registry's id of ``TRADE``.
    """
    header = frame(schema_id, b"")
    schema = _wire_schema()
    values: list[bytes | None] = []
    for record in _records(trades, feed):
        value = io.BytesIO()
        value.write(header)
        schemaless_writer(value, schema, record)
        values.append(value.getvalue())
    return OutgoingMessages(
        keys=[symbol.encode() for symbol in trades["symbol"].to_list()],
        values=values,
        timestamps_ms=(trades["exchange_timestamp_us"] // 1_000).to_list(),
    )


def _records(trades: pl.DataFrame, feed: Feed) -> Iterator[dict[str, Any]]:
    """Yield a record a trade, its values as they stand on the wire; all fields of ``TRADE``, in its order."""
    same = {"asset_class": feed.asset_class.value, "currency": feed.currency}
    columns = {
        "message_id": _message_ids(trades, feed),
        "trade_id": trades["trade_id"].to_list(),
        "symbol": trades["symbol"].to_list(),
        "exchange": trades["exchange"].fill_null(feed.exchange).to_list(),
        "exchange_timestamp": trades["exchange_timestamp_us"].to_list(),
        "trade_date": trades["trade_date"].to_physical().to_list(),
        "price": _decimal_bytes(trades["price"]),
        "quantity": _decimal_bytes(trades["quantity"]),
        "side": trades["side"].to_list(),
        "conditions": trades["conditions"].to_list(),
        "action": trades["action"].to_list(),
        "corrects_trade_id": trades["corrects_trade_id"].to_list(),
        "sequence_number": trades["sequence_number"].to_list(),
        "received_timestamp": trades["received_timestamp_us"].to_list(),
        "attributes": _maps(trades["attributes"]),
    }
    names = tuple(columns)
    for values in zip(*columns.values(), strict=True):
        record = dict(zip(names, values, strict=True))
        record.update(same)
        yield record


def _message_ids(trades: pl.DataFrame, feed: Feed) -> list[str]:
    parts = [pl.col(name).cast(pl.String).fill_null("") for name in _MESSAGE_IDENTITY]
    venue = pl.concat_str(pl.lit("\x1f"), "exchange").fill_null("")
    whole = pl.concat_str(pl.concat_str(pl.lit(feed.name), *parts, separator="\x1f"), venue)
    texts = trades.select(whole).to_series().to_list()
    return [blake2b(text.encode(), digest_size=_MESSAGE_ID_BYTES).hexdigest() for text in texts]


def _decimal_bytes(decimals: pl.Series) -> list[bytes]:
    units = decimals.to_physical().to_list()
    return [each.to_bytes((each.bit_length() + 8) // 8, "big", signed=True) for each in units]


def _maps(attributes: pl.Series) -> list[dict[str, str] | None]:
    if attributes.null_count() == len(attributes):
        return [None] * len(attributes)
    return [None if pairs is None else {pair["key"]: pair["value"] for pair in pairs} for pairs in attributes.to_list()]


@cache
def _wire_schema() -> Any:
    """``TRADE`` without logical types: the same bytes, from values that need no conversion one at a time."""
    return parse_schema(_without_logical_types(TRADE))


def _without_logical_types(schema: Any) -> Any:
    if isinstance(schema, dict):
        leave_out = ("logicalType", "precision", "scale")
        return {key: _without_logical_types(value) for key, value in schema.items() if key not in leave_out}
    if isinstance(schema, list):
        return [_without_logical_types(each) for each in schema]
    return schema
