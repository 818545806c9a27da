"""Message values as one buffer, each followed by a guard: the shape in which a block of them is decoded.

Python objects for bytes are made by the Kafka client and let go a moment later, while they are still in the
processor's cache. What is kept of a batch is one buffer and where each value lies in it: parts of a batch are slices
of the buffer, and nothing is joined a second time.

The guard is eight bytes, random in each process. ``block_reader`` asks for it after every message body.
"""

import secrets
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import overload

import numpy as np
import numpy.typing as npt

from k2_market.message_framing import HEADER_BYTES

GUARD_BYTES = 8
GUARD = secrets.token_bytes(GUARD_BYTES)

_HEADER_MASK = np.uint64((1 << 8 * HEADER_BYTES) - 1)


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
        if isinstance(values, JoinedValues):
            return values
        count = len(values)
        try:
            lengths = np.fromiter(map(len, values), np.int64, count)  # type: ignore[arg-type]  # seldom is one None
        except TypeError:
            nulls = np.fromiter((each is None for each in values), np.bool_, count)
            found = cls.of([each or b"" for each in values])
            return cls(found._buffer, found._bounds, nulls)
        return cls(GUARD.join([*values, b""]), _bounds(lengths + GUARD_BYTES))  # type: ignore[list-item]

    @classmethod
    def concat(cls, parts: Sequence["JoinedValues"]) -> "JoinedValues":
        """The values of several, one after the other."""
        nulls = [part._is_null() for part in parts] if any(part._nulls is not None for part in parts) else None
        widths = [np.diff(part._bounds) for part in parts]
        return cls(
            b"".join(part.body for part in parts),
            _bounds(np.concatenate([np.empty(0, np.int64), *widths])),
            None if nulls is None else np.concatenate(nulls),
        )

    @property
    def body(self) -> memoryview:
        """All values, each with its guard behind it."""
        return memoryview(self._buffer)[self._bounds[0] : self._bounds[-1]]

    @property
    def size_bytes(self) -> int:
        """Bytes of all values, without guards."""
        return int(self._bounds[-1] - self._bounds[0]) - GUARD_BYTES * len(self)

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
        """How many values there are."""
        return len(self._bounds) - 1

    @overload
    def __getitem__(self, place: int) -> bytes | None: ...

    @overload
    def __getitem__(self, place: slice) -> "JoinedValues": ...

    def __getitem__(self, place: int | slice) -> "bytes | JoinedValues | None":
        """A value, or a stretch of values that share this one's buffer."""
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
        """The values in order."""
        bounds = self._bounds.tolist()
        nulls = self._is_null().tolist()
        for start, end, is_null in zip(bounds, bounds[1:], nulls, strict=False):
            yield None if is_null else self._buffer[start : end - GUARD_BYTES]

    def _is_null(self) -> npt.NDArray[np.bool_]:
        return np.zeros(len(self), np.bool_) if self._nulls is None else self._nulls


def _bounds(widths: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(widths, dtype=np.int64)])
