"""Disks that fill up and files that run out: a clear error, and nothing lost or doubled once there is room again."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from fault_tally import FaultTally
from faulted_feed import DAY, EARLIER_DAY, NAME, FaultedFeed, assert_whole, k2_command
from free_ports import free_ports
from small_disk import fill, free, small_disk

from k2_cli.stack.java_artifacts import JavaArtifacts
from k2_cli.stack.kafka_process import LocalKafka
from k2_cli.stack.process_supervision import Supervisor
from k2_cli.stack.registry_process import LocalRegistry
from k2_resources.iceberg.catalog import open_catalog

pytestmark = pytest.mark.slow

TRADES = 500


@pytest.fixture
def faulted(tmp_path: Path, kafka: LocalKafka, registry: LocalRegistry) -> FaultedFeed:
    return FaultedFeed.declared(tmp_path, kafka.bootstrap_servers, registry.url)


@pytest.mark.parametrize("leave_bytes", [0, 16_384, 65_536])
def test_a_full_warehouse_fails_the_run_in_words_and_the_rows_come_when_there_is_room(
    leave_bytes: int, faulted: FaultedFeed, tally: FaultTally
) -> None:
    """Some room lets the data file be written and not what must follow it."""
    with small_disk(faulted.settings.home / "warehouse", 8) as disk:
        faulted.send(TRADES, EARLIER_DAY)
        faulted.catch_up_to_the_end()
        faulted.send(TRADES, DAY)
        fill(disk, leave_bytes)
        assert faulted.catch_up().failed >= 1
        for failure in faulted.failures():
            assert "No space left on device" in failure.splitlines()[0]
            assert NAME in failure.splitlines()[0]
        assert faulted.table().view().read_day(EARLIER_DAY).num_rows == TRADES
        free(disk)
        assert_whole(faulted, tally, "D1")


def test_a_full_disk_under_dagsters_records_is_said_in_words_and_costs_no_rows(
    faulted: FaultedFeed, tally: FaultTally
) -> None:
    with small_disk(faulted.settings.dagster_home, 8) as disk:
        faulted.send(TRADES, EARLIER_DAY)
        faulted.catch_up_to_the_end()
        faulted.send(TRADES, DAY)
        fill(disk)
        done = faulted.k2("catch-up", "--feed", NAME)
        assert done.returncode == 1
        assert done.stderr.splitlines()[-1].startswith(f"k2: Dagster's records in {disk}: "), done.stderr[-3000:]
        free(disk)
        assert_whole(faulted, tally, "D1")


@pytest.fixture
def own_broker(tmp_path: Path, java_artifacts: JavaArtifacts) -> Iterator[tuple[LocalKafka, Supervisor, Path]]:
    """A broker whose log lies on a small disk."""
    port, controller_port = free_ports(2)
    with small_disk(tmp_path / "kafka", 96) as disk:
        service = LocalKafka(disk, port, controller_port, java_artifacts, heap_mebibytes=384)
        supervisor = Supervisor(tmp_path / "run", tmp_path / "logs", until_parent_ends=True)
        with supervisor.running(service):
            yield service, supervisor, disk


def test_a_broker_whose_disk_is_full_ends_and_nothing_that_it_acknowledged_is_lost(
    own_broker: tuple[LocalKafka, Supervisor, Path], tmp_path: Path, registry: LocalRegistry, tally: FaultTally
) -> None:
    service, supervisor, disk = own_broker
    faulted = FaultedFeed.declared(tmp_path, service.bootstrap_servers, registry.url)
    faulted.send(TRADES, EARLIER_DAY)
    faulted.catch_up_to_the_end()
    fill(disk, leave_bytes=262_144)
    faulted.producer.send(faulted.messages(20_000))
    assert faulted.producer._producer.flush(20) > 0, "the broker took more than its disk can hold"
    done = faulted.k2("catch-up", "--feed", NAME)
    assert done.returncode == 1
    assert f"k2: Kafka at {service.bootstrap_servers}" in done.stderr
    free(disk)
    supervisor.stop(service)
    supervisor.start(service)
    faulted.producer.flush(110)
    assert faulted.producer.refused == []
    assert_whole(faulted, tally, "D1")


@pytest.mark.parametrize("draw", range(3))
def test_a_process_that_runs_out_of_files_says_so_and_the_next_one_goes_on(
    draw: int, seeded: random.Random, faulted: FaultedFeed, tally: FaultTally
) -> None:
    """Wherever it is that no further file can be opened: the log, Dagster's records, the registry, the warehouse."""
    faulted.send(TRADES)
    files = seeded.randrange(14, 42)
    command = k2_command("catch-up", "--feed", NAME)
    command[2] = f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, ({files}, {files})); {command[2]}"
    done = faulted.run(command)
    if done.returncode != 0:
        assert done.returncode == 1
        assert "Too many open files" in done.stderr or "unable to open database file" in done.stderr
    assert_whole(faulted, tally, "D2")


@pytest.mark.parametrize("left", ["nothing", "half"])
def test_metadata_that_an_outage_cut_short_stops_the_plan_in_words_and_the_version_before_it_can_be_registered(
    left: str, faulted: FaultedFeed, tally: FaultTally
) -> None:
    """Of files that were not flushed to disk a power cut may leave any part; the catalog's database flushes its own."""
    faulted.send(TRADES, EARLIER_DAY)
    faulted.catch_up_to_the_end()
    catalog = open_catalog(faulted.settings.iceberg_catalog_uri, faulted.settings.iceberg_warehouse)
    before = catalog.load_table((NAME, "raw_trades")).metadata_location
    faulted.send(TRADES)
    faulted.catch_up_to_the_end()
    newest = Path(catalog.load_table((NAME, "raw_trades")).metadata_location.removeprefix("file://"))
    content = newest.read_bytes()
    newest.write_bytes(content[: len(content) // 2] if left == "half" else b"")
    done = faulted.k2("catch-up", "--feed", NAME)
    assert done.returncode == 1
    assert "k2: loading faulted.raw_trades: " in done.stderr
    assert "cut short" in done.stderr
    catalog.drop_table((NAME, "raw_trades"))
    catalog.register_table((NAME, "raw_trades"), before)
    assert faulted.lag() == TRADES
    assert_whole(faulted, tally, "D3")
