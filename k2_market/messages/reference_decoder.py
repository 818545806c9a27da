"""Decodes one message at a time by fastavro: the reference for block decoding, and the judge of what that refuses."""

import io
import struct
from collections.abc import Callable, Mapping
from decimal import Context, Decimal
from functools import partial
from typing import Any, cast

import fastavro
import pyarrow as pa

from k2_market.messages.field_types import Form, python_type
from k2_market.messages.framing import HEADER_BYTES
from k2_market.messages.row_resolution import decimal_fault, fits_wire, json_text
from k2_market.messages.schema_resolution import ReadingPlan, WireField
from k2_market.schemas.avro import AvroSchema

WireRow = dict[str, Any]
"""Values by the plan's keys, such as ``block_reader.wire_schema`` types."""


class RefusedMessage(Exception):
    """A message that can't be read; its text is the dead letter's reason."""


def reference_decoder(plan: ReadingPlan) -> Callable[[bytes], WireRow]:
    """Return a function that reads one framed message of a writer schema.

    It returns the row that the block reader would, and raises ``RefusedMessage`` for anything else that the message
    may hold.
    """
    columns = {each.key: plan.kind.rows.field(name) for name, each in plan.known.items()}
    conversions = {
        each.key: conversion for each in plan.fields if (conversion := _conversion(each, columns.get(each.key)))
    }
    return partial(_read, plan.wire_schema, conversions)


def _read(wire_schema: AvroSchema, conversions: Mapping[str, Callable[[Any], Any]], value: bytes) -> WireRow:
    body = io.BytesIO(value)
    body.seek(HEADER_BYTES)
    try:
        row = cast(WireRow, fastavro.schemaless_reader(body, wire_schema, None))
    except (EOFError, struct.error) as error:
        raise RefusedMessage("truncated body") from error
    except UnicodeDecodeError as error:
        raise RefusedMessage("text that is not UTF-8") from error
    except IndexError as error:
        # fastavro raises it for a number cut short, too: its last byte says that another one follows.
        cut_short = body.tell() == len(value) and value[-1] >= 0x80
        raise RefusedMessage("truncated body" if cut_short else "union branch out of range") from error
    except Exception as error:  # one message, and fastavro promises nothing about what it raises
        raise RefusedMessage(f"malformed body ({type(error).__name__})") from error
    left = len(value) - body.tell()
    if left:
        raise RefusedMessage(f"{left} byte{'s' if left > 1 else ''} left after the record")
    for key, conversion in conversions.items():
        if row[key] is not None:
            row[key] = conversion(row[key])
    return row


def _conversion(field: WireField, column: pa.Field | None) -> Callable[[Any], Any] | None:
    """Choose what is to be done with a field's values that are not null; None for nothing.

    Args:
        field: As it was written.
        column: The raw table's column that it is for; None where K2 does not know the field.
    """
    if field.type.form is Form.OTHER:
        return _text
    convert = partial(_decimal, column, field) if column is not None and field.type.form is Form.DECIMAL else None
    return partial(_of_branch, field, convert) if field.wide else convert


def _of_branch(field: WireField, convert: Callable[[Any], Any] | None, value: Any) -> Any:
    if type(value) is not python_type(field.type):
        raise RefusedMessage(f"{field.name} is not the {field.type.words} of its union")
    return convert(value) if convert else value


def _decimal(column: pa.Field, field: WireField, value: bytes) -> Decimal:
    unscaled = int.from_bytes(value, "big", signed=True)
    if not fits_wire(unscaled):
        raise RefusedMessage(decimal_fault(column, unscaled, field.type.scale))
    return _EXACT.scaleb(Decimal(unscaled), -field.type.scale)


_EXACT = Context(prec=40)


def _text(value: Any) -> str:
    """Return a value of a type that only fastavro reads, as an attribute shows it."""
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.hex()
    return json_text(value)
