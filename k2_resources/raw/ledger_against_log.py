"""Reads offsets of the ledger from the topic again, and compares the messages with the raw table's rows."""

from dataclasses import dataclass
from datetime import date

import pyarrow as pa

from k2_market.feeds.day_window import DayWindow
from k2_market.feeds.trading_calendar import TradingCalendar
from k2_market.ledger.offset_ranges import RangeSet
from k2_market.messages import block_decoder
from k2_market.messages.batch import MessageBatch
from k2_market.messages.log_comparison import ComparedOffsets, compared
from k2_market.schemas.message_kinds import MessageKind
from k2_resources.kafka.schema_registry import SchemaRegistry
from k2_resources.kafka.topic_reader import TopicReader
from k2_resources.raw.view import RawView

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
    kind: MessageKind

    def compare(self, offsets: RangeSet, view: RawView) -> ComparedOffsets:
        """Compare what the log has at some offsets, a batch at a time.

        Messages that were set aside are not decoded, since whatever decodes them fails: their bytes are compared.

        Args:
            offsets: Offsets that can be read.
            view: The raw table.

        Raises:
            OffsetsGone: They can't any more.
            KafkaUnavailable: No broker gave anything for some time.
            RegistryUnavailable: The schemas can't be asked for.
        """
        aside = offsets & view.ledger.set_aside
        found = ComparedOffsets()
        for read in self.reader.read(offsets - aside):
            found = found | compared(
                read.covered, view.rows_at(read.covered), read.messages, self._decoded(read.messages)
            )
        for read in self.reader.carefully().read(aside) if aside else ():
            dead = block_decoder.undecoded(read.messages, self.kind, "set aside", self._any_day)
            found = found | compared(read.covered, view.rows_at(read.covered), read.messages, dead)
        return found

    def _decoded(self, messages: MessageBatch) -> pa.Table:
        schemas = self.registry.writer_schemas(block_decoder.schema_ids(messages))
        return block_decoder.decode(messages, self.kind, schemas, self._any_day)

    @property
    def _any_day(self) -> DayWindow:
        return DayWindow(self.calendar, _FIRST_DAY, _LAST_DAY)
