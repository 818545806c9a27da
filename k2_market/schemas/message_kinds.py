"""Pairs what messages look like in Kafka (Avro) with what they become in a raw table (Arrow)."""

from dataclasses import dataclass

import pyarrow as pa

from k2_market.schemas.avro import QUOTE, TRADE, AvroSchema
from k2_market.schemas.tables import RAW_QUOTES, RAW_TRADES


@dataclass(frozen=True, eq=False)
class MessageKind:
    """Describes the messages of a topic, and the rows that decoding makes of them.

    Attributes:
        avro: The record that such messages are written with, and as which all of them are read. Each of its fields is
            a column of ``rows``.
        rows: The columns of the raw table: those of messages first, those of ``tables.KAFKA_FIELDS`` last.
    """

    avro: AvroSchema
    rows: pa.Schema

    @property
    def message_fields(self) -> list[pa.Field]:
        """List the raw table's columns that come out of messages, in the table's order."""
        return [self.rows.field(name) for name in self.rows.names[: self.rows.names.index("kafka_topic_id")]]


TRADE_MESSAGES = MessageKind(TRADE, RAW_TRADES)
QUOTE_MESSAGES = MessageKind(QUOTE, RAW_QUOTES)
