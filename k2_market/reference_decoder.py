"""One message at a time, by fastavro: the reference that block reading is held to, and the judge of what it refuses."""

import io
import struct
from collections.abc import Callable
from decimal import Context, Decimal
from functools import partial
from typing import Any, cast

import fastavro

from k2_market.message_framing import HEADER_BYTES
from k2_market.row_resolution import decimal_fault, fits_wire, json_text
from k2_market.schema_resolution import Form, ReadingPlan, WireField, python_type

WireRow = dict[str, Any]
"""Values by the plan's keys, such as ``block_reader.wire_schema`` types."""


class RefusedMessage(Exception):
    """A message that can't be read; its text is the dead letter's reason."""


def reference_decoder(plan: ReadingPlan) -> Callable[[bytes], WireRow]:
    """A function that reads one framed message of a writer schema.

    It returns the row that the block reader would, and raises ``RefusedMessage`` for anything else that the message
    may hold.
    """
    return partial(_read, plan)


def _read(plan: ReadingPlan, value: bytes) -> WireRow:
    body = io.BytesIO(value)
    body.seek(HEADER_BYTES)
    try:
        record = cast(WireRow, fastavro.schemaless_reader(body, plan.wire_schema, None))
    except (EOFError, struct.error) as error:
        raise RefusedMessage("truncated body") from error
    except UnicodeDecodeError as error:
        raise RefusedMessage("text that is not UTF-8") from error
    except IndexError as error:
        raise RefusedMessage("union branch out of range") from error
    except Exception as error:  # one message, and fastavro promises nothing about what it raises
        raise RefusedMessage(f"malformed body ({type(error).__name__})") from error
    left = len(value) - body.tell()
    if left:
        raise RefusedMessage(f"{left} byte{'s' if left > 1 else ''} left after the record")
    known = {each.key for each in plan.known.values()}
    return {each.key: _wire_value(each, record[each.key], known=each.key in known) for each in plan.fields}


def _wire_value(field: WireField, value: Any, *, known: bool) -> Any:
    if value is None:
        return None
    if field.type.form is Form.OTHER:
        return _text(value)
    if field.wide and type(value) is not python_type(field.type):
        raise RefusedMessage(f"{field.name} is not the {field.type.words} of its union")
    if known and field.type.form is Form.DECIMAL:
        return _decimal(field, value)
    return value


def _decimal(field: WireField, value: bytes) -> Decimal:
    unscaled = int.from_bytes(value, "big", signed=True)
    if not fits_wire(unscaled):
        raise RefusedMessage(decimal_fault(field.name, unscaled, field.type.scale))
    return _EXACT.scaleb(Decimal(unscaled), -field.type.scale)


_EXACT = Context(prec=40)


def _text(value: Any) -> str:
    """A value of a type that only fastavro reads, as an attribute shows it."""
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.hex()
    return json_text(value)
