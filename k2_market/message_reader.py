"""Reads messages of one writer schema: all at once if it can be, else by halves, else one by one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from k2_market.block_reader import block_reader, wire_schema
from k2_market.reference_decoder import RefusedMessage, WireRow, reference_decoder
from k2_market.row_resolution import Faults
from k2_market.schema_resolution import ReadingPlan

TOO_FEW_TO_HALVE = 32
"""Reading a block costs as much as a dozen messages by fastavro, however few it holds."""


@dataclass(frozen=True)
class ReadMessages:
    """What became of some messages.

    Attributes:
        wire: The messages that could be read, typed as ``block_reader.wire_schema``; not always in order.
        places: Which message each row is.
        faults: Why the others could not be read, by place.
    """

    wire: pa.RecordBatch
    places: npt.NDArray[np.int64]
    faults: Faults


def message_reader(plan: ReadingPlan) -> Callable[[Sequence[bytes]], ReadMessages]:
    """A function that reads framed messages of one writer schema, whatever they hold."""
    schema = wire_schema(plan)
    read_one = reference_decoder(plan)
    if not plan.in_blocks:

        def read_each(values: Sequence[bytes]) -> ReadMessages:
            found = _Found()
            found.judge(values, 0, len(values), read_one)
            return found.put_together(schema)

        return read_each

    read_block = block_reader(plan)

    def read(values: Sequence[bytes]) -> ReadMessages:
        whole = read_block(values)
        if whole is not None:
            return ReadMessages(whole, np.arange(len(values)), {})
        found = _Found()
        found.halve(values, 0, len(values), read_block, read_one)
        return found.put_together(schema)

    return read


@dataclass
class _Found:
    blocks: list[tuple[int, pa.RecordBatch]] = field(default_factory=list)
    singles: dict[int, WireRow] = field(default_factory=dict)
    faults: Faults = field(default_factory=dict)

    def halve(
        self,
        values: Sequence[bytes],
        start: int,
        stop: int,
        read_block: Callable[[Sequence[bytes]], pa.RecordBatch | None],
        read_one: Callable[[bytes], WireRow],
    ) -> None:
        """Read a stretch that could not be read as one block."""
        if stop - start <= TOO_FEW_TO_HALVE:
            self.judge(values, start, stop, read_one)
            return
        middle = (start + stop) // 2
        for first, last in ((start, middle), (middle, stop)):
            block = read_block(values[first:last])
            if block is None:
                self.halve(values, first, last, read_block, read_one)
            else:
                self.blocks.append((first, block))

    def judge(self, values: Sequence[bytes], start: int, stop: int, read_one: Callable[[bytes], WireRow]) -> None:
        """Let the reference decide on every message of a stretch."""
        for place in range(start, stop):
            try:
                self.singles[place] = read_one(values[place])
            except RefusedMessage as refusal:
                self.faults[place] = str(refusal)

    def put_together(self, schema: pa.Schema) -> ReadMessages:
        parts = [block.cast(schema) for _, block in self.blocks]
        places = [np.arange(first, first + block.num_rows) for first, block in self.blocks]
        if self.singles or not parts:
            parts.append(pa.RecordBatch.from_pylist(list(self.singles.values()), schema))
            places.append(np.fromiter(self.singles, np.int64, len(self.singles)))
        return ReadMessages(pa.concat_batches(parts), np.concatenate(places), self.faults)
