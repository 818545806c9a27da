"""Converts a writer's fields to K2's: enum symbols, decimal scales, defaults, and extra fields as attributes.

Ids and symbols come without white space around them, condition codes one by one (``plain_texts``).

Works on columns. A row that can't be resolved gets a fault, in the words of a dead letter, and its values are not to
be used.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from k2_market.messages.field_types import Form
from k2_market.messages.schema_resolution import ReadingPlan, WireField
from k2_market.values.plain_texts import STRIPPED, single_codes, stripped

Faults = dict[int, str]
"""Reasons of refused rows, by row; the first reason found stands."""

TEXT_MAP = pa.map_(pa.string(), pa.string())

_LARGEST_WIRE_DECIMAL = 10**38 - 1
_MOST_PLACES = 38


@dataclass(frozen=True)
class ResolvedRows:
    """Rows in K2's own fields.

    Attributes:
        columns: By field name, typed as in the raw table but for timestamps (microseconds since 1970 UTC) and dates
            (days since 1970), which are plain int64 as long as they may be out of range.
        faults: Rows that can't be resolved.
    """

    columns: Mapping[str, pa.Array]
    faults: Faults


def resolve(wire: pa.RecordBatch, plan: ReadingPlan) -> ResolvedRows:
    """Return the rows of a writer in K2's fields.

    Args:
        wire: As ``block_reader.wire_schema`` types them.
        plan: How the writer's schema is read.
    """
    faults: Faults = {}
    columns = {field.name: _column(field, wire, plan, faults) for field in plan.kind.message_fields}
    columns |= {name: stripped(columns[name]) for name in STRIPPED if name in columns}
    if "conditions" in columns:
        columns["conditions"] = single_codes(columns["conditions"])
    if plan.extra:
        extra = {storable(each.name): _as_text(each, wire.column(each.key), faults) for each in plan.extra}
        columns["attributes"] = _merged(columns["attributes"], extra)
    return ResolvedRows(columns, faults)


def fits_wire(unscaled: int) -> bool:
    """Say whether a decimal's digits fit the type that decimals are read into, which is wider than K2's."""
    return abs(unscaled) <= _LARGEST_WIRE_DECIMAL


def decimal_fault(column: pa.Field, unscaled: int, scale: int) -> str:
    """Give the reason to refuse a decimal that has too many digits for K2's places.

    Args:
        column: The raw table's column that it is for.
        unscaled: All its digits.
        scale: How many of them are places.
    """
    target = column.type
    at_scale = abs(unscaled) * 10 ** (target.scale - scale)
    digits = str(len(str(at_scale))) if at_scale <= _LARGEST_WIRE_DECIMAL else "more than 38"
    return f"{column.name} of {digits} digits, at most {target.precision}"


def int64_values(array: pa.Array) -> npt.NDArray[np.int64]:
    """Return an int64 array's values without a copy; what stands under a null is undefined."""
    return np.frombuffer(array.buffers()[1], dtype=np.int64, count=len(array), offset=array.offset * 8)


def note_faults(
    faults: Faults, refused: npt.NDArray[np.bool_], reason: Callable[[int], str], present: pa.Array | None = None
) -> None:
    """Write down a reason for rows that have none yet.

    Args:
        faults: Written to.
        refused: One truth value a row.
        reason: The reason for a row.
        present: Leave out the rows in which this is null.
    """
    if not refused.any():
        return
    if present is not None and present.null_count:
        refused = refused & _valid(present)
    for row in np.flatnonzero(refused).tolist():
        if row not in faults:
            faults[row] = reason(row)


def _column(field: pa.Field, wire: pa.RecordBatch, plan: ReadingPlan, faults: Faults) -> pa.Array:
    source = plan.known.get(field.name)
    if source is None:
        return _default(field, plan.defaults[field.name], wire.num_rows)
    found = wire.column(source.key)
    if source.required and found.null_count:
        note_faults(faults, ~_valid(found), lambda _: f"{source.name} is null")
    match source.type.form:
        case Form.ENUM:
            return _symbols(source, found, faults)
        case Form.DECIMAL:
            return _decimals(field, source, found, faults)
        case Form.TEXT_MAP:
            return _with_unique_keys(found.cast(TEXT_MAP))
        case Form.TEXT_LIST:
            return found.cast(field.type)
        case _:
            return found


def _default(field: pa.Field, value: Any, rows: int) -> pa.Array:
    """Return enums, texts, lists and null: the defaults that K2's schemas have."""
    if value is None:
        return pa.nulls(rows, field.type)
    return pa.array([value], field.type).take(pa.array(np.zeros(rows, np.int64)))


def _symbols(field: WireField, indexes: pa.Array, faults: Faults) -> pa.Array:
    numbers = int64_values(indexes)
    in_range = (numbers >= 0) & (numbers < len(field.symbols))
    note_faults(faults, ~in_range, lambda row: f"enum index {numbers[row]} out of range for {field.name}", indexes)
    if None in field.symbols:
        unknown = [each is None for each in field.symbols]
        not_ours = in_range & np.array(unknown)[np.where(in_range, numbers, 0)]
        note_faults(faults, not_ours, lambda _: f"{field.name} has a symbol that is not known", indexes)
    absent = ~(in_range & _valid(indexes))
    small = pa.array(np.where(in_range, numbers, 0).astype(np.int32), mask=absent if absent.any() else None)
    return pa.array(field.symbols, pa.string()).take(small)


def _decimals(column: pa.Field, field: WireField, found: pa.Array, faults: Faults) -> pa.Array:
    """Return a decimal128's 16 bytes as two words: the upper one of what fits in 64 bits is all sign."""
    words = np.frombuffer(found.buffers()[1], dtype=np.int64, count=2 * len(found), offset=found.offset * 16)
    low, high = words[0::2], words[1::2]
    target = column.type
    factor = 10 ** (target.scale - field.type.scale)
    largest = (10**target.precision - 1) // factor
    fits = (high == low >> 63) & (low <= largest) & (low >= -largest)

    def reason(row: int) -> str:
        unscaled = (int(high[row]) << 64) | int(low[row]) & 0xFFFF_FFFF_FFFF_FFFF
        return decimal_fault(column, unscaled, field.type.scale)

    note_faults(faults, ~fits, reason, found)
    if factor == 1:
        return pa.Array.from_buffers(target, len(found), found.buffers(), found.null_count, found.offset)
    scaled = np.empty(len(words), np.int64)
    scaled[0::2] = np.where(fits, low, 0) * factor
    scaled[1::2] = scaled[0::2] >> 63
    validity = None if not found.null_count else pa.array(_valid(found)).buffers()[1]
    return pa.Array.from_buffers(target, len(found), [validity, pa.py_buffer(scaled)])


_MANY_KEYS = 32
_ENTRIES_AT_ONCE = 1_000_000
"""Of maps: half a million take two bytes each, in a message that any broker takes."""


def _with_unique_keys(found: pa.Array) -> pa.Array:
    """Return maps without a key twice: the last value stands, as in a Python dict."""
    if not _has_key_twice(found):
        return found
    cuts = np.flatnonzero(np.diff(_offsets(found) // _ENTRIES_AT_ONCE)).tolist()
    starts = [0, *(cut for cut in cuts if cut), len(found)]
    return pa.concat_arrays([_unique_keys(found[start:end]) for start, end in pairwise(starts)])


def _unique_keys(found: pa.Array) -> pa.Array:
    """Reduce maps' entries to one a key: where the key stands first, with the value that it has last."""
    bounds = _offsets(found)
    entries = slice(int(bounds[0]), int(bounds[-1]))
    keys, items = found.keys[entries], found.items[entries]
    encoded = keys.dictionary_encode()
    rows = np.repeat(np.arange(len(found)), np.diff(bounds))
    distinct = rows * (len(encoded.dictionary) + 1) + encoded.indices.to_numpy()
    _, first = np.unique(distinct, return_index=True)
    _, from_end = np.unique(distinct[::-1], return_index=True)
    order = np.argsort(first)
    ends = np.concatenate([[0], np.cumsum(np.bincount(rows[first], minlength=len(found)))]).astype(np.int32)
    return pa.MapArray.from_arrays(
        pa.array(ends),
        keys.take(pa.array(first[order])),
        items.take(pa.array((len(distinct) - 1 - from_end)[order])),
        TEXT_MAP,
        mask=pa.array(~_valid(found)),
    )


def _has_key_twice(found: pa.Array) -> bool:
    """Say whether any map may have a key twice; those of more than ``_MANY_KEYS`` are not looked into."""
    counts = np.diff(_offsets(found))
    longest = int(counts.max(initial=0))
    if longest < 2:
        return False
    if longest > _MANY_KEYS:
        return True
    keys = found.keys.slice(int(_offsets(found)[0]), int(counts.sum()))
    codes = keys.dictionary_encode().indices.to_numpy()
    rows = np.repeat(np.arange(len(found)), counts)
    return any(
        bool(((codes[:-apart] == codes[apart:]) & (rows[:-apart] == rows[apart:])).any()) for apart in range(1, longest)
    )


def _merged(attributes: pa.Array, extra: Mapping[str, pa.Array]) -> pa.Array:
    """Return attributes with an entry for each extra text that is not null, which replaces one of the same name."""
    count = len(attributes)
    offsets = _offsets(attributes)
    row_of = np.repeat(np.arange(count), np.diff(offsets))
    span = slice(int(offsets[0]), int(offsets[-1]))
    kept = _valid(attributes)[row_of]
    own_keys = attributes.keys[span]
    for name, texts in extra.items():
        kept &= ~(pc.equal(own_keys, name).to_numpy(zero_copy_only=False).astype(bool) & _valid(texts)[row_of])
    mask = pa.array(kept)
    rows, keys, items = [row_of[kept]], [own_keys.filter(mask)], [attributes.items[span].filter(mask)]
    for name, texts in extra.items():
        present = np.flatnonzero(_valid(texts))
        rows.append(present)
        keys.append(pa.repeat(pa.scalar(name, pa.string()), len(present)))
        items.append(texts.drop_null())
    all_rows = np.concatenate(rows)
    order = pa.array(np.argsort(all_rows, kind="stable"))
    counts = np.bincount(all_rows, minlength=count)
    ends = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    absent = pa.array(~_valid(attributes) & (counts == 0))
    return pa.MapArray.from_arrays(
        pa.array(ends), pa.concat_arrays(keys).take(order), pa.concat_arrays(items).take(order), TEXT_MAP, mask=absent
    )


def _as_text(field: WireField, found: pa.Array, faults: Faults) -> pa.Array:
    """Return a field that K2 does not know, as attributes show it; ``schema_resolution`` lists the forms."""
    match field.type.form:
        case Form.TEXT | Form.OTHER:
            return found
        case Form.ENUM:
            return _symbols(field, found, faults)
        case Form.FLOAT | Form.DOUBLE:
            return _each(found, repr)
        case Form.DECIMAL:
            return _each(found, lambda digits: _decimal_text(digits, field.type.scale))
        case Form.BYTES | Form.FIXED:
            return _each(found, bytes.hex)
        case Form.TEXT_LIST:
            return _each(found, json_text)
        case Form.TEXT_MAP:
            return _each(found, lambda entries: json_text(dict(entries)))
        case _:
            return found.cast(pa.string())


def json_text(value: Any) -> str:
    """Return a nested value as an attribute shows it; bytes in hexadecimal."""
    return storable(json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=bytes.hex))


def storable(text: str) -> str:
    r"""Write out halves of characters (``\ud800``) in a text that comes from a schema: no table can hold them."""
    return text.encode("utf-8", "backslashreplace").decode()


def _each(found: pa.Array, text: Callable[[Any], str]) -> pa.Array:
    return pa.array([None if each is None else text(each) for each in found.to_pylist()], pa.string())


def _decimal_text(encoded: bytes, scale: int) -> str:
    unscaled = int.from_bytes(encoded, "big", signed=True)
    if scale > _MOST_PLACES or not fits_wire(unscaled):
        return encoded.hex()
    digits = str(abs(unscaled)).zfill(scale + 1)
    whole, places = digits[: len(digits) - scale], digits[len(digits) - scale :]
    return f"{'-' if unscaled < 0 else ''}{whole}{'.' if places else ''}{places}"


def _offsets(found: pa.Array) -> npt.NDArray[np.int32]:
    return np.frombuffer(found.buffers()[1], dtype=np.int32, count=len(found) + 1, offset=found.offset * 4)


def _valid(found: pa.Array) -> npt.NDArray[np.bool_]:
    if not found.null_count:
        return np.ones(len(found), np.bool_)
    valid: npt.NDArray[np.bool_] = found.is_valid().to_numpy(zero_copy_only=False)
    return valid
