from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa
from avro_messages import DAYS, OPEN_MS, TABLES, batch

from k2_market.messages.raw_rows import DecodedRows, raw_table
from k2_market.schemas.message_kinds import QUOTE_MESSAGES


def decoded(*positions: int) -> DecodedRows:
    """Rows that hold nothing but their place, as symbol, and a day."""
    count = len(positions)
    columns = {field.name: pa.nulls(count, field.type) for field in QUOTE_MESSAGES.message_fields}
    columns["symbol"] = pa.array([str(position) for position in positions], pa.string())
    columns["trade_date"] = pa.array([date(2014, 3, 12)] * count, pa.date32())
    return DecodedRows(np.array(positions, np.int64), columns)


def table(count: int, parts: list[DecodedRows], dead: dict[int, str], **batch_changes: Any) -> pa.Table:
    messages = batch(*(f"value {place}".encode() for place in range(count)), **batch_changes)
    found = raw_table(messages, QUOTE_MESSAGES, parts, dead, pa.array([7] * count, pa.int32()), DAYS)
    found.validate(full=True)
    assert found.schema.equals(TABLES[QUOTE_MESSAGES])
    return found


def test_parts_are_put_back_into_the_messages_order():
    found = table(6, [decoded(5, 0), decoded(3, 2)], {1: "why", 4: "so"})

    assert found["symbol"].to_pylist() == ["0", None, "2", "3", None, "5"]
    assert found["reject_reason"].to_pylist() == [None, "why", None, None, "so", None]
    assert found["payload"].to_pylist() == [None, b"value 1", None, None, b"value 4", None]
    assert found["kafka_key"].to_pylist() == [None, b"BHP", None, None, b"BHP", None]
    assert found["kafka_offset"].to_pylist() == list(range(100, 106))
    assert found["correlation_id"].to_pylist() == [f"load-{place}" for place in range(6)]


def test_dead_letters_alone_have_days():
    found = table(2, [], {0: "why", 1: "why"}, timestamp_ms=OPEN_MS)

    assert found["trade_date"].to_pylist() == [date(2014, 3, 11)] * 2


def test_rows_keep_their_days_beside_dead_letters():
    found = table(3, [decoded(0, 2)], {1: "why"}, timestamp_ms=-1)

    assert found["trade_date"].to_pylist() == [date(2014, 3, 12), DAYS.last, date(2014, 3, 12)]


def test_no_messages_are_no_rows():
    assert table(0, [], {}).num_rows == 0
