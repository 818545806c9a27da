"""Requests passed on to a server in this process, which says what it was asked."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx2
import pytest
from free_ports import free_ports

from k2_resources.web.http_forwarding import Forwarding


@pytest.fixture
def url() -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode("latin-1")
            asked = {"method": self.command, "path": self.path, "headers": dict(self.headers.items()), "body": body}
            content = json.dumps(asked).encode()
            self.send_response(299)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("WWW-Authenticate", "Basic")
            self.send_header("Connection", "close, X-Hop")
            self.send_header("X-Hop", "of this connection")
            self.send_header("X-Own", "of the answer")
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_DELETE = _answer  # noqa: N815

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def ask(forwarding: Forwarding, method: str, path: str, **options: Any) -> httpx2.Response:
    import asyncio

    async def answer() -> httpx2.Response:
        transport = httpx2.ASGITransport(forwarding)
        async with httpx2.AsyncClient(transport=transport, base_url="http://registry.example:8080") as client:
            return await client.request(method, path, **options)

    return asyncio.run(answer())


def test_method_path_query_body_and_host_arrive_as_they_were_sent(url: str) -> None:
    content = b"\x00\xff{}"
    answer = ask(Forwarding(url), "PUT", "/a%2Fb/%C3%A9//c?deleted=true&x=%20", content=content)
    asked = answer.json()
    assert answer.status_code == 299
    assert (asked["method"], asked["path"]) == ("PUT", "/a%2Fb/%C3%A9//c?deleted=true&x=%20")
    assert asked["body"].encode("latin-1") == content
    assert asked["headers"]["host"] == "registry.example:8080"


def test_credentials_are_the_guards_and_what_is_of_a_browser_stays_behind(url: str) -> None:
    sent = {"Authorization": "Bearer x", "Cookie": "a=b", "Origin": "http://o", "Sec-Fetch-Site": "none", "X-Own": "1"}
    asked = ask(Forwarding(url, ("k2", "secret")), "GET", "/", headers=sent).json()["headers"]
    named = {name.lower(): value for name, value in asked.items()}
    assert named["authorization"] == "Basic azI6c2VjcmV0"
    assert named["x-own"] == "1"
    assert not {"cookie", "origin", "sec-fetch-site"} & named.keys()


def test_without_credentials_of_its_own_a_clients_go_through(url: str) -> None:
    asked = ask(Forwarding(url), "GET", "/", headers={"Authorization": "Bearer x"}).json()["headers"]
    assert {name.lower(): value for name, value in asked.items()}["authorization"] == "Bearer x"


def test_nothing_is_asked_for_that_the_client_did_not_ask_for(url: str) -> None:
    transport = httpx2.ASGITransport(Forwarding(url))

    async def answer() -> Any:
        async with httpx2.AsyncClient(transport=transport) as client:
            request = httpx2.Request("GET", "http://127.0.0.1/x", headers={"host": "127.0.0.1"})
            return (await client.send(request)).json()

    import asyncio

    names = {name.lower() for name in asyncio.run(answer())["headers"]}
    assert names <= {"host", "connection"}


def test_what_speaks_of_a_connection_stays_on_it_and_no_log_in_is_asked_for(url: str) -> None:
    answer = ask(Forwarding(url), "GET", "/")
    assert answer.headers["x-own"] == "of the answer"
    assert not {"x-hop", "www-authenticate"} & set(answer.headers)


def test_a_server_that_is_away_is_told_of_in_the_registrys_way() -> None:
    answer = ask(Forwarding(f"http://127.0.0.1:{free_ports(1)[0]}"), "GET", "/subjects")
    assert (answer.status_code, answer.json()["error_code"]) == (503, 503)
