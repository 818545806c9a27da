"""Against a registry played by an HTTP server in this process: what it answers, the test says."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from k2_market.avro_schemas import TRADE
from k2_resources.retry_policy import RetryPolicy
from k2_resources.schema_registry import RegistryUnavailable, SchemaRefused, SchemaRegistry, is_transient

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


def test_a_schema_that_is_not_avro_is_absent(double: RegistryDouble) -> None:
    double.answers["GET", "/schemas/ids/7"] = [(200, {"schema": "{}", "schemaType": "JSON"})]

    assert registry(double.url).writer_schemas([7]) == {}


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_transient_answer_is_tried_again(double: RegistryDouble, status: int) -> None:
    sorry = (status, {"error_code": status, "message": "later"})
    double.answers["GET", "/schemas/ids/7"] = [sorry, sorry, sorry, (200, {"schema": json.dumps(TRADE)})]

    assert registry(double.url).writer_schemas([7]) == {7: TRADE}


def test_a_registry_that_stays_broken_is_unavailable_after_four_attempts(double: RegistryDouble) -> None:
    double.answers["GET", "/schemas/ids/7"] = [(500, {"error_code": 50001, "message": "broken store"})]

    with pytest.raises(RegistryUnavailable, match=rf"{double.url}.*broken store"):
        registry(double.url).writer_schemas([7])

    assert len(double.requests) == 4


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
