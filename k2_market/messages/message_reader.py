"""Decodes messages of one writer schema: as one block if all are sound, in smaller blocks around broken ones."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from k2_market.messages.block_reader import BlockReader, wire_schema
from k2_market.messages.reference_decoder import RefusedMessage, WireRow, reference_decoder
from k2_market.messages.row_resolution import Faults
from k2_market.messages.schema_resolution import ReadingPlan
from k2_market.messages.value_buffer import JoinedValues

_WINDOW = 2_048
"""Messages searched at a time where a larger block was broken: enough to pay for a search, few enough to read twice."""

_TOO_FEW_TO_HALVE = 32
"""Reading a block costs as much as a dozen messages by fastavro, however few it holds."""


@dataclass(frozen=True)
class ReadMessages:
    """Describes what became of some messages.

    Attributes:
        wire: The messages that could be read, typed as ``block_reader.wire_schema``; not always in order.
        places: Which message each row is.
        faults: Why the others could not be read, by place.
    """

    wire: pa.RecordBatch
    places: npt.NDArray[np.int64]
    faults: Faults


def message_reader(plan: ReadingPlan) -> Callable[[JoinedValues], ReadMessages]:
    """Return a function that reads framed messages of one writer schema, one or more and none of them null."""
    schema = wire_schema(plan)
    reference = reference_decoder(plan)
    blocks = BlockReader(plan) if plan.in_blocks else None

    def read(values: JoinedValues) -> ReadMessages:
        search = _Search(values, reference)
        if blocks is None:
            search.judge(0, len(values))
        else:
            search.read(0, len(values), blocks)
        return search.result(schema)

    return read


@dataclass
class _Search:
    values: JoinedValues
    reference: Callable[[bytes], WireRow]
    blocks: list[tuple[int, pa.RecordBatch]] = field(default_factory=list)
    judged: dict[int, WireRow] = field(default_factory=dict)
    faults: Faults = field(default_factory=dict)

    def read(self, start: int, stop: int, reader: BlockReader) -> None:
        """Read a stretch as one block; where that fails, by windows; where that fails, search for the reason."""
        if self.read_whole(start, stop, reader):
            return
        if stop - start <= _WINDOW:
            self.search(start, stop, reader)
        else:
            for first in range(start, stop, _WINDOW):
                self.read(first, min(first + _WINDOW, stop), reader)

    def search(self, start: int, stop: int, reader: BlockReader) -> None:
        """Read up to each message that can't be read, and leave that one to the reference."""
        place = start
        while place < stop:
            sound, suspects = reader.sound(self.values[place:stop])
            self.halve(place, place + sound, reader)
            place += sound
            self.judge(place, place + suspects)
            place += suspects

    def halve(self, start: int, stop: int, reader: BlockReader) -> None:
        """Read a stretch by halves, and leave the last few messages that can't be read to the reference."""
        if self.read_whole(start, stop, reader):
            return
        if stop - start <= _TOO_FEW_TO_HALVE:
            self.judge(start, stop)
        else:
            middle = (start + stop) // 2
            self.halve(start, middle, reader)
            self.halve(middle, stop, reader)

    def read_whole(self, start: int, stop: int, reader: BlockReader) -> bool:
        """Read a stretch as one block, if it can be."""
        if start == stop:
            return True
        rows = reader.read(self.values[start:stop])
        if rows is not None:
            self.blocks.append((start, rows))
        return rows is not None

    def judge(self, start: int, stop: int) -> None:
        """Let the reference decide on every message of a stretch."""
        for place in range(start, stop):
            try:
                self.judged[place] = self.reference(self.values[place] or b"")
            except RefusedMessage as refusal:
                self.faults[place] = str(refusal)

    def result(self, schema: pa.Schema) -> ReadMessages:
        """Tell what was found."""
        parts = [block for _, block in self.blocks]
        places = [np.arange(first, first + block.num_rows) for first, block in self.blocks]
        if self.judged or not parts:
            parts.append(pa.RecordBatch.from_pylist(list(self.judged.values()), schema))
            places.append(np.fromiter(self.judged, np.int64, len(self.judged)))
        wire = parts[0] if len(parts) == 1 else pa.concat_batches(parts)
        return ReadMessages(wire, np.concatenate(places), self.faults)
