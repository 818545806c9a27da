"""Against a registry played by an HTTP server in this process: what it answers, the test says."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from random import Random

import pytest

from k2_market.messages.writer_schemas import ReferringSchema, UnusableSchema
from k2_market.schemas.avro import TRADE
from k2_resources.kafka.schema_registry import (
    MAX_REFERENCES,
    MAX_UNKNOWN_IDS,
    UNKNOWN_FOR_SECONDS,
    RegistryUnavailable,
    SchemaRefused,
    SchemaRegistry,
    SchemaUnavailable,
    is_transient,
)
from k2_resources.runtime.retry_policy import RetryPolicy

NOT_FOUND = (404, {"error_code": 40403, "message": "Schema not found."})


class RegistryDouble:
    """Answers each request by (method, path) with the next of its scripted answers, the last one for ever."""

    def __init__(self) -> None:
        self.answers: dict[tuple[str, str], list[tuple[int, object]]] = {}
        self.requests: list[tuple[str, str, object]] = []
        double = self

        class Handler(BaseHTTPRequestHandler):
            def _answer(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = json.loads(self.rfile.read(length)) if length else None
                path = self.path.partition("?")[0]
                double.requests.append((self.command, path, body))
                script = double.answers.get((self.command, path), [NOT_FOUND])
                status, content = script.pop(0) if len(script) > 1 else script[0]
                text = content if isinstance(content, bytes) else json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            do_GET = do_POST = do_PUT = _answer  # noqa: N815

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()


@pytest.fixture
def double() -> Iterator[RegistryDouble]:
    double = RegistryDouble()
    yield double
    double.server.shutdown()
    double.server.server_close()


def registry(url: str) -> SchemaRegistry:
    return SchemaRegistry(
        url, timeout_seconds=0.5, retry=RetryPolicy(is_transient=is_transient, sleep=lambda _seconds: None)
    )


def test_a_subject_is_made_backward_transitive_before_its_schema_is_registered(double: RegistryDouble) -> None:
    double.answers["PUT", "/config/t-value"] = [(200, {"compatibility": "BACKWARD_TRANSITIVE"})]
    double.answers["POST", "/subjects/t-value/versions"] = [(200, {"id": 7})]

    assert registry(double.url).register("t-value", TRADE) == 7

    (put, post) = double.requests
    assert put == ("PUT", "/config/t-value", {"compatibility": "BACKWARD_TRANSITIVE"})
    assert json.loads(post[2]["schema"]) == TRADE  # type: ignore[index]


def test_a_schema_is_found_by_its_id_and_an_unknown_id_is_absent(double: RegistryDouble) -> None:
    double.answers["GET", "/schemas/ids/7"] = [(200, {"schema": json.dumps(TRADE)})]

    assert registry(double.url).writer_schemas([7, 8]) == {7: TRADE}


def test_ids_that_no_registry_can_have_are_absent_without_asking(double: RegistryDouble) -> None:
    assert registry(double.url).writer_schemas([-1, 2**31]) == {}
    assert double.requests == []


def test_a_schema_is_asked_for_once(double: RegistryDouble) -> None:
    double.answers["GET", "/schemas/ids/7"] = [(200, {"schema": json.dumps(TRADE)})]
    asked = registry(double.url)

    for _ in range(3):
        asked.writer_schemas([7, 7])

    assert len(double.requests) == 1


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ({"schema": "{}", "schemaType": "JSON"}, "is a JSON schema; Avro is expected"),
        ({"schema": 'syntax = "proto3";', "schemaType": "PROTOBUF"}, "is a Protobuf schema; Avro is expected"),
        ({"schema": "?", "schemaType": "THRIFT"}, "is a THRIFT schema; Avro is expected"),
        ({"schema": "{'type':"}, "is not JSON that can be read (JSONDecodeError)"),
        ({"schema": "[" * 200_000}, "is not JSON that can be read (RecursionError)"),
        ({"schema": "9" * 5_000}, "is not JSON that can be read (ValueError)"),
        ({"schema": json.dumps({"doc": "x" * 1_000_000})}, "has 1,000,011 characters, at most 1,000,000"),
        ({"schema": None}, "is empty in the registry"),
        ({}, "is empty in the registry"),
    ],
)
def test_of_what_is_no_avro_schema_it_is_said_what_it_is(
    double: RegistryDouble, answer: dict[str, object], reason: str
) -> None:
    double.answers["GET", "/schemas/ids/7"] = [(200, answer)]
    double.answers["GET", "/schemas/ids/8"] = [(200, {"schema": json.dumps(TRADE)})]

    assert registry(double.url).writer_schemas([7, 8]) == {7: UnusableSchema(reason), 8: TRADE}


VENUE = {"type": "enum", "name": "Venue", "symbols": ["A", "B"]}
PLACE = {"type": "record", "name": "Place", "fields": [{"name": "venue", "type": "Venue"}]}


def reference(name: str, subject: str, version: int) -> dict[str, object]:
    return {"name": name, "subject": subject, "version": version}


def referring(schema: object, *references: dict[str, object]) -> tuple[int, dict[str, object]]:
    return 200, {"schema": json.dumps(schema), "references": list(references), "id": 1, "subject": "s", "version": 1}


def test_a_schema_comes_with_all_that_it_refers_to_each_after_what_that_refers_to(double: RegistryDouble) -> None:
    place, venue = reference("Place", "place", 3), reference("Venue", "a/venue", 1)
    double.answers["GET", "/schemas/ids/7"] = [referring(TRADE, place, venue)]
    double.answers["GET", "/subjects/place/versions/3"] = [referring(PLACE, venue)]
    double.answers["GET", "/subjects/a%2Fvenue/versions/1"] = [referring(VENUE)]

    assert registry(double.url).writer_schemas([7]) == {7: ReferringSchema(TRADE, (VENUE, PLACE))}


def test_a_schema_that_refers_to_what_is_not_there_or_to_itself_is_told(double: RegistryDouble) -> None:
    double.answers["GET", "/schemas/ids/7"] = [referring(TRADE, reference("Place", "place", 3))]
    double.answers["GET", "/subjects/place/versions/3"] = [(404, {"error_code": 40402, "message": "no version"})]
    double.answers["GET", "/schemas/ids/8"] = [referring(TRADE, reference("Round", "round", 1))]
    double.answers["GET", "/subjects/round/versions/1"] = [referring(PLACE, reference("Round", "round", 1))]
    double.answers["GET", "/schemas/ids/9"] = [referring(TRADE, reference("Json", "json", 1))]
    double.answers["GET", "/subjects/json/versions/1"] = [(200, {"schema": "{}", "schemaType": "JSON"})]

    assert registry(double.url).writer_schemas([7, 8, 9]) == {
        7: UnusableSchema("refers to version 3 of subject place, which the registry does not have"),
        8: ReferringSchema(TRADE, (PLACE,)),
        9: UnusableSchema("is a JSON schema; Avro is expected"),
    }


def test_a_schema_that_refers_to_hundreds_is_not_followed_to_its_end(double: RegistryDouble) -> None:
    double.answers["GET", "/schemas/ids/7"] = [referring(TRADE, reference("R", "r0", 1))]
    for number in range(MAX_REFERENCES + 10):
        following = reference("R", f"r{number + 1}", 1)
        double.answers["GET", f"/subjects/r{number}/versions/1"] = [referring(VENUE, following)]

    assert registry(double.url).writer_schemas([7]) == {7: UnusableSchema("refers to more than 100 schemas")}
    assert len(double.requests) == 1 + MAX_REFERENCES


def test_random_ids_cost_no_more_than_a_hundred_questions_and_small_ids_are_asked_for_first(
    double: RegistryDouble,
) -> None:
    double.answers["GET", "/schemas/ids/7"] = [(200, {"schema": json.dumps(TRADE)})]
    double.answers["GET", f"/schemas/ids/{2**31 - 1}"] = [(200, {"schema": json.dumps(TRADE)})]
    random_ids = [Random(number).randrange(1_000, 2**31) for number in range(5_000)]

    found = registry(double.url).writer_schemas([2**31 - 1, *random_ids, 7])

    assert found[7] == TRADE
    assert len(double.requests) == 1 + MAX_UNKNOWN_IDS
    assert found[2**31 - 1] == UnusableSchema(
        "was not asked for: more than 100 other ids among the messages are unknown to the registry"
    )
    assert len(found) == 1 + 1 + len(set(random_ids)) - MAX_UNKNOWN_IDS


def test_an_unknown_id_is_asked_for_again_after_a_while_and_not_before(double: RegistryDouble) -> None:
    now = [0.0]
    asked = SchemaRegistry(double.url, timeout_seconds=0.5, clock=lambda: now[0])

    assert [asked.writer_schemas([7]) for _ in range(3)] == [{}] * 3
    assert len(double.requests) == 1
    double.answers["GET", "/schemas/ids/7"] = [(200, {"schema": json.dumps(TRADE)})]
    now[0] = UNKNOWN_FOR_SECONDS - 0.001
    assert asked.writer_schemas([7]) == {}
    now[0] = UNKNOWN_FOR_SECONDS
    assert asked.writer_schemas([7]) == {7: TRADE}
    assert len(double.requests) == 2


@pytest.mark.parametrize(
    "answer", [(500, {"error_code": 50001, "message": "broken"}), (200, b"<html>"), (200, []), (200, b""), (200, "x")]
)
def test_an_id_that_gets_no_answer_of_a_registry_that_answers_otherwise_is_named(
    double: RegistryDouble, answer: tuple[int, object]
) -> None:
    double.answers["GET", "/schemas/ids/7"] = [answer]
    double.answers["GET", "/schemas/ids/8"] = [(200, {"schema": json.dumps(TRADE)})]
    double.answers["GET", "/config"] = [(200, {"compatibilityLevel": "BACKWARD"})]

    with pytest.raises(SchemaUnavailable, match="no answer for schema id 7") as raised:
        registry(double.url).writer_schemas([8, 7])

    assert raised.value.schema_id == 7


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_transient_answer_is_tried_again(double: RegistryDouble, status: int) -> None:
    sorry = (status, {"error_code": status, "message": "later"})
    double.answers["GET", "/schemas/ids/7"] = [sorry, sorry, sorry, (200, {"schema": json.dumps(TRADE)})]

    assert registry(double.url).writer_schemas([7]) == {7: TRADE}


def test_a_registry_that_stays_broken_is_unavailable_after_four_attempts(double: RegistryDouble) -> None:
    double.answers["GET", "/schemas/ids/7"] = [(500, {"error_code": 50001, "message": "broken store"})]

    with pytest.raises(RegistryUnavailable, match=rf"{double.url}.*broken store"):
        registry(double.url).writer_schemas([7])

    assert [path for _, path, _ in double.requests].count("/schemas/ids/7") == 4


@pytest.mark.parametrize(
    "answer", [(404, b"<html>no such page</html>"), (404, {"detail": "Not Found"}), (401, {}), (200, b"<html>")]
)
def test_something_else_on_the_port_is_unavailable_and_not_an_unknown_id(
    double: RegistryDouble, answer: tuple[int, object]
) -> None:
    double.answers["GET", "/schemas/ids/7"] = [answer]

    with pytest.raises(RegistryUnavailable, match="K2_REGISTRY_URL"):
        registry(double.url).writer_schemas([7])


def test_nothing_on_the_port_is_unavailable(double: RegistryDouble) -> None:
    double.server.shutdown()
    double.server.server_close()

    with pytest.raises(RegistryUnavailable, match="refused"):
        registry(double.url).writer_schemas([7])
    with pytest.raises(RegistryUnavailable, match="refused"):
        registry(double.url).register("t-value", TRADE)


@pytest.mark.parametrize("status", [409, 422])
def test_a_refused_schema_is_told_with_its_subject_and_the_reason_and_not_tried_again(
    double: RegistryDouble, status: int
) -> None:
    double.answers["PUT", "/config/t-value"] = [(200, {"compatibility": "BACKWARD_TRANSITIVE"})]
    double.answers["POST", "/subjects/t-value/versions"] = [(status, {"error_code": status, "message": "field z"})]

    with pytest.raises(SchemaRefused, match=r"t-value.*field z"):
        registry(double.url).register("t-value", TRADE)

    assert len(double.requests) == 2


def test_a_password_in_the_url_is_sent_and_never_told(double: RegistryDouble) -> None:
    with_password = double.url.replace("http://", "http://k2:hunter%2F22@")
    registry = SchemaRegistry(with_password, retry=RetryPolicy(is_transient, retries=0))
    double.answers["GET", "/schemas/ids/1"] = [(401, {"error_code": 40101, "message": "Unauthorized"})]
    with pytest.raises(RegistryUnavailable) as refused:
        registry.writer_schemas([1])
    double.server.shutdown()
    double.server.server_close()
    with pytest.raises(RegistryUnavailable) as silent:
        registry.writer_schemas([2])
    for error in (refused.value, silent.value):
        assert "hunter" not in str(error)
        assert "://***@127.0.0.1" in str(error)
