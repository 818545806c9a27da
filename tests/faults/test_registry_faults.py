"""The schema registry down, slow, wrong or forced: no dead letters by what may pass, and none lost by what may not."""

import copy
import io
import json
import re
import urllib.request
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import fastavro
import pytest
from fault_tally import FaultTally
from faulted_feed import DAY, FaultedFeed, assert_whole
from free_ports import free_ports
from registry_in_front import RegistryInFront, registry_in_front

from k2_cli.stack.java_artifacts import JavaArtifacts
from k2_cli.stack.kafka_process import LocalKafka
from k2_cli.stack.process_supervision import Supervisor
from k2_cli.stack.registry_process import LocalRegistry
from k2_market.messages.framing import HEADER_BYTES, frame
from k2_market.messages.outgoing import OutgoingMessages
from k2_market.schemas.avro import TRADE, AvroSchema, subject_of
from k2_resources.kafka.schema_registry import SchemaRefused, SchemaRegistry

TRADES = 500
UNKNOWN_TO_A_FOREIGN_REGISTRY = {"error_code": 40403, "message": "Schema not found."}


@pytest.fixture
def front(registry: LocalRegistry) -> Iterator[RegistryInFront]:
    with registry_in_front(registry.url) as found:
        yield found


@pytest.fixture
def faulted(tmp_path: Path, kafka: LocalKafka, front: RegistryInFront) -> FaultedFeed:
    return FaultedFeed.declared(tmp_path, kafka.bootstrap_servers, front.url)


def assert_nothing_was_written(faulted: FaultedFeed) -> None:
    ledger = faulted.ledger()
    assert (ledger.messages, ledger.dead_letters, len(ledger.covered)) == (0, 0, 0)


def assert_all_is_decoded(faulted: FaultedFeed, tally: FaultTally) -> None:
    assert_whole(faulted, tally, "S1")
    assert faulted.ledger().dead_letters == 0


@pytest.mark.parametrize(
    ("status", "content"),
    [
        (500, {"error_code": 50001, "message": "Error in the backend data store"}),
        pytest.param(429, {"error_code": 42901, "message": "Too many requests"}, marks=pytest.mark.slow),
        pytest.param(404, {"message": "no such page: another server is at this address"}, marks=pytest.mark.slow),
    ],
)
def test_a_registry_that_answers_with_an_error_fails_the_run_and_makes_no_dead_letters(
    status: int, content: dict[str, object], faulted: FaultedFeed, front: RegistryInFront, tally: FaultTally
) -> None:
    faulted.send(TRADES)
    front.answers(status, content)
    assert faulted.catch_up().failed == 1
    (failure,) = faulted.failures()
    assert "RegistryUnavailable" in failure.splitlines()[0]
    assert front.url in failure
    assert str(content["message"]) in failure
    assert_nothing_was_written(faulted)

    front.passes()
    assert_all_is_decoded(faulted, tally)


@pytest.mark.slow
def test_a_registry_that_fails_for_a_moment_costs_nothing(
    faulted: FaultedFeed, front: RegistryInFront, tally: FaultTally
) -> None:
    faulted.send(TRADES)
    first = iter([500, 503, 429])
    front.instead = lambda path: (status, b"{}") if (status := next(first, None)) else None
    assert_all_is_decoded(faulted, tally)
    assert faulted.failures() == []


def test_a_registry_process_that_is_down_fails_the_run_and_all_is_decoded_when_it_is_back(
    tmp_path: Path, kafka: LocalKafka, java_artifacts: JavaArtifacts, tally: FaultTally
) -> None:
    (port,) = free_ports(1)
    service = LocalRegistry(tmp_path / "registry", port, java_artifacts)
    supervisor = Supervisor(tmp_path / "run", tmp_path / "logs", until_parent_ends=True)
    with supervisor.running(service):
        faulted = FaultedFeed.declared(tmp_path, kafka.bootstrap_servers, service.url)
        faulted.send(TRADES)
    assert faulted.catch_up().failed == 1
    (failure,) = faulted.failures()
    assert f"RegistryUnavailable: schema registry {service.url}" in failure
    assert_nothing_was_written(faulted)

    with supervisor.running(service):
        assert_all_is_decoded(faulted, tally)


@pytest.mark.slow  # four attempts of five seconds each
def test_a_registry_that_takes_requests_and_does_not_answer_fails_the_run_within_its_time(
    faulted: FaultedFeed, front: RegistryInFront, tally: FaultTally
) -> None:
    faulted.send(TRADES)
    front.silent = True
    assert faulted.catch_up().failed == 1
    assert "RegistryUnavailable" in faulted.failures()[0].splitlines()[0]
    assert_nothing_was_written(faulted)

    front.passes()
    assert_all_is_decoded(faulted, tally)


@pytest.mark.slow
def test_an_id_that_the_registry_itself_does_not_know_is_a_dead_letter_with_its_bytes(
    faulted: FaultedFeed, front: RegistryInFront, tally: FaultTally
) -> None:
    """A registry restored from before the schema says this of every message: nothing is lost, all can be read again."""
    faulted.send(TRADES)
    number = faulted.schema_id()
    front.answers(404, UNKNOWN_TO_A_FOREIGN_REGISTRY)
    faulted.catch_up_to_the_end()
    dead = faulted.table().view().read_day(DAY, "reject_reason", "payload").to_pylist()
    assert {row["reject_reason"] for row in dead} == {f"unknown schema id {number}"}
    assert sorted(row["payload"] for row in dead) == sorted(each.value or b"" for each in faulted.acked)
    assert faulted.ledger().dead_letters == TRADES
    assert_whole(faulted, tally, "S1")


def trade_schema(**changed_types: object) -> AvroSchema:
    """Today's schema with some fields' types changed."""
    schema = copy.deepcopy(TRADE)
    for field in schema["fields"]:
        field["type"] = changed_types.get(field["name"], field["type"])
    return schema


def forced(registry_url: str, subject: str, schema: AvroSchema) -> int:
    """A schema's id, registered with the subject's compatibility off, as someone with the right to do so may."""

    def request(method: str, path: str, content: object) -> dict[str, int]:
        sent = urllib.request.Request(
            f"{registry_url}{path}", json.dumps(content).encode(), {"Content-Type": "application/json"}, method=method
        )
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(sent, timeout=30) as response:
            found: dict[str, int] = json.load(response)
        return found

    request("PUT", f"/config/{subject}", {"compatibility": "NONE"})
    return request("POST", f"/subjects/{subject}/versions", {"schema": json.dumps(schema), "schemaType": "AVRO"})["id"]


def rewritten(messages: OutgoingMessages, schema_id: int, schema: AvroSchema, **values: object) -> OutgoingMessages:
    """The same trades, written with another schema and some other values."""
    parsed, before = fastavro.parse_schema(schema), fastavro.parse_schema(copy.deepcopy(TRADE))
    found: list[bytes | None] = []
    for value in messages.values:
        assert value is not None
        record = fastavro.schemaless_reader(io.BytesIO(value[HEADER_BYTES:]), before, None)
        assert isinstance(record, dict)
        body = io.BytesIO()
        fastavro.schemaless_writer(body, parsed, record | values)
        found.append(frame(schema_id, body.getvalue()))
    return OutgoingMessages(messages.keys, found, messages.timestamps_ms)


@pytest.mark.slow
def test_an_incompatible_schema_is_refused_and_one_forced_in_makes_dead_letters_that_name_the_field(
    faulted: FaultedFeed, registry: LocalRegistry, tally: FaultTally
) -> None:
    subject = subject_of(faulted.feed.topics.trades)
    faulted.send(TRADES)
    incompatible = trade_schema(price="double")
    with pytest.raises(SchemaRefused, match=re.escape(subject)):
        SchemaRegistry(faulted.settings.schema_registry_url).register(subject, incompatible)

    number = forced(registry.url, subject, incompatible)
    faulted.producer.send(rewritten(faulted.messages(20, seed=2), number, incompatible, price=12.5))
    faulted.producer.flush()
    faulted.catch_up_to_the_end()
    rows = faulted.table().view().read_day(DAY, "schema_id", "reject_reason", "price").to_pylist()
    of_forced = [row for row in rows if row["schema_id"] == number]
    assert len(of_forced) == 20
    assert all(re.search(rf"schema id {number} .*price", row["reject_reason"]) for row in of_forced)
    assert all(row["reject_reason"] is None for row in rows if row["schema_id"] != number)
    assert_whole(faulted, tally, "S2")


@pytest.mark.slow
def test_a_schema_that_gains_a_field_in_the_middle_of_a_batch_is_read_beside_the_old_one(
    faulted: FaultedFeed, registry: LocalRegistry, tally: FaultTally
) -> None:
    evolved = copy.deepcopy(TRADE)
    evolved["fields"].append({"name": "venue", "type": ["null", "string"], "default": None})
    old = faulted.messages(TRADES)
    number = SchemaRegistry(registry.url).register(subject_of(faulted.feed.topics.trades), evolved)
    new = rewritten(old, number, evolved, venue="dark")
    mixed = [(new if place % 3 == 0 else old).values[place] for place in range(len(old))]
    faulted.producer.send(OutgoingMessages(old.keys, mixed, old.timestamps_ms))
    faulted.producer.flush()
    faulted.catch_up_to_the_end()
    rows = faulted.table().view().read_day(DAY, "schema_id", "reject_reason", "attributes").to_pylist()
    assert {row["schema_id"] for row in rows} == {number, faulted.schema_id()}
    assert all(row["reject_reason"] is None for row in rows)
    assert all(dict(row["attributes"] or {}).get("venue") == "dark" for row in rows if row["schema_id"] == number)
    assert_whole(faulted, tally, "S3")


@pytest.mark.slow
def test_of_bytes_under_the_right_id_that_are_another_schemas_none_is_lost_and_few_pass_for_a_trade(
    faulted: FaultedFeed, tally: FaultTally
) -> None:
    """Bytes carry no schema. What reads as a trade within all ranges is a row; here nothing does."""
    number = faulted.schema_id()
    quote_like = copy.deepcopy(TRADE)
    quote_like["fields"] = quote_like["fields"][::-1]
    wrong = rewritten(faulted.messages(TRADES), number, quote_like, price=Decimal("12.5000000000"))
    faulted.producer.send(wrong)
    faulted.producer.flush()
    faulted.catch_up_to_the_end()
    reasons = faulted.table().view().all_offsets().num_rows, faulted.ledger().dead_letters
    assert reasons == (TRADES, TRADES)
    assert_whole(faulted, tally, "S4")


@pytest.mark.slow
def test_failed_attempts_rest_longer_each_time_and_are_told_by_their_number(
    faulted: FaultedFeed, front: RegistryInFront, tally: FaultTally
) -> None:
    faulted.send(TRADES)
    front.answers(500, {})
    assert faulted.catch_up().failed == 1
    assert faulted.catch_up().failed == 0
    assert "another attempt" in faulted.catch_up().waiting
    assert faulted.catch_up(timedelta(seconds=40)).failed == 1
    front.passes()
    assert_all_is_decoded(faulted, tally)
