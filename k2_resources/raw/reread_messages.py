"""Reads messages again for a repair, and decodes them as ingestion does."""

import pyarrow as pa

from k2_market.ledger.offset_ranges import RangeSet, bridged
from k2_market.ledger.row_offsets import rows_within
from k2_market.messages import block_decoder
from k2_market.messages.batch import MessageBatch
from k2_market.messages.block_decoder import DayWindow
from k2_market.schemas.message_kinds import MessageKind
from k2_resources.kafka.schema_registry import SchemaRegistry
from k2_resources.kafka.topic_reader import TopicReader


class Decoder:
    """Makes raw rows of messages, by the schemas that the registry has now."""

    def __init__(self, registry: SchemaRegistry, kind: MessageKind, window: DayWindow) -> None:
        self.kind = kind
        self._registry = registry
        self._window = window

    def rows(self, messages: MessageBatch) -> pa.Table:
        """Return one raw row for every message.

        Raises:
            RegistryUnavailable: Its schemas can't be asked for.
        """
        schemas = self._registry.writer_schemas(block_decoder.schema_ids(messages))
        return block_decoder.decode(messages, self.kind, schemas, self._window)


class RereadMessages:
    """A topic's messages as raw rows; what was read once is kept, for a repair that has to be computed anew."""

    def __init__(self, reader: TopicReader, decoder: Decoder) -> None:
        self._reader = reader
        self._decoder = decoder
        self._read = RangeSet()
        self._rows = decoder.kind.rows.empty_table()

    def rows(self, wanted: RangeSet) -> pa.Table:
        """Return a row for each message at some offsets; others that were read before may be among them.

        Raises:
            OffsetsGone: An offset is no longer retained.
            KafkaUnavailable: No broker gave anything for some time.
        """
        left = wanted - self._read
        tables = [self._rows]
        for read in self._reader.read(bridged(left)):
            rows = self._decoder.rows(read.messages)
            tables.append(rows.filter(pa.array(rows_within(rows, left))))
        self._rows, self._read = pa.concat_tables(tables), self._read | left
        return self._rows
