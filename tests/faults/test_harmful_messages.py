"""Messages, batches and schemas that fail, hang or kill whatever has to do with them: found, set aside and told.

Real brokers, registries and processes; every test ends with the checker. What is harmful to a real decoder is not known
(it would be mended), so a marked message kills the run's process here, in the decoder and by SIGKILL.
"""

import glob
import io
import json
import struct
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import dagster as dg
import fastavro
import pytest
from catching_up import carried_out, catch_up, ingest, planned
from checker import assert_nothing_lost_or_doubled, assert_verified
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType
from dagster._core.test_utils import create_run_for_test
from fault_brokers import FaultBroker, fault_broker
from fault_tally import FaultTally
from ingest_processes import carrying_out
from own_feeds import OwnFeed, own_feed, wait_until_known
from recorded_producer import Acked
from registry_in_front import registry_in_front
from strange_messages import AT, DAY, Strange, message, outgoing, trade
from topic_changes import TransactionalProducer
from wire_records import ProduceRefused, WireRecord, crc32c, produce

from k2_assets.names import ingest_job_name
from k2_assets.records.run_failure import begun_tags
from k2_assets.records.run_tags import ATTEMPT_TAG
from k2_cli.commands.verify import verify_ledger
from k2_cli.stack.java_artifacts import JavaArtifacts
from k2_market.kinds.trades import TRADES
from k2_market.ledger.offset_ranges import OffsetRange, RangeSet
from k2_market.messages.framing import frame
from k2_market.plans.failed_runs import ATTEMPTS_ALONE, ATTEMPTS_BEFORE_SETTING_ASIDE
from k2_market.schemas.avro import TRADE
from k2_platform.catch_up import local_instance
from k2_platform.repairing import Repairs
from k2_resources.kafka import topic_reader
from k2_sensors.run_watch import end_dead_runs

pytestmark = pytest.mark.slow

NOW_MS = int(AT.timestamp()) * 1_000
FAR_FUTURE_MS = NOW_MS * 1_000
"""Microseconds where Kafka wants milliseconds."""


@pytest.fixture
def own(tmp_path: Path, kafka, registry) -> OwnFeed:
    return own_feed(tmp_path, kafka.bootstrap_servers, registry.url)


def rows_of(own: OwnFeed) -> dict[tuple[int, int], dict[str, Any]]:
    """All raw rows by partition and offset; no place has two."""
    table = own.raw().table
    assert table is not None
    rows = table.scan().to_arrow().to_pylist()
    found = {(row["kafka_partition"], row["kafka_offset"]): row for row in rows}
    assert len(found) == len(rows)
    return found


def verified(own: OwnFeed) -> None:
    assert_verified(verify_ledger(own.settings, own.feed, TRADES, None, False, lambda done, total: None))


def of(own: OwnFeed, partition: int, start: int, end: int) -> RangeSet:
    return RangeSet.of([OffsetRange(own.topic().topic_id, partition, start, end)])


def let_in_any_time(own: OwnFeed) -> None:
    """Have the broker take any record timestamp, as those before Kafka 3.6 do."""
    resource = ConfigResource(ResourceType.TOPIC, own.feed.topics.trades)
    for setting in ("message.timestamp.after.max.ms", "message.timestamp.before.max.ms"):
        resource.add_incremental_config(
            ConfigEntry(setting, str(2**63 - 1), incremental_operation=AlterConfigOpType.SET)
        )
    admin = AdminClient({"bootstrap.servers": own.settings.bootstrap_servers})
    for future in admin.incremental_alter_configs([resource]).values():
        future.result(30)


HEADERS: dict[str, list[tuple[bytes, bytes | None]]] = {
    "a name that is not UTF-8": [(b"\xff\xfe\x80", b"v")],
    "one behind the correlation id": [(b"correlation_id", b"load-1"), (b"\xff", b"v")],
    "half of a character for a name": [(b"\xed\xa0\x80", b"v"), (b"correlation_id", b"load-1")],
    "a value that is not UTF-8": [(b"correlation_id", b"\xff\xfe")],
    "NUL in names and values": [(b"correlation_id\x00x", b"\x00\xff"), (b"", None), (b"", b"")],
    "no value": [(b"correlation_id", None)],
    "many": [(b"h%d" % number, b"x" * 10) for number in range(20_000)],
    "large": [(b"large", b"x" * 900_000), (b"correlation_id", b"y" * 50_000)],
}
TIMES = (-1, -2, -5, 0, 1, NOW_MS, FAR_FUTURE_MS, 253_402_300_800_000, 2**63 - 1, -(2**63))
KEYS = (None, b"", b"\x00", b"\xff" * 10_000)


def test_headers_times_and_keys_that_no_library_sends_stop_neither_plans_nor_runs(
    own: OwnFeed, tally: FaultTally
) -> None:
    let_in_any_time(own)
    value = message(own.schema_id, trade(1))
    records = [WireRecord(value, timestamp_ms=NOW_MS, headers=headers) for headers in HEADERS.values()]
    records += [WireRecord(value, timestamp_ms=each) for each in TIMES]
    records += [WireRecord(value, key, NOW_MS) for key in KEYS] + [WireRecord(None, None, NOW_MS)]
    sent: dict[tuple[int, int], WireRecord] = {}
    refused: list[int] = []
    # The strangest comes first in a partition of its own each time: it is what a plan looks at.
    for number, record in enumerate(records):
        try:
            sent[number % 3, produce(own.settings.bootstrap_servers, own.feed.topics.trades, number % 3, [record])] = (
                record
            )
        except ProduceRefused:
            refused.append(record.timestamp_ms)
    assert set(refused) <= {2**63 - 1, -(2**63)}, "the broker itself takes no other time"
    done = catch_up(own)
    assert (done.failed, done.waiting.startswith("nothing pending")) == (0, True)

    rows = rows_of(own)
    assert rows.keys() == sent.keys()
    for place, record in sent.items():
        row = rows[place]
        assert (row["reject_reason"], row["trade_id"]) == ((None, "t1") if record.value else ("null value", None))
        in_time = 0 <= record.timestamp_ms < 9_214_646_400_000
        assert (row["kafka_timestamp"] is not None) == in_time
    ids = {rows[place]["correlation_id"] for place in list(sent)[: len(HEADERS)]}
    assert ids == {None, "\ufffd\ufffd", "y" * 256}
    verified(own)
    tally.injected("headers, times and keys that no library sends")


def test_aborted_transactions_and_tombstones_at_the_end_of_a_topic_stop_nothing(
    own: OwnFeed, tally: FaultTally
) -> None:
    producer = TransactionalProducer(own.settings.bootstrap_servers, own.feed.topics.trades)
    for abort in (True, False, True):
        producer.begin(own.trades(20))
        producer.abort() if abort else producer.commit()
    done = catch_up(own)
    assert (done.failed, done.waiting.startswith("nothing pending"), own.ledger().messages) == (0, True, 20)
    verified(own)
    tally.injected("B5")


def register(own: OwnFeed, schema: object, kind: str = "AVRO", references: tuple[dict[str, object], ...] = ()) -> int:
    """The id of any schema, under a subject of its own."""
    text = schema if isinstance(schema, str) else json.dumps(schema)
    body = json.dumps({"schema": text, "schemaType": kind, "references": list(references)}).encode()
    subject = f"{own.feed.name}-{Random(text).getrandbits(60)}"
    url = f"{own.settings.schema_registry_url}/subjects/{subject}/versions"
    request = urllib.request.Request(url, body, {"Content-Type": "application/vnd.schemaregistry.v1+json"})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=60) as answer:
        return int(json.load(answer)["id"])


def with_field(avro_type: object, name: str = "added") -> dict[str, Any]:
    return {**TRADE, "fields": [*TRADE["fields"], {"name": name, "type": avro_type}]}


def arrays(levels: int) -> object:
    return {"type": "array", "items": arrays(levels - 1)} if levels else "string"


def body(schema: dict[str, Any], record: dict[str, Any]) -> bytes:
    written = io.BytesIO()
    fastavro.schemaless_writer(written, fastavro.parse_schema(json.loads(json.dumps(schema))), record)
    return written.getvalue()


PROTOBUF = 'syntax = "proto3"; message Trade { string symbol = 1; }'
JSON_SCHEMA = {"$schema": "http://json-schema.org/draft-07/schema#", "title": "Trade", "type": "object"}


def test_messages_of_schemas_that_can_not_be_used_are_dead_letters_that_say_so(own: OwnFeed, tally: FaultTally) -> None:
    usual = body(TRADE, trade(1))
    nested = b"\x02" * 400 + b"\x02a" + b"\x00" * 400
    venue = {"type": "enum", "name": "Venue", "namespace": "k2.market", "symbols": ["A", "B"]}
    wide = with_field({"type": "array", "items": {"type": "record", "name": "E", "fields": []}})
    schemas: dict[str, tuple[int, bytes]] = {
        "is a JSON schema; Avro is expected": (register(own, JSON_SCHEMA, "JSON"), b'{"symbol":"JSON"}'),
        "is a Protobuf schema; Avro is expected": (register(own, PROTOBUF, "PROTOBUF"), b"\x00\x0a\x01A"),
        "is nested more than 256 levels deep": (register(own, with_field(arrays(400))), usual + nested),
        "has an array of values that take no bytes": (register(own, wide), usual + b"\x80\x80\x80\x80\x80\x80\x40\x00"),
    }
    producer = own.producer()
    good = [Strange("", message(own.schema_id, trade(number))) for number in range(20)]
    dead = [Strange("", frame(schema_id, content)) for schema_id, content in schemas.values()]
    producer.send(outgoing([*good, *dead, *good]))
    producer.flush()
    assert catch_up(own).failed == 0

    rows = rows_of(own).values()
    found = {row["payload"]: row["reject_reason"] for row in rows if row["reject_reason"] is not None}
    assert found == {
        frame(schema_id, content): f"schema id {schema_id} {reason}" for reason, (schema_id, content) in schemas.items()
    }
    assert sum(row["reject_reason"] is None for row in rows) == 40
    assert venue
    verified(own)
    tally.injected("schemas of another kind, and too deep")


def test_a_schema_that_refers_to_another_subject_is_read_with_it(own: OwnFeed) -> None:
    venue = {"type": "enum", "name": "Venue", "namespace": "k2.market", "symbols": ["A", "B"]}
    text = json.dumps(venue)
    register(own, text)
    subject = f"{own.feed.name}-{Random(text).getrandbits(60)}"
    referring = with_field("k2.market.Venue", "venue")
    schema_id = register(own, referring, references=({"name": "k2.market.Venue", "subject": subject, "version": 1},))
    producer = own.producer()
    content = body(with_field(venue, "venue"), {**trade(1), "venue": "B"})
    producer.send(outgoing([Strange("", frame(schema_id, content))]))
    producer.flush()
    assert catch_up(own).failed == 0
    (row,) = rows_of(own).values()
    assert (row["reject_reason"], row["attributes"]) == (None, [("venue", "B")])
    verified(own)


KILLER = """
import os, signal
from k2_market.messages import block_decoder

decode = block_decoder.decode


def decode_or_die(batch, *how):
    if any(value and b"kills the decoder" in value for value in batch.values):
        os.kill(os.getpid(), signal.SIGKILL)
    return decode(batch, *how)


block_decoder.decode = decode_or_die
"""


@pytest.mark.timeout(1_200)
@pytest.mark.slow  # a process for each run, and some twenty runs
def test_a_message_that_kills_its_run_is_found_by_halves_set_aside_and_told_and_the_others_come_in(
    own: OwnFeed, tally: FaultTally
) -> None:
    producer = own.producer()
    lethal = message(own.schema_id, trade(7, attributes={"note": "kills the decoder"}))
    good = [Strange("", message(own.schema_id, trade(number))) for number in range(11)]
    producer.send(outgoing([*good[:5], Strange("", lethal), *good[5:]]), partition=1)
    producer.flush()
    (place,) = [(each.partition, each.offset) for each in producer.acked if each.value == lethal]
    killed = runs = 0
    while True:
        with local_instance(own.settings) as instance:
            end_dead_runs(instance)
            request = planned(own, instance)
        if isinstance(request, dg.SkipReason):
            break
        runs += 1
        with carrying_out(own, request, changed=KILLER) as process:
            code, _ = process.ends()
        killed += code == -9
        assert code in (0, -9)
        assert runs < 40
    assert str(request.skip_message).startswith("nothing pending")
    assert killed >= 3 + ATTEMPTS_ALONE

    rows, ledger = rows_of(own), own.ledger()
    assert len(rows) == 12
    row = rows.pop(place)
    assert (row["payload"], row["trade_id"]) == (lethal, None)
    assert row["reject_reason"].startswith("set aside after ")
    assert all(each["reject_reason"] is None for each in rows.values())
    assert ledger.set_aside == of(own, *place, place[1] + 1)
    assert_nothing_lost_or_doubled(own.settings, own.feed.name, producer.acked, tally)

    # Whatever it was is mended: nothing but the wish of a person has it decoded.
    assert Repairs(own.settings, own.feed, TRADES, dry_run=False).day(DAY).changes == ()
    assert rows_of(own)[place]["reject_reason"] is not None
    done = list(Repairs(own.settings, own.feed, TRADES, dry_run=False).dead_letters(None))
    assert [sum(each.decoded.values()) for _, each in done] == [0, 1]
    assert rows_of(own)[place]["trade_id"] == "t7"
    assert own.ledger().set_aside == RangeSet()
    assert own.ledger().dead_letters == 0
    assert catch_up(own).failed == 0
    assert_nothing_lost_or_doubled(own.settings, own.feed.name, producer.acked, tally, days=[DAY])
    tally.injected("a message that kills its run")


@pytest.mark.slow
def test_messages_of_an_id_that_the_registry_never_answers_for_are_set_aside_and_the_others_come_in(
    tmp_path: Path, kafka, registry, tally: FaultTally
) -> None:
    with registry_in_front(registry.url) as front:
        own = own_feed(tmp_path, kafka.bootstrap_servers, front.url)
        other = register(own, with_field("string", "venue"))
        content = body(with_field("string", "venue"), {**trade(1), "venue": "TM"})
        producer = own.producer()
        producer.send(outgoing([Strange("", message(own.schema_id, trade(number))) for number in range(20)]))
        producer.send(outgoing([Strange("", frame(other, content))] * 3))
        producer.send(own.trades(20, seed=2))
        producer.flush()
        broken = (500, b'{"error_code":50001,"message":"broken store"}')
        front.instead = lambda path: broken if f"/schemas/ids/{other}" in path else None
        errors = []
        for _ in range(ATTEMPTS_BEFORE_SETTING_ASIDE):
            errors += ingest(own).errors
        assert len(errors) == ATTEMPTS_BEFORE_SETTING_ASIDE
        assert all(f"no answer for schema id {other}" in error for error in errors)
        assert own.ledger().messages == 40, "all others have come in by now"
        assert ingest(own).errors == []
        aside = [row for row in rows_of(own).values() if row["reject_reason"] is not None]
        assert {row["reject_reason"] for row in aside} == {"set aside after 5 failed attempts"}
        assert [row["payload"] for row in aside] == [frame(other, content)] * 3

        front.passes()
        list(Repairs(own.settings, own.feed, TRADES, dry_run=False).dead_letters(None))
        assert {row["reject_reason"] for row in rows_of(own).values()} == {None}
        assert own.ledger().set_aside == RangeSet()
        assert_nothing_lost_or_doubled(own.settings, own.feed.name, producer.acked, tally)
        tally.injected("an id that the registry never answers for")


CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
DAMAGES = ("checksum", "content")


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory, java_artifacts: JavaArtifacts) -> Iterator[FaultBroker]:
    with fault_broker(tmp_path_factory.mktemp("damaged"), java_artifacts) as started:
        yield started


@pytest.mark.timeout(1_200)
@pytest.mark.slow  # the broker is stopped and started, and what is silent is waited for
def test_batches_that_are_damaged_on_the_brokers_disk_are_set_aside_unread_and_read_again_once_they_are_mended(
    tmp_path: Path, broker: FaultBroker, registry, tally: FaultTally, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(topic_reader, "STALL_SECONDS", 5.0)
    damaged = [(codec, damage) for codec in CODECS for damage in DAMAGES]
    own = own_feed(tmp_path, broker.direct, registry.url, partitions=len(damaged) + 1)
    acked: list[Acked] = []
    for partition, codec in enumerate([*(codec for codec, _ in damaged), "zstd"]):
        producer = own.producer(**{"compression.type": codec, "linger.ms": 50})
        for number in range(3):
            producer.send(own.trades(10, seed=100 * partition + number), partition=partition)
            producer.flush()
        acked += producer.acked
    broker.stop()
    whole = {
        partition: damage_second_batch(broker, own.feed.topics.trades, partition, damage)
        for partition, (_, damage) in enumerate(damaged)
    }
    broker.start()
    wait_until_known(broker.direct, own.feed.topics.trades)

    for _ in range(ATTEMPTS_BEFORE_SETTING_ASIDE):
        (error,) = ingest(own).errors
        assert f"{own.feed.topics.trades}/0: the batch at offset 10 can't be read" in error
    unread = RangeSet.of(each for partition in whole for each in of(own, partition, 10, 20))
    assert own.topic().readable - own.ledger().covered == unread, "all others have come in by now"
    assert ingest(own).errors == []
    assert own.ledger().set_aside == own.ledger().unread == unread
    assert len(rows_of(own)) == len(acked) - 10 * len(damaged)
    assert ingest(own).waiting.startswith("nothing pending")
    assert_nothing_lost_or_doubled(own.settings, own.feed.name, acked, tally, unread=unread)

    broker.stop()
    for partition, content in whole.items():
        log_file(broker, own.feed.topics.trades, partition).write_bytes(content)
    broker.start()
    wait_until_known(broker.direct, own.feed.topics.trades)
    found = Repairs(own.settings, own.feed, TRADES, dry_run=False).unread()
    assert (found.rows, found.read, dict(found.unread)) == (10 * len(damaged), unread, {})
    assert own.ledger().set_aside == RangeSet()
    assert_nothing_lost_or_doubled(own.settings, own.feed.name, acked, tally)
    tally.injected("batches damaged on the broker's disk")


def log_file(broker: FaultBroker, topic: str, partition: int) -> Path:
    (found,) = glob.glob(f"{broker.kafka.directory}/data/{topic}-{partition}/*.log")
    return Path(found)


def damage_second_batch(broker: FaultBroker, topic: str, partition: int, damage: str) -> bytes:
    """Change a batch's bytes, or its records under a checksum that is right; the file as it was."""
    path = log_file(broker, topic, partition)
    whole = path.read_bytes()
    content = bytearray(whole)
    (length,) = struct.unpack(">i", content[8:12])
    start = 12 + length
    base, length = struct.unpack(">qi", content[start : start + 12])
    assert base == 10
    if damage == "checksum":
        content[start + 12 + length - 3] ^= 0xFF
    else:
        for place in range(start + 61, start + 75):
            content[place] ^= 0x5A
        content[start + 17 : start + 21] = struct.pack(">I", crc32c(bytes(content[start + 21 : start + 12 + length])))
    path.write_bytes(content)
    return whole


@pytest.mark.slow
def test_a_run_that_is_told_to_set_something_aside_does_so_once_though_it_is_told_twice(
    own: OwnFeed, tally: FaultTally
) -> None:
    producer = own.producer()
    producer.send(own.trades(5), partition=0)
    producer.flush()
    with local_instance(own.settings) as instance:
        request = planned(own, instance)
        assert isinstance(request, dg.RunRequest)
        (op,) = request.run_config["ops"]
        config = {**request.run_config["ops"][op]["config"], "ranges": {"0": [[3, 4]]}}
        for attempt in range(1, ATTEMPTS_ALONE + 1):
            run = create_run_for_test(
                instance,
                job_name=ingest_job_name(own.feed.name, TRADES),
                status=dg.DagsterRunStatus.FAILURE,
                run_config={"ops": {op: {"config": config}}},
                tags={ATTEMPT_TAG: str(attempt)},
            )
            instance.add_run_tags(run.run_id, begun_tags(run.run_id))
        twice = request._replace(run_config={"ops": {op: {"config": {**config, "handling": "keep bytes"}}}})
        assert carried_out(own, twice, instance) == []
        assert carried_out(own, twice, instance) == []
    assert own.ledger().set_aside == own.ledger().covered == of(own, 0, 3, 4)
    assert {row["reject_reason"] for row in rows_of(own).values()} == {"set aside after 5 failed attempts"}
    verified(own)
    tally.injected("run delivered twice")
