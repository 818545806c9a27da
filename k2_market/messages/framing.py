"""Reads and writes the frame before every Avro body on Kafka: Confluent's wire format.

A value is the magic byte 0x00, the writer schema's id as four big-endian bytes, and the Avro body.
"""

import struct

MAGIC = 0
HEADER_BYTES = 5

_HEADER = struct.Struct(">Bi")
"""The id is signed, as in the registry's own (Java) clients: ids above 2**31 - 1 do not exist."""


def frame(schema_id: int, body: bytes) -> bytes:
    """Return the message value for an Avro body.

    Args:
        schema_id: The registry's id of the schema that the body was written with; 0 to 2**31 - 1.
        body: One record, Avro binary.

    Raises:
        ValueError: The id is out of range.
    """
    if not 0 <= schema_id < 2**31:
        raise ValueError(f"schema id {schema_id} is outside 0..{2**31 - 1}")
    return _HEADER.pack(MAGIC, schema_id) + body


def schema_id_of(value: bytes) -> int | None:
    """Return the schema id in a value's header; None where there is no header to read.

    A negative id is returned as it stands: no registry knows it, so it decodes to a dead letter like any other
    unknown id.

    Example:
        >>> schema_id_of(frame(7, b"..."))
        7
        >>> schema_id_of(b"{}") is None
        True
    """
    if len(value) < HEADER_BYTES or value[0] != MAGIC:
        return None
    schema_id: int = _HEADER.unpack_from(value)[1]
    return schema_id


def framing_fault(value: bytes | None) -> str | None:
    """Tell why a value has no readable header, in the words of a dead letter; None when it has one.

    Example:
        >>> framing_fault(b'{"price": 1}')
        'magic byte 0x7b, expected 0x00'
    """
    if value is None:
        return "null value"
    if not value:
        return "empty value"
    if value[0] != MAGIC:
        return f"magic byte 0x{value[0]:02x}, expected 0x{MAGIC:02x}"
    if len(value) < HEADER_BYTES:
        return f"value of {len(value)} bytes is shorter than its {HEADER_BYTES}-byte header"
    return None
