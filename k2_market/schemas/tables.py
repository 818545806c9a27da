"""Defines the columns of every K2 table as Arrow schemas, and the bar intervals.

Timestamps are UTC in microseconds, prices and quantities decimals: no float stands between an exchange's
number and an answer. ``trade_date`` is the exchange's own trading day (FIX tag 75), the partition key.
"""

from dataclasses import dataclass
from datetime import timedelta

import pyarrow as pa

TIMESTAMP = pa.timestamp("us", tz="UTC")
PRICE = pa.decimal128(18, 10)
QUANTITY = pa.decimal128(18, 8)
VOLUME = pa.decimal128(38, 8)
NOTIONAL = pa.decimal128(38, 18)

PARTITION_COLUMN = "trade_date"
PARTITION_FIELD = "exchange_date"

KAFKA_FIELDS = [
    pa.field("kafka_topic_id", pa.string(), nullable=False),
    pa.field("kafka_partition", pa.int32(), nullable=False),
    pa.field("kafka_offset", pa.int64(), nullable=False),
    pa.field("kafka_timestamp", TIMESTAMP),
    pa.field("schema_id", pa.int32()),
    pa.field("correlation_id", pa.string()),
    pa.field("reject_reason", pa.string()),
    pa.field("payload", pa.binary()),
    pa.field("kafka_key", pa.binary()),
]
"""Columns of a raw row's origin; the last three are filled on dead letters alone."""

_MESSAGE_HEAD = [
    pa.field("trade_date", pa.date32(), nullable=False),
    pa.field("symbol", pa.string()),
    pa.field("exchange_timestamp", TIMESTAMP),
]

_MESSAGE_TAIL = [
    pa.field("sequence_number", pa.int64()),
    pa.field("message_id", pa.string()),
    pa.field("exchange", pa.string()),
    pa.field("asset_class", pa.string()),
    pa.field("currency", pa.string()),
    pa.field("received_timestamp", TIMESTAMP),
    pa.field("attributes", pa.map_(pa.string(), pa.string())),
]

RAW_TRADES = pa.schema(
    [
        *_MESSAGE_HEAD,
        pa.field("trade_id", pa.string()),
        pa.field("price", PRICE),
        pa.field("quantity", QUANTITY),
        pa.field("side", pa.string()),
        pa.field("conditions", pa.list_(pa.string())),
        pa.field("action", pa.string()),
        pa.field("corrects_trade_id", pa.string()),
        *_MESSAGE_TAIL,
        *KAFKA_FIELDS,
    ]
)
"""One row for every Kafka message, decoded or dead; unique by (kafka_topic_id, kafka_partition, kafka_offset)."""

RAW_QUOTES = pa.schema(
    [
        *_MESSAGE_HEAD,
        pa.field("bid_price", PRICE),
        pa.field("bid_size", QUANTITY),
        pa.field("ask_price", PRICE),
        pa.field("ask_size", QUANTITY),
        *_MESSAGE_TAIL,
        *KAFKA_FIELDS,
    ]
)
"""As ``RAW_TRADES``, for quotes."""

TRADES = pa.schema(
    [
        pa.field("trade_date", pa.date32(), nullable=False),
        pa.field("symbol", pa.string(), nullable=False),
        pa.field("exchange_timestamp", TIMESTAMP, nullable=False),
        pa.field("sequence_number", pa.int64()),
        pa.field("trade_order", pa.int64()),
        pa.field("trade_id", pa.string(), nullable=False),
        pa.field("price", PRICE, nullable=False),
        pa.field("quantity", QUANTITY, nullable=False),
        pa.field("side", pa.string(), nullable=False),
        pa.field("conditions", pa.list_(pa.string()), nullable=False),
        pa.field("currency", pa.string(), nullable=False),
        pa.field("price_eligible", pa.bool_(), nullable=False),
        pa.field("volume_eligible", pa.bool_(), nullable=False),
        pa.field("corrected", pa.bool_(), nullable=False),
        pa.field("received_timestamp", TIMESTAMP),
        pa.field("kafka_topic_id", pa.string(), nullable=False),
        pa.field("kafka_partition", pa.int32(), nullable=False),
        pa.field("kafka_offset", pa.int64(), nullable=False),
    ]
)
"""One clean, sorted trading day: unique by (symbol, trade_id), cancels and corrections applied.

``trade_order`` numbers the trades of a symbol from 1 in the order in which they set open and close; it is null only on
days that an earlier version of K2 built. ``kafka_*`` name the message that gave the trade its values: of a corrected
trade that is the correction.
"""

BARS = pa.schema(
    [
        pa.field("trade_date", pa.date32(), nullable=False),
        pa.field("symbol", pa.string(), nullable=False),
        pa.field("bar_start", TIMESTAMP, nullable=False),
        pa.field("bar_end", TIMESTAMP, nullable=False),
        pa.field("open", PRICE),
        pa.field("high", PRICE),
        pa.field("low", PRICE),
        pa.field("close", PRICE),
        pa.field("volume", VOLUME, nullable=False),
        pa.field("vwap", PRICE),
        pa.field("notional", NOTIONAL, nullable=False),
        pa.field("priced_volume", VOLUME, nullable=False),
        pa.field("trade_count", pa.int64(), nullable=False),
        pa.field("priced_count", pa.int64(), nullable=False),
    ]
)
"""Bars ``[bar_start, bar_end)``, named by their start; no row for an interval without an eligible trade.

``volume`` and ``trade_count`` are over volume-eligible trades; open, high, low, close, ``notional``
(sum of price x quantity), ``priced_volume`` and ``priced_count`` over price-eligible ones;
``vwap = notional / priced_volume``, rounded half up. Prices are null where only volume was eligible.
"""


COLUMN_DESCRIPTIONS = {
    "trade_date": "The exchange's own trading day (FIX tag 75), evening session included; the partition key.",
    "symbol": "The instrument, as the exchange names it.",
    "exchange_timestamp": "When the exchange says that it happened, UTC, microseconds.",
    "trade_id": "The exchange's name of the trade; what it is unique within is set in the feed's file.",
    "price": "Price of one unit, in the currency of the row.",
    "quantity": "How many units were traded.",
    "side": "The aggressor's side: BUY, SELL, SELL_SHORT or UNKNOWN.",
    "conditions": "Codes of the trade's conditions (FIX tag 277), as the exchange writes them.",
    "action": "NEW for a trade; CORRECT or CANCEL for a message about an earlier one.",
    "corrects_trade_id": "The trade that a correction or cancel is about, where it names one.",
    "bid_price": "The best price that someone buys at.",
    "bid_size": "Units that are sought at the best bid.",
    "ask_price": "The best price that someone sells at.",
    "ask_size": "Units that are offered at the best ask.",
    "sequence_number": "The exchange's number of the message; shows gaps and orders trades of one instant.",
    "message_id": "The producer's name of the message.",
    "exchange": "The exchange or venue that the message names.",
    "asset_class": "What the instrument is: equities, crypto, futures or options.",
    "currency": "What the price is in.",
    "received_timestamp": "When the producer received the message, UTC.",
    "attributes": "Further values that the producer sent, by name.",
    "kafka_topic_id": "Kafka's own id of the topic that the message came from.",
    "kafka_partition": "The topic's partition that the message came from.",
    "kafka_offset": "The message's offset in its partition: with topic id and partition it names the message.",
    "kafka_timestamp": "The Kafka record's timestamp, UTC.",
    "schema_id": "The schema registry's id of the schema that the message was written with.",
    "correlation_id": "The producer's id of the load that the message belongs to, from a header.",
    "reject_reason": "Why the message would not decode; empty for a decoded one.",
    "payload": "The bytes of a message that would not decode; empty for a decoded one.",
    "kafka_key": "The Kafka key of a message that would not decode; empty for a decoded one.",
    "trade_order": "The trade's place among its symbol's trades of the day, from 1; decides open and close.",
    "price_eligible": "Says whether the trade may set prices of bars, by its conditions.",
    "volume_eligible": "Says whether the trade counts for the volume of bars, by its conditions.",
    "corrected": "Says whether a later message has corrected the trade; its values are the corrected ones.",
    "bar_start": "When the bar begins, UTC; it names the bar.",
    "bar_end": "When the bar ends, UTC; trades of that instant belong to the next bar.",
    "open": "Price of the first price-eligible trade.",
    "high": "Highest price of a price-eligible trade.",
    "low": "Lowest price of a price-eligible trade.",
    "close": "Price of the last price-eligible trade.",
    "volume": "Sum of quantities of volume-eligible trades.",
    "vwap": "Volume-weighted average price: notional divided by priced_volume, rounded half up.",
    "notional": "Sum of price times quantity of price-eligible trades.",
    "priced_volume": "Sum of quantities of price-eligible trades.",
    "trade_count": "How many volume-eligible trades there are.",
    "priced_count": "How many price-eligible trades there are.",
}
"""Descriptions of columns by name: a name means the same in every table."""


@dataclass(frozen=True)
class BarInterval:
    """A bar width; ``table`` is the name of its table within a feed's namespace."""

    name: str
    width: timedelta

    @property
    def table(self) -> str:
        """Table name, as ``ohlcv_5m``."""
        return f"ohlcv_{self.name}"


MINUTE = BarInterval("1m", timedelta(minutes=1))
DAY = BarInterval("1d", timedelta(days=1))
ROLLED_UP = (
    BarInterval("5m", timedelta(minutes=5)),
    BarInterval("15m", timedelta(minutes=15)),
    BarInterval("30m", timedelta(minutes=30)),
    BarInterval("1h", timedelta(hours=1)),
    DAY,
)
BAR_INTERVALS = (MINUTE, *ROLLED_UP)
"""Every interval there is; 1m is made from trades, the others from 1m."""
