"""Reads a log again at offsets of the ledger, and compares what it has there with the raw table's rows."""

from dataclasses import dataclass
from datetime import date

from k2_market import block_decoder
from k2_market.avro_schemas import MessageKind
from k2_market.day_window import DayWindow
from k2_market.log_comparison import ComparedOffsets, compared
from k2_market.offset_ranges import RangeSet
from k2_market.trading_calendar import TradingCalendar
from k2_resources.raw_view import RawView
from k2_resources.schema_registry import SchemaRegistry
from k2_resources.topic_reader import TopicReader

_FIRST_DAY, _LAST_DAY = date(1970, 1, 2), date(9998, 1, 1)
"""Any day: the days that a feed may have were held when the rows were written, and may be others by now."""


@dataclass(frozen=True)
class LedgerAgainstLog:
    """Compares offsets of one topic.

    Attributes:
        reader: Reads the topic.
        registry: Knows the schemas that its messages were written with.
        calendar: Gives the trading days of messages that name none.
        kind: What its messages are.
    """

    reader: TopicReader
    registry: SchemaRegistry
    calendar: TradingCalendar
    kind: MessageKind = MessageKind.TRADES

    def compare(self, offsets: RangeSet, view: RawView) -> ComparedOffsets:
        """Compare what the log has at some offsets, a batch at a time.

        Args:
            offsets: Offsets that can be read.
            view: The raw table.

        Raises:
            OffsetsGone: They can't any more.
            KafkaUnavailable: No broker gave anything for some time.
            RegistryUnavailable: The schemas can't be asked for.
        """
        found = ComparedOffsets()
        any_day = DayWindow(self.calendar, _FIRST_DAY, _LAST_DAY)
        for read in self.reader.read(offsets):
            schemas = self.registry.writer_schemas(block_decoder.schema_ids(read.messages))
            decoded = block_decoder.decode(read.messages, self.kind, schemas, any_day)
            found = found | compared(read.covered, view.rows_at(read.covered), read.messages, decoded)
        return found
