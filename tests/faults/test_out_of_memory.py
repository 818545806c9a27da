"""A process that runs out of memory in the midst of a run fails or dies, and the next one loses and doubles nothing."""

import resource
import sys
from pathlib import Path

import psutil
import pytest
from catching_up import catch_up
from checker import assert_nothing_lost_or_doubled
from fault_tally import FaultTally
from ingest_processes import catching_up
from own_feeds import own_feed

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="another process's limits are Linux's"),
]

LEFT_BYTES = 8 * 2**20
"""What a process may still take when its limit is set."""


@pytest.mark.parametrize("point", ["polled", "decoded", "parquet_written"])
def test_a_run_without_memory_from_some_point_on_is_made_good_by_the_next(
    tmp_path: Path, kafka, registry, tally: FaultTally, point: str
) -> None:
    own = own_feed(tmp_path, kafka.bootstrap_servers, registry.url)
    producer = own.producer()
    producer.send(own.trades(100_000, symbols=200))
    producer.flush()
    with catching_up(own, K2_PAUSE_AT=point, RUST_BACKTRACE="1") as process:
        process.wait_until_stopped()
        limit = psutil.Process(process.process.pid).memory_info().vms + LEFT_BYTES
        resource.prlimit(process.process.pid, resource.RLIMIT_AS, (limit, limit))
        process.go_on()
        code, said = process.ends()
    assert code != 0, f"it had memory enough: {said[-2000:]}"
    assert catch_up(own).failed == 0
    assert_nothing_lost_or_doubled(own.settings, own.feed.name, producer.acked, tally)
    tally.injected("K9")
