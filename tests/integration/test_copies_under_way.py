"""Copies of tables and of Kafka's logs while others write them: each is of one moment, and can be gone on from."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType
from free_ports import free_ports
from pyiceberg.catalog.noop import NoopCatalog
from pyiceberg.io.pyarrow import PyArrowFileIO
from pyiceberg.serializers import FromInputFile
from pyiceberg.table import Table
from raw_deliveries import delivered

from k2_cli.stack.java_artifacts import JavaArtifacts
from k2_cli.stack.kafka_process import LocalKafka
from k2_cli.stack.process_supervision import Supervisor
from k2_market.feeds.feed import Topics
from k2_market.homes.backup_manifest import BackupError, BackupTable
from k2_market.kinds.trades import TRADES
from k2_resources.files.file_copy import CopiedFiles
from k2_resources.homes.kafka_log_copy import copy_kafka
from k2_resources.homes.table_copy import WAREHOUSE, TableCopying, move_of
from k2_resources.iceberg.catalog import open_catalog
from k2_resources.iceberg.owned_catalog import OwnedCatalog
from k2_resources.kafka.topic_creation import ensure_topic
from k2_resources.proofs.ledger_proof import prove_ledger
from k2_resources.raw.table import RawTable
from k2_resources.settings import Settings

TOPIC = "copied.while.written"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", kafka_bootstrap="127.0.0.1:1", registry_url="http://127.0.0.1:1")


@pytest.fixture
def catalog(settings: Settings) -> OwnedCatalog:
    catalog = open_catalog(settings.iceberg_catalog_uri, settings.iceberg_warehouse)
    RawTable(catalog, "asx", TRADES).commit(delivered(0, 3))
    return catalog


class CopiedBesideCommits(CopiedFiles):
    """Copies files, and has so many further commits made before the copies of a certain kind."""

    def among(self, catalog: OwnedCatalog, before: str, commits: int, times: int = 1) -> "CopiedBesideCommits":
        self._catalog, self._before, self._commits, self._times = catalog, before, commits, times
        self._next = 3
        return self

    def copy(self, source: Path, path: str) -> None:
        if source.name.endswith(self._before) and self._times:
            self._times -= 1
            for _ in range(self._commits):
                RawTable(self._catalog, "asx", TRADES).commit(delivered(self._next, self._next + 1))
                self._next += 1
        super().copy(source, path)


def copying(settings: Settings, copied: CopiedFiles) -> TableCopying:
    copied.directory.mkdir()
    return TableCopying(settings.home / "catalog.db", settings.home / "warehouse", copied)


def restored(table: BackupTable, directory: Path) -> Table:
    """A copied table, its metadata written for where the copy is."""
    warehouse = directory / WAREHOUSE
    location = move_of(table, warehouse, str(warehouse / table.directory)).carry_out("none")
    io = PyArrowFileIO()
    metadata = FromInputFile.table_metadata(io.new_input(location))
    return Table((table.namespace, table.table), metadata, location, io, NoopCatalog("copy"))


@pytest.mark.parametrize("before", [".metadata.json", ".avro", ".parquet"])
@pytest.mark.parametrize("commits", [1, 15, 40])
def test_a_table_is_copied_whole_though_others_commit_and_files_go_meanwhile(
    settings: Settings, catalog: OwnedCatalog, tmp_path: Path, before: str, commits: int
) -> None:
    copied = CopiedBesideCommits(tmp_path / "backup").among(catalog, before, commits)
    (table,) = copying(settings, copied).carry_out()
    found = restored(table, copied.directory)
    offsets = sorted(found.scan().to_arrow()["kafka_offset"].to_pylist())
    assert offsets == list(range(len(offsets)))
    assert len(offsets) >= 3
    proof = prove_ledger(found, TRADES, None, None)
    wrong = [each.what for each in proof.violations if each.invariant != "I9"]  # it has no catalog that could own it
    assert wrong == []
    there = {str(path.relative_to(copied.directory)) for path in copied.directory.rglob("*") if path.is_file()}
    assert set(copied.files) <= there


def test_files_that_go_faster_than_they_can_be_copied_are_told_of_and_not_left_out(
    settings: Settings, catalog: OwnedCatalog, tmp_path: Path
) -> None:
    copied = CopiedBesideCommits(tmp_path / "backup").among(catalog, ".metadata.json", 12, times=10)
    with pytest.raises(BackupError, match="is not there, though the catalog has just named it, 10 times over"):
        copying(settings, copied).carry_out()


def test_a_damaged_table_is_not_backed_up_as_if_it_were_whole(
    settings: Settings, catalog: OwnedCatalog, tmp_path: Path
) -> None:
    (data,) = (settings.home / "warehouse").rglob("*.parquet")
    data.write_bytes(data.read_bytes()[:-10])
    with pytest.raises(BackupError, match=rf"asx\.raw_trades is damaged: .*{data.name} has .* bytes in place of"):
        copying(settings, CopiedFiles(tmp_path / "backup")).carry_out()


def test_a_table_outside_of_the_warehouse_is_refused(settings: Settings, catalog: OwnedCatalog, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "backup").mkdir()
    wrong = TableCopying(settings.home / "catalog.db", tmp_path / "other", CopiedFiles(tmp_path / "backup"))
    with pytest.raises(BackupError, match="lies outside of the warehouse"):
        wrong.carry_out()


@pytest.fixture(scope="module")
def written_broker(
    tmp_path_factory: pytest.TempPathFactory, java_artifacts: JavaArtifacts
) -> Iterator[tuple[LocalKafka, Supervisor, JavaArtifacts]]:
    """A broker whose topic has many short segments."""
    directory = tmp_path_factory.mktemp("written")
    supervisor = Supervisor(directory / "run", directory / "logs", until_parent_ends=True)
    kafka = LocalKafka(directory / "kafka", *free_ports(2), java_artifacts, heap_mebibytes=512)
    with supervisor.running(kafka):
        ensure_topic(kafka.bootstrap_servers, TOPIC, Topics(trades=TOPIC, partitions=2))
        admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
        short = ConfigResource(ResourceType.TOPIC, TOPIC, set_config={"segment.bytes": "1048576"})
        for done in admin.alter_configs([short]).values():
            done.result(30)
        yield kafka, supervisor, java_artifacts


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_broker_on_a_copy_has_what_was_acknowledged_before_it_was_taken_and_goes_on(
    written_broker: tuple[LocalKafka, Supervisor, JavaArtifacts], tmp_path: Path
) -> None:
    kafka, supervisor, java = written_broker
    stop, acked = threading.Event(), 0

    def go_on_sending() -> None:
        nonlocal acked
        while not stop.is_set():
            acked += send(kafka.bootstrap_servers, acked, 500)

    acked += send(kafka.bootstrap_servers, 0, 20_000)
    before = messages(kafka.bootstrap_servers)
    sending = threading.Thread(target=go_on_sending)
    sending.start()
    copied = CopiedFiles(tmp_path / "copy")
    try:
        copy_kafka(kafka.directory / "data", copied, "data")
    finally:
        stop.set()
        sending.join()
    after = messages(kafka.bootstrap_servers)
    assert len(list((tmp_path / "copy" / "data" / f"{TOPIC}-0").glob("*.log"))) > 1
    again = LocalKafka(tmp_path / "copy", *free_ports(2), java, heap_mebibytes=512)
    with supervisor.running(_Named(again)):
        found = messages(again.bootstrap_servers)
        assert before.items() <= found.items() <= after.items()
        send(again.bootstrap_servers, 1_000_000, 100)
        assert len(messages(again.bootstrap_servers)) == len(found) + 100
    assert messages(kafka.bootstrap_servers) == after


class _Named:
    """A second broker under one supervisor, by a name of its own."""

    def __init__(self, kafka: LocalKafka) -> None:
        self._kafka = kafka
        self.name = "kafka-copy"

    def __getattr__(self, name: str) -> object:
        return getattr(self._kafka, name)


def send(bootstrap_servers: str, first: int, count: int) -> int:
    """Send numbered messages of 200 bytes; how many were acknowledged, which is all of them."""
    producer = Producer({"bootstrap.servers": bootstrap_servers, "enable.idempotence": True, "acks": "all"})
    for number in range(first, first + count):
        producer.produce(TOPIC, f"{number:0>200}".encode(), partition=number % 2)
        producer.poll(0)
    assert producer.flush(60) == 0
    return count


def messages(bootstrap_servers: str) -> dict[tuple[int, int], bytes]:
    """All messages of the topic, by partition and offset."""
    consumer = Consumer({"bootstrap.servers": bootstrap_servers, "group.id": "test"})
    try:
        ends = {n: consumer.get_watermark_offsets(TopicPartition(TOPIC, n), timeout=30)[1] for n in (0, 1)}
        consumer.assign([TopicPartition(TOPIC, n, 0) for n in ends])
        found: dict[tuple[int, int], bytes] = {}
        while len(found) < sum(ends.values()):
            for message in consumer.consume(5000, timeout=30):
                assert message.error() is None, message.error()
                partition, offset = message.partition(), message.offset()
                if partition is not None and offset is not None and offset < ends[partition]:
                    found[partition, offset] = message.value() or b""
        return found
    finally:
        consumer.close()
