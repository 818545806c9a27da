import pytest
from avro_messages import batch

from k2_market.messages.batch import MessageBatch


def test_a_batch_is_as_long_as_its_messages_are_many():
    assert len(batch(b"a", None, b"c")) == 3
    assert len(batch()) == 0


@pytest.mark.parametrize("short", ["partitions", "offsets", "timestamps_ms", "keys", "values", "correlation_ids"])
def test_lists_of_different_lengths_are_refused_with_their_lengths(short):
    lists = {
        name: [None, None] for name in ("partitions", "offsets", "timestamps_ms", "keys", "values", "correlation_ids")
    }
    lists[short] = [None]

    with pytest.raises(ValueError, match=f"'{short}': 1"):
        MessageBatch(topic_id="t", **lists)
