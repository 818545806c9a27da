import http.server
import threading
from collections.abc import Iterator

import pytest
from free_ports import free_ports

from k2_cli.stack.health_probes import code_server_serves, graphql, http_answers, kafka_answers, refuses_other_hosts


class Answers(http.server.BaseHTTPRequestHandler):
    """Answers by path: what a healthy, a failing and a confused server would say."""

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer()

    def _answer(self) -> None:
        status, body = {
            "/healthy": (200, b"ok"),
            "/failing": (503, b"starting"),
            "/graphql": (200, b'{"data": {"version": "1"}}'),
            "/page": (200, b"<html>"),
        }[self.path]
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments: object) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_only_success_counts_as_an_answer(url: str) -> None:
    assert http_answers(f"{url}/healthy")
    assert not http_answers(f"{url}/failing")


def test_loopback_is_asked_directly_whatever_proxy_the_environment_names(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_ports(1)[0]}")
    assert http_answers(f"{url}/healthy")


def test_graphql_gives_data_or_nothing(url: str) -> None:
    assert graphql(f"{url}/graphql", "{version}") == {"version": "1"}
    assert graphql(f"{url}/page", "{version}") is None
    assert graphql(f"{url}/failing", "{version}") is None


def test_what_is_not_there_does_not_answer() -> None:
    (port,) = free_ports(1)
    assert not http_answers(f"http://127.0.0.1:{port}/")
    assert not code_server_serves(port)


def test_a_broker_that_is_not_there_is_no_noise_on_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    (port,) = free_ports(1)
    assert not kafka_answers(f"127.0.0.1:{port}")
    assert capfd.readouterr().err == ""


def test_a_server_that_answers_any_name_or_none_refuses_no_other_host(url: str) -> None:
    assert not refuses_other_hosts(f"{url}/healthy")
    assert not refuses_other_hosts(f"{url}/failing")
    assert not refuses_other_hosts(f"http://127.0.0.1:{free_ports(1)[0]}/")
