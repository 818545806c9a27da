"""Joins message values into one buffer, with a guard after each: the form in which a block is decoded.

Python objects for bytes are made by the Kafka client and let go a moment later, while they are still in the
processor's cache. What is kept of a batch is one buffer and where each value lies in it: parts of a batch are slices
of the buffer, and nothing is joined a second time.

The guard is eight bytes, random in each process. ``block_reader`` asks for it after every message body.
"""

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import overload

import numpy as np
import numpy.typing as npt

from k2_market.messages.framing import HEADER_BYTES

GUARD_BYTES = 8
GUARD = secrets.token_bytes(GUARD_BYTES)

_HEADER_MASK = np.uint64((1 << 8 * HEADER_BYTES) - 1)


@dataclass(frozen=True, eq=False)
class JoinedPart:
    """Some of a batch's values, joined; all that is done with them as long as the others are not there.

    Attributes:
        body: Every value with a guard behind it; a null as an empty value.
        lengths: Those of the values, int64.
        nulls: Which values are null; None where none is.
    """

    body: bytes
    lengths: npt.NDArray[np.int64]
    nulls: npt.NDArray[np.bool_] | None

    @classmethod
    def of(cls, values: Sequence[bytes | None]) -> "JoinedPart":
        """Join some values."""
        count = len(values)
        try:
            lengths = np.fromiter(map(len, values), np.int64, count)  # type: ignore[arg-type]  # seldom is one None
        except TypeError:
            nulls = np.fromiter((each is None for each in values), np.bool_, count)
            found = cls.of([each or b"" for each in values])
            return cls(found.body, found.lengths, nulls)
        return cls(GUARD.join([*values, b""]), lengths, None)  # type: ignore[list-item]

    @property
    def size_bytes(self) -> int:
        """Bytes of the values, without guards."""
        return len(self.body) - GUARD_BYTES * len(self.lengths)


class JoinedValues(Sequence[bytes | None]):
    """Values of messages, in order; some may be null.

    Args:
        buffer: Holds every value with a guard behind it; a null as an empty value.
        bounds: Where each value begins and, one more, where the last one's guard ends.
        nulls: Which values are null; None where none is.
    """

    def __init__(
        self, buffer: bytes, bounds: npt.NDArray[np.int64], nulls: npt.NDArray[np.bool_] | None = None
    ) -> None:
        self._buffer = buffer
        self._bounds = bounds
        self._nulls = nulls if nulls is not None and nulls.any() else None

    @classmethod
    def of(cls, values: Sequence[bytes | None]) -> "JoinedValues":
        """Join some values; what is joined already is taken as it is."""
        return values if isinstance(values, JoinedValues) else cls.concat([JoinedPart.of(values)])

    @classmethod
    def concat(cls, parts: Sequence[JoinedPart]) -> "JoinedValues":
        """Return the values of several parts, one after the other."""
        lengths = np.concatenate([np.empty(0, np.int64), *(part.lengths for part in parts)])
        nulls = None
        if any(part.nulls is not None for part in parts):
            each = (np.zeros(len(part.lengths), np.bool_) if part.nulls is None else part.nulls for part in parts)
            nulls = np.concatenate([*each])
        bounds = np.zeros(len(lengths) + 1, np.int64)
        np.cumsum(lengths + GUARD_BYTES, out=bounds[1:])
        return cls(b"".join(part.body for part in parts), bounds, nulls)

    @property
    def body(self) -> memoryview:
        """All values, each with its guard behind it."""
        return memoryview(self._buffer)[self._bounds[0] : self._bounds[-1]]

    @cached_property
    def headers(self) -> frozenset[bytes | None]:
        """The distinct first bytes of the values, as many as a frame's header has; None for a null value."""
        starts = self._bounds[:-1]
        if self._nulls is not None or not len(self) or bool((np.diff(self._bounds) < HEADER_BYTES + GUARD_BYTES).any()):
            return frozenset(None if value is None else value[:HEADER_BYTES] for value in self)
        # A word at every byte, of which those at the values' starts are taken; the guard behind a value fills it up.
        words = np.ndarray(len(self._buffer) - 7, "<u8", self._buffer, strides=(1,))[starts] & _HEADER_MASK
        return frozenset(int(word).to_bytes(8, "little")[:HEADER_BYTES] for word in np.unique(words))

    def __len__(self) -> int:
        """Tell how many values there are."""
        return len(self._bounds) - 1

    @overload
    def __getitem__(self, place: int) -> bytes | None: ...

    @overload
    def __getitem__(self, place: slice) -> "JoinedValues": ...

    def __getitem__(self, place: int | slice) -> "bytes | JoinedValues | None":
        """Return a value, or a stretch of values that share this one's buffer."""
        if isinstance(place, slice):
            start, stop, step = place.indices(len(self))
            if step != 1:
                raise ValueError(f"values are taken in stretches, got a step of {step}, expected 1")
            stop = max(start, stop)
            nulls = None if self._nulls is None else self._nulls[start:stop]
            return JoinedValues(self._buffer, self._bounds[start : stop + 1], nulls)
        place = range(len(self))[place]
        if self._nulls is not None and self._nulls[place]:
            return None
        return self._buffer[self._bounds[place] : self._bounds[place + 1] - GUARD_BYTES]

    def __iter__(self) -> Iterator[bytes | None]:
        """Yield the values in order."""
        bounds = self._bounds.tolist()
        nulls = self._is_null().tolist()
        for start, end, is_null in zip(bounds, bounds[1:], nulls, strict=False):
            yield None if is_null else self._buffer[start : end - GUARD_BYTES]

    def _is_null(self) -> npt.NDArray[np.bool_]:
        return np.zeros(len(self), np.bool_) if self._nulls is None else self._nulls
