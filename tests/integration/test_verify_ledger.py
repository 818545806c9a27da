"""``k2 verify ledger`` against a real broker: what it sees of transactions, retention, new topics and single days."""

import json
import uuid
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from click.testing import Result
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from free_ports import free_ports
from repository import SHIPPED_FEEDS
from typer.testing import CliRunner

from k2_assets.checks import raw_findings
from k2_assets.ingestion import Ingestion
from k2_cli.main import app
from k2_market.feeds.day_window import DayWindow
from k2_market.feeds.feed import Feed, load_feeds
from k2_market.feeds.trading_calendar import TradingCalendar
from k2_market.kinds.trades import TRADES
from k2_market.messages.outgoing import OutgoingMessages, trade_messages
from k2_market.quality.finding import Finding
from k2_market.quality.ledger_checks import LEDGER_VERIFIED
from k2_market.schemas.avro import TRADE, subject_of
from k2_market.schemas.tables import RAW_TRADES
from k2_market.simulation.market_simulator import simulate_day
from k2_market.verification.invariants import Invariant
from k2_resources.iceberg.catalog import open_catalog
from k2_resources.kafka.schema_registry import SchemaRegistry
from k2_resources.kafka.topic_creation import ensure_topic
from k2_resources.kafka.topic_reader import TopicReader
from k2_resources.kafka.topics import KafkaTopics
from k2_resources.proofs import log_reading, row_chunks
from k2_resources.proofs.ledger_proof import prove_ledger
from k2_resources.proofs.log_reading import LogReading
from k2_resources.proofs.retained_messages import RetainedMessages
from k2_resources.raw.table import RawTable
from k2_resources.settings import Settings

DAY, DAY_BEFORE = date(2026, 11, 20), date(2026, 11, 19)
SHIPPED = SHIPPED_FEEDS / "sim.toml"


@dataclass(frozen=True)
class Verified:
    """A feed of a test's own: what is sent to it, ingested, and verified of it."""

    feed: Feed
    settings: Settings
    schema_id: int

    def messages(self, count: int, day: date = DAY) -> OutgoingMessages:
        session = TradingCalendar.of(self.feed).session(day)
        return trade_messages(simulate_day(self.feed, session, day, count, 1, 5), self.feed, self.schema_id)

    def send(self, messages: OutgoingMessages, **producer: Any) -> None:
        sending = Producer({"bootstrap.servers": self.settings.bootstrap_servers, **producer})
        self.hand_over(messages, sending)
        assert sending.flush(30) == 0

    def hand_over(self, messages: OutgoingMessages, sending: Producer) -> None:
        for key, value, timestamp in zip(messages.keys, messages.values, messages.timestamps_ms, strict=True):
            sending.produce(self.feed.topics.trades, value, key, timestamp=timestamp)

    def ingest(self) -> None:
        """Everything that is pending, and every loss, as a run would."""
        table = self.raw()
        state = KafkaTopics(self.settings.bootstrap_servers).state(self.feed.topics.trades)
        assert state is not None
        ledger = table.ledger()
        Ingestion(
            feed=self.feed.name,
            topic=self.feed.topics.trades,
            reader=TopicReader(self.settings.bootstrap_servers, self.feed.topics.trades, "test-verify"),
            registry=SchemaRegistry(self.settings.schema_registry_url),
            table=table,
            window=DayWindow.of(self.feed, datetime.now(UTC)),
            published_days=frozenset(),
            run_id="run",
        ).run(state.readable - ledger.covered, state.removed - ledger.covered - ledger.lost)

    def raw(self) -> RawTable:
        return RawTable(self.catalog(), self.feed.name, TRADES)

    def table(self) -> Any:
        return self.catalog().load_table((self.feed.name, "raw_trades"))

    def catalog(self) -> Any:
        return open_catalog(self.settings.iceberg_catalog_uri, self.settings.iceberg_warehouse)

    def admin(self) -> AdminClient:
        return AdminClient({"bootstrap.servers": self.settings.bootstrap_servers})

    def remove_records_before(self, offset: int) -> None:
        admin = self.admin()
        asked = admin.delete_records([TopicPartition(self.feed.topics.trades, 0, offset)])
        for each in asked.values():
            each.result(timeout=30)

    def verify(self, *options: str, **environment: str) -> Result:
        command = ["verify", "ledger", "--feed", self.feed.name, *options]
        return CliRunner().invoke(app, command, env={**self.settings.environment_variables(), **environment})

    def found(self, *options: str, **environment: str) -> dict[str, Any]:
        return dict(json.loads(self.verify(*options, "--json", **environment).stdout))


@pytest.fixture
def verified(tmp_path: Path, kafka: Any, registry: Any) -> Verified:
    name = f"verified{uuid.uuid4().hex[:8]}"
    text = SHIPPED.read_text(encoding="utf-8").replace('name = "sim"', f'name = "{name}"')
    text = text.replace(".sim", f".{name}").replace("[topics]", "[topics]\npartitions = 1")
    (tmp_path / "feeds").mkdir()
    (tmp_path / "home").mkdir()
    (tmp_path / "feeds" / f"{name}.toml").write_text(text, encoding="utf-8")
    settings = Settings(
        home=tmp_path / "home",
        feeds_dir=tmp_path / "feeds",
        kafka_bootstrap=kafka.bootstrap_servers,
        registry_url=registry.url,
    )
    feed = load_feeds(settings.feed_directories)[name]
    ensure_topic(kafka.bootstrap_servers, feed.topics.trades, feed.topics)
    schema_id = SchemaRegistry(registry.url).register(subject_of(feed.topics.trades), TRADE)
    return Verified(feed, settings, schema_id)


def told(found: dict[str, Any], words: str) -> list[str]:
    return [place.split("/", 1)[1] for each in found["notes"] if words in each["what"] for place in each["where"]]


def broken(found: dict[str, Any]) -> set[tuple[str, str]]:
    return {(each["invariant"], place.split("/", 1)[-1]) for each in found["violations"] for place in each["where"]}


def test_aborted_transactions_are_holes_that_the_broker_confirms(verified: Verified) -> None:
    verified.send(verified.messages(40))
    sending = Producer({"bootstrap.servers": verified.settings.bootstrap_servers, "transactional.id": uuid.uuid4().hex})
    sending.init_transactions(30)
    for end in (sending.abort_transaction, sending.commit_transaction):
        sending.begin_transaction()
        verified.hand_over(verified.messages(10), sending)
        sending.flush(30)
        end(30)
    verified.ingest()
    found = verified.found()
    assert found["holds"], found["violations"]
    assert told(found, "holes") == ["0[40,51)", "0[61,62)"]
    assert verified.found("--offline")["holds"]


def test_what_is_not_ingested_yet_is_pending_and_no_fault(verified: Verified) -> None:
    verified.send(verified.messages(20))
    verified.ingest()
    verified.send(verified.messages(5))
    found = verified.found()
    assert found["holds"]
    assert told(found, "pending") == ["0[20,25)"]


def test_records_removed_unread_must_be_on_record_and_are_told_from_then_on(verified: Verified) -> None:
    verified.send(verified.messages(20))
    verified.ingest()
    verified.send(verified.messages(30))
    verified.remove_records_before(30)
    assert broken(verified.found()) == {("I8", "0[20,30)")}
    verified.ingest()
    found = verified.found()
    assert found["holds"], found["violations"]
    assert told(found, "removed by retention") == ["0[20,30)"]
    assert any("20 offsets that the broker does not retain" in each for each in found["not_looked_at"])


def test_rows_of_a_topic_made_anew_are_verified_beside_those_of_the_old_one(verified: Verified) -> None:
    verified.send(verified.messages(20))
    verified.ingest()
    topic = verified.feed.topics.trades
    admin = verified.admin()
    admin.delete_topics([topic], operation_timeout=30)[topic].result(timeout=40)
    ensure_topic(verified.settings.bootstrap_servers, topic, verified.feed.topics)
    verified.send(verified.messages(7))
    verified.ingest()
    found = verified.found()
    assert found["holds"], found["violations"]
    assert found["invariants"]["I5"]["looked_at"] == "7 rows and messages"
    assert any("content of 20 offsets of topic" in each for each in found["not_looked_at"])


def test_a_broker_that_does_not_answer_is_no_clean_bill_unless_it_was_to_be_left_alone(verified: Verified) -> None:
    verified.send(verified.messages(20))
    verified.ingest()
    (port,) = free_ports(1)
    away = {"K2_KAFKA_BOOTSTRAP": f"127.0.0.1:{port}"}
    result = verified.verify(**away)
    assert result.exit_code == 1
    assert f"not verified: Kafka at 127.0.0.1:{port}" in result.stdout
    assert "Nothing broken was found, but not all could be looked at." in result.stdout
    result = verified.verify("--offline", **away)
    assert result.exit_code == 0, result.stdout
    assert "not looked at: the broker, as asked" in result.stdout


def test_a_feed_without_a_table_is_told_so(verified: Verified) -> None:
    result = verified.verify()
    assert result.exit_code == 1
    assert "there is no such table yet" in result.stderr


def test_of_one_day_only_its_rows_and_messages_are_looked_at(verified: Verified) -> None:
    of_day, of_day_before = verified.messages(30), verified.messages(20, DAY_BEFORE)
    verified.send(of_day_before)
    verified.send(of_day)
    late = OutgoingMessages(
        of_day_before.keys[:3],
        of_day_before.values[:3],
        [each + 86_400_000 for each in of_day_before.timestamps_ms[:3]],
    )
    verified.send(late)
    verified.ingest()
    assert verified.found("--date", str(DAY))["invariants"]["I5"]["looked_at"] == "30 rows and messages"
    assert verified.found("--date", str(DAY_BEFORE))["invariants"]["I5"]["looked_at"] == "23 rows and messages"

    verified.table().delete("kafka_offset = 7")
    assert ("I1", "0[7,8)") not in broken(verified.found("--date", str(DAY)))
    assert ("I1", "0[7,8)") in broken(verified.found("--date", str(DAY_BEFORE)))


def test_a_swapped_pair_is_found_however_rows_and_messages_are_cut_into_windows(
    verified: Verified, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_reading, "OFFSETS_PER_WINDOW", 7)
    monkeypatch.setattr(row_chunks, "ROWS_PER_CHUNK", 5)
    for _ in range(3):
        verified.send(verified.messages(20))
        verified.ingest()
    assert verified.found()["holds"]
    pair = verified.table().scan(row_filter="kafka_offset = 13 or kafka_offset = 44").to_arrow().cast(RAW_TRADES)
    one, other = pair.to_pylist()
    swapped = [{**one, "kafka_offset": other["kafka_offset"]}, {**other, "kafka_offset": one["kafka_offset"]}]
    verified.table().delete("kafka_offset = 13 or kafka_offset = 44")
    verified.table().append(pa.Table.from_pylist(swapped, RAW_TRADES))
    places = {place.split(":")[0] for _, place in broken(verified.found())}
    assert places == {"0@13", "0@44"}


def test_progress_is_told_up_to_the_end(verified: Verified, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_reading, "OFFSETS_PER_WINDOW", 15)
    verified.send(verified.messages(40))
    verified.ingest()
    steps: list[tuple[int, int]] = []
    with closing(RetainedMessages(verified.settings.bootstrap_servers, verified.feed.topics.trades)) as messages:
        registry = SchemaRegistry(verified.settings.schema_registry_url)
        reading = LogReading(
            verified.feed, TRADES, messages, registry, None, lambda done, total: steps.append((done, total))
        )
        assert prove_ledger(verified.table(), TRADES, reading).holds
    assert steps[-1] == (40, 40)
    assert len(steps) == 3


def test_a_registry_that_does_not_answer_leaves_content_unverified(verified: Verified) -> None:
    verified.send(verified.messages(5))
    verified.ingest()
    (port,) = free_ports(1)
    found = verified.found(K2_REGISTRY_URL=f"http://127.0.0.1:{port}")
    assert not found["holds"]
    assert f"schema registry http://127.0.0.1:{port}" in found["unanswered"][0]


@pytest.fixture
def two_commits(verified: Verified) -> Verified:
    """A raw table of two commits of one day."""
    for _ in range(2):
        verified.send(verified.messages(10))
        verified.ingest()
    return verified


def found_by_the_checks(verified: Verified) -> dict[str, Finding]:
    view = verified.raw().view()
    return {each.check: each for each in raw_findings(verified.feed, TRADES, view, view.reader([DAY]), DAY)}


def test_the_check_passes_a_table_as_it_should_be(two_commits: Verified) -> None:
    by_check = found_by_the_checks(two_commits)
    assert list(by_check) == list(TRADES.checks)
    assert by_check[LEDGER_VERIFIED].passed
    assert by_check[LEDGER_VERIFIED].numbers["files_of_day"] == 2


def test_the_check_names_the_ranges_of_a_table_that_was_rolled_back(two_commits: Verified) -> None:
    table = two_commits.table()
    table.manage_snapshots().rollback_to_snapshot(table.history()[0].snapshot_id).commit()
    findings = found_by_the_checks(two_commits)
    assert set(findings) == set(TRADES.checks)
    assert not findings[LEDGER_VERIFIED].passed
    assert str(findings[LEDGER_VERIFIED].examples[0]["where"]).endswith("/0[10,20)")
    assert findings["dead_letters"].description.startswith("Not evaluated, see ledger_verified")


def test_the_check_names_a_file_that_was_deleted(two_commits: Verified) -> None:
    file = next(iter(two_commits.table().scan().plan_files())).file.file_path
    Path(file.removeprefix("file://")).unlink()
    findings = found_by_the_checks(two_commits)
    assert set(findings) == set(TRADES.checks)
    example = findings[LEDGER_VERIFIED].examples[0]
    assert (example["invariant"], f"{file} is not there" in str(example["where"])) == (Invariant.READABLE.value, True)
    assert not findings["offsets_reconcile"].passed
