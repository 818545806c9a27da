"""Records produced by Kafka's wire protocol itself, with bytes that no client library would send."""

import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

_MAGIC = 2
_PRODUCE, _VERSION = 0, 3
_NO_PRODUCER = (-1, -1, -1)
_NO_LEADER = frozenset({3, 5, 6})
"""Unknown topic or partition, leader not available, not leader."""


@dataclass(frozen=True)
class WireRecord:
    """A record.

    Attributes:
        value: Its value.
        key: Its key.
        timestamp_ms: Its record timestamp; any int64.
        headers: Names and values, as bytes; names need be no text.
    """

    value: bytes | None
    key: bytes | None = b"SIM01"
    timestamp_ms: int = -1
    headers: Sequence[tuple[bytes, bytes | None]] = ()


class ProduceRefused(Exception):
    """A broker did not take a batch; its error code is in the text."""


class _NoLeader(ProduceRefused):
    """A partition that was just made has no leader for a moment."""


def produce(bootstrap_servers: str, topic: str, partition: int, records: Sequence[WireRecord]) -> int:
    """Write some records as one uncompressed batch, once the partition has a leader; the first one's offset.

    Raises:
        ProduceRefused: The broker answers with an error code.
    """
    attempts = Retrying(
        retry=retry_if_exception_type(_NoLeader), stop=stop_after_delay(60), wait=wait_fixed(0.1), reraise=True
    )
    return attempts(send_batch, bootstrap_servers, topic, partition, record_batch(records))


def record_batch(records: Sequence[WireRecord]) -> bytes:
    """A batch of record format 2, uncompressed."""
    first = records[0].timestamp_ms
    body = b"".join(_record(number, record, first) for number, record in enumerate(records))
    highest = max(record.timestamp_ms for record in records)
    counted = struct.pack(">hiqqqhii", 0, len(records) - 1, first, highest, *_NO_PRODUCER, len(records)) + body
    checked = struct.pack(">ibI", -1, _MAGIC, crc32c(counted)) + counted
    return struct.pack(">qi", 0, len(checked)) + checked


def send_batch(bootstrap_servers: str, topic: str, partition: int, batch: bytes) -> int:
    """Send a batch that is made already to the one broker of a cluster; its first record's offset."""
    name = topic.encode()
    request = (
        struct.pack(">hhih", _PRODUCE, _VERSION, 1, 4)
        + b"wire"
        + struct.pack(">hhii", -1, -1, 30_000, 1)
        + struct.pack(">h", len(name))
        + name
        + struct.pack(">iii", 1, partition, len(batch))
        + batch
    )
    host, port = bootstrap_servers.rsplit(":", 1)
    with socket.create_connection((host, int(port)), 30) as broker:
        broker.sendall(struct.pack(">i", len(request)) + request)
        (length,) = struct.unpack(">i", _read(broker, 4))
        answer = _read(broker, length)
    start = 4 + 4 + 2 + len(name) + 4
    _, code, offset = struct.unpack(">ihq", answer[start : start + 14])
    if code:
        raise (_NoLeader if code in _NO_LEADER else ProduceRefused)(f"{topic}/{partition}: error code {code}")
    return int(offset)


def crc32c(data: bytes) -> int:
    """The checksum of record batches (Castagnoli's polynomial)."""
    found = 0xFFFFFFFF
    for byte in data:
        found = _CRC_TABLE[(found ^ byte) & 255] ^ (found >> 8)
    return found ^ 0xFFFFFFFF


def _crc_of(byte: int) -> int:
    for _ in range(8):
        byte = (byte >> 1) ^ 0x82F63B78 if byte & 1 else byte >> 1
    return byte


_CRC_TABLE = tuple(map(_crc_of, range(256)))


def _record(number: int, record: WireRecord, first_ms: int) -> bytes:
    body = b"\0" + _varint(record.timestamp_ms - first_ms) + _varint(number) + _bytes(record.key) + _bytes(record.value)
    body += _varint(len(record.headers)) + b"".join(_bytes(name) + _bytes(value) for name, value in record.headers)
    return _varint(len(body)) + body


def _bytes(content: bytes | None) -> bytes:
    return _varint(-1) if content is None else _varint(len(content)) + content


def _varint(number: int) -> bytes:
    left = (number << 1) ^ (number >> 63)
    out = bytearray()
    while left > 127:
        out.append(left & 127 | 128)
        left >>= 7
    return bytes([*out, left])


def _read(broker: socket.socket, count: int) -> bytes:
    found = b""
    while len(found) < count:
        part = broker.recv(count - len(found))
        if not part:
            raise ConnectionError(f"the broker closed the connection after {len(found)} of {count} bytes")
        found += part
    return found
