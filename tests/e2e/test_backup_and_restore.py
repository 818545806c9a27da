"""A backup of a home whose whole stack runs, restored elsewhere on other ports: verified, going on, the original whole.

The original's daemon ingests while the backup is taken, and messages go on coming. The restored home has to take, once,
what was pending in the backup, and what is sent to it alone; the original what came to it since.
"""

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition
from free_ports import free_ports
from rich.console import Console

from k2_cli.stack.java_artifacts import JavaArtifacts
from k2_cli.stack.local_stack import LocalStack
from k2_cli.stack.process_supervision import Supervisor
from k2_platform.catch_up import feeds_named, local_instance, wait_until_caught_up
from k2_resources.iceberg.catalog import open_catalog
from k2_resources.settings import Settings

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

DAY = "2026-11-20"
TOPIC = "market.equities.trades.sim"
TABLES = ("raw_trades", "trades", "ohlcv_1m", "ohlcv_5m", "ohlcv_15m", "ohlcv_30m", "ohlcv_1h", "ohlcv_1d")
_PORTS = ("kafka_port", "kafka_controller_port", "registry_port", "dagster_port", "code_server_port", "metrics_port")


@dataclass(frozen=True)
class Home:
    """A home and its stack."""

    settings: Settings
    stack: LocalStack

    @classmethod
    def at(cls, directory: Path, java: JavaArtifacts) -> "Home":
        """One that is empty, on ports of its own."""
        directory.mkdir()
        (directory / "java").symlink_to(java.directory)
        ports: dict[str, Any] = dict(zip(_PORTS, free_ports(len(_PORTS)), strict=True))
        settings = Settings(home=directory, **ports)
        supervisor = Supervisor(directory / "run", settings.log_directory, until_parent_ends=True)
        return cls(settings, LocalStack(directory, LocalStack.of(settings).services, supervisor))

    def up(self, *names: str) -> None:
        """Start some services, or all."""
        (self.stack.only(names) if names else self.stack).up(report=lambda line: None)

    def k2(self, *arguments: str, code: int = 0) -> str:
        """What a command writes to standard output."""
        done = subprocess.run(
            [str(Path(sys.executable).with_name("k2")), *arguments],
            env=os.environ | self.settings.environment_variables(),
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == code, f"k2 {' '.join(arguments)}: {done.stdout}{done.stderr}"
        return done.stdout if code == 0 else done.stderr

    def simulate(self, trades: int, seed: int) -> int:
        """Send a day's trades; how many messages were acknowledged."""
        request = ["--feed", "sim", "--date", DAY, "--trades", str(trades), "--seed", str(seed), "--json"]
        return int(json.loads(self.k2("simulate", *request))["messages"])

    def catch_up(self) -> None:
        """Do what is pending, without a daemon."""
        self.k2("catch-up", "--feed", "sim")

    def wait_until_caught_up(self) -> None:
        """Wait for the daemon to do what is pending."""
        feeds = feeds_named(self.settings, ["sim"])
        with local_instance(self.settings) as instance:
            assert not wait_until_caught_up(self.settings, feeds, instance, Console(file=StringIO()))

    def verify(self) -> None:
        """See that ledger and bars are what the broker's messages amount to."""
        self.k2("verify", "ledger", "--feed", "sim")
        self.k2("verify", "bars", "--feed", "sim", "--date", DAY)

    def asked(self, statement: str) -> Any:
        """The one value that a query gives."""
        ((_, value),) = json.loads(self.k2("sql", statement, "--format", "json"))[0].items()
        return value

    def messages(self) -> dict[tuple[int, int], bytes]:
        """All messages that its broker has, by partition and offset."""
        consumer = Consumer({"bootstrap.servers": self.settings.bootstrap_servers, "group.id": "test"})
        try:
            partitions = consumer.list_topics(TOPIC, timeout=30).topics[TOPIC].partitions
            ends = {n: consumer.get_watermark_offsets(TopicPartition(TOPIC, n), timeout=30)[1] for n in partitions}
            consumer.assign([TopicPartition(TOPIC, n, 0) for n in partitions])
            found: dict[tuple[int, int], bytes] = {}
            while len(found) < sum(ends.values()):
                for message in consumer.consume(1000, timeout=30):
                    assert message.error() is None, message.error()
                    partition, offset = message.partition(), message.offset()
                    if partition is not None and offset is not None and offset < ends[partition]:
                        found[partition, offset] = message.value() or b""
            return found
        finally:
            consumer.close()

    def rows(self) -> set[tuple[int, int]]:
        """Partition and offset of each row; two rows of one message are an error."""
        statement = "SELECT kafka_partition AS p, kafka_offset AS o FROM sim.raw_trades"
        found = [(row["p"], row["o"]) for row in json.loads(self.k2("sql", statement, "--format", "json"))]
        assert len(found) == len(set(found)), f"{len(found) - len(set(found))} messages are there twice"
        return set(found)

    def tables(self) -> dict[str, tuple[int, int]]:
        """Catalog and all files of tables, by path."""
        return {
            str(path.relative_to(self.settings.home)): (path.stat().st_mtime_ns, path.stat().st_size)
            for path in [self.settings.home / "catalog.db", *(self.settings.home / "warehouse").rglob("*")]
            if path.is_file()
        }


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory, java_artifacts: JavaArtifacts) -> Iterator[Home]:
    """A home with everything up, and a day that its daemon has taken in and built."""
    java_artifacts.kafka_classpath(), java_artifacts.registry_directory()
    home = Home.at(tmp_path_factory.mktemp("original") / "K2 home #1", java_artifacts)
    try:
        home.up()
        home.simulate(6_000, seed=1)
        home.wait_until_caught_up()
        yield home
    finally:
        home.stack.down(report=lambda line: None)


@dataclass(frozen=True)
class Restored:
    """A backup, its description, the home made of it, and what the original had before and after it was taken."""

    backup: Path
    described: dict[str, Any]
    home: Home
    before: dict[tuple[int, int], bytes]
    after: dict[tuple[int, int], bytes]


@pytest.fixture(scope="module")
def restored(
    original: Home, tmp_path_factory: pytest.TempPathFactory, java_artifacts: JavaArtifacts
) -> Iterator[Restored]:
    """A backup taken while the daemon ingests and messages come, restored; its Kafka and its registry are up."""
    directory = tmp_path_factory.mktemp("restored")
    before, stop, sent = original.messages(), threading.Event(), []

    def go_on_sending() -> None:
        while not stop.is_set():
            sent.append(original.simulate(400, seed=10 + len(sent)))

    sending = threading.Thread(target=go_on_sending)
    sending.start()
    try:
        described = json.loads(original.k2("backup", str(directory / "backup"), "--json"))
    finally:
        stop.set()
        sending.join()
    assert sent
    after = original.messages()
    original.wait_until_caught_up()
    home = Home.at(directory / "another home", java_artifacts)
    untouched = original.tables()
    home.k2("restore", str(directory / "backup"))
    assert original.tables() == untouched
    try:
        home.up("kafka", "registry")
        yield Restored(directory / "backup", described, home, before, after)
    finally:
        home.stack.down(report=lambda line: None)


def test_the_backup_says_what_it_holds_and_each_file_is_on_its_list(restored: Restored) -> None:
    assert restored.described["parts"] == ["dagster", "home", "tables", "kafka", "registry"]
    assert restored.described["left_out"] == []
    assert restored.described["tables"] == len(TABLES)
    listed = json.loads((restored.backup / "backup.json").read_text())["files"]
    found = {str(path.relative_to(restored.backup)) for path in restored.backup.rglob("*") if path.is_file()}
    assert found == {each["path"] for each in listed} | {"backup.json"}
    assert (restored.backup.stat().st_mode & 0o777, len(listed)) == (0o700, restored.described["files"])


def test_the_restored_broker_has_every_message_of_the_time_when_the_backup_was_begun_and_none_of_its_own(
    restored: Restored,
) -> None:
    messages = restored.home.messages()
    assert messages.items() >= restored.before.items()
    assert messages.items() <= restored.after.items()


def test_rows_in_the_restored_tables_are_rows_of_messages_that_the_restored_broker_has(restored: Restored) -> None:
    assert restored.home.rows() <= set(restored.home.messages())
    restored.home.k2("verify", "ledger", "--feed", "sim", "--offline")


def test_snapshots_and_their_rows_are_those_of_the_original(original: Home, restored: Restored) -> None:
    for table in TABLES:
        statement = f"SELECT count(*) AS n FROM sim.{table}"
        assert 0 < restored.home.asked(statement) <= original.asked(statement)


def test_the_restored_home_goes_on_by_itself_and_takes_each_message_once(original: Home, restored: Restored) -> None:
    untouched = original.tables()
    restored.home.simulate(500, seed=500)
    restored.home.catch_up()
    messages = restored.home.messages()
    assert set(messages) > set(restored.before)
    assert restored.home.rows() == set(messages)
    restored.home.verify()
    assert restored.home.k2("sql", "SELECT count(*) FROM sim.trades", "--format", "csv")
    assert original.tables() == untouched


def test_the_original_goes_on_after_it_beside_the_restored_home(original: Home, restored: Restored) -> None:
    other = restored.home.tables()
    original.simulate(500, seed=600)
    original.wait_until_caught_up()
    messages = original.messages()
    assert original.rows() == set(messages)
    assert messages.items() >= restored.after.items()
    original.verify()
    assert restored.home.tables() == other


def test_the_whole_stack_of_the_restored_home_comes_up_and_its_daemon_goes_on(restored: Restored) -> None:
    restored.home.up()
    restored.home.simulate(300, seed=700)
    restored.home.wait_until_caught_up()
    assert restored.home.rows() == set(restored.home.messages())
    restored.home.verify()


def test_nothing_that_the_restored_home_goes_by_names_the_original(original: Home, restored: Restored) -> None:
    settings, place = restored.home.settings, str(original.settings.home)
    catalog = open_catalog(settings.iceberg_catalog_uri, settings.iceberg_warehouse)
    for table in TABLES:
        metadata = catalog.load_table(("sim", table)).metadata
        assert place not in metadata.model_dump_json()
        assert str(settings.home) in metadata.location
    for file in ("dagster/dagster.yaml", "kafka/server.properties"):
        assert place not in (settings.home / file).read_text(encoding="utf-8")


@pytest.mark.parametrize("damage", ["cut short", "changed", "missing", "no list"])
def test_a_damaged_backup_is_refused_by_the_file_and_leaves_no_home(
    restored: Restored, tmp_path: Path, java_artifacts: JavaArtifacts, damage: str
) -> None:
    backup = tmp_path / "backup"
    shutil.copytree(restored.backup, backup)
    (data, *_) = sorted((backup / "warehouse").rglob("*.parquet"))
    content = data.read_bytes()
    if damage == "cut short":
        data.write_bytes(content[:-1])
    elif damage == "changed":
        data.write_bytes(content[:100] + bytes([content[100] ^ 1]) + content[101:])
    elif damage == "missing":
        data.unlink()
    else:
        (backup / "backup.json").unlink()
    home = Home.at(tmp_path / "home", java_artifacts)
    refusal = home.k2("restore", str(backup), code=1)
    assert ("backup.json" if damage == "no list" else data.name) in refusal
    assert not (tmp_path / "home" / "catalog.db").exists()


def test_nothing_is_ever_restored_over_a_home_nor_backed_up_over_a_backup(original: Home, restored: Restored) -> None:
    untouched = original.tables()
    assert "is not empty" in original.k2("restore", str(restored.backup), code=1)
    assert "nothing is ever overwritten" in original.k2("backup", str(restored.backup), code=1)
    assert "lie within one another" in original.k2("backup", str(original.settings.home / "backup"), code=1)
    assert original.tables() == untouched
