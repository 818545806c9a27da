"""The guard around an application of three lines, by Starlette's own test client where it can ask what is asked."""

import asyncio
from typing import Any

import pytest

from k2_market.browser_requests import DAGSTER, NOBODYS_HOST, OwnHosts
from k2_resources.web import browser_guard
from k2_resources.web.browser_guard import BrowserGuard

Headers = list[tuple[bytes, bytes]]


class Application:
    """Answers anything, and keeps what it was asked."""

    def __init__(self, headers: Headers | None = None) -> None:
        self.asked: list[str] = []
        self._headers = headers or []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.asked.append(scope["type"])
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": self._headers})
            await send({"type": "http.response.body", "body": b"all there is"})
        elif scope["type"] == "websocket":
            await send({"type": "websocket.accept"})


def ask(guard: BrowserGuard, kind: str = "http", extensions: Any = None, **headers: str) -> list[dict[str, Any]]:
    """What a server hears of the guard."""
    heard: list[dict[str, Any]] = []
    named = {name.replace("_", "-"): value for name, value in ({"host": "127.0.0.1:3000"} | headers).items()}
    scope = {
        "type": kind,
        "method": "GET",
        "path": "/runs",
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in named.items()],
        "extensions": extensions or {},
    }

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect" if kind == "websocket" else "http.request", "body": b""}

    async def send(message: Any) -> None:
        heard.append(message)

    asyncio.run(guard(scope, receive, send))
    return heard


def test_what_is_refused_never_reaches_the_application() -> None:
    application = Application()
    guard = BrowserGuard(application, DAGSTER, OwnHosts())
    for headers in ({"host": "evil.example"}, {"origin": "http://evil.example"}, {"sec_fetch_site": "same-site"}):
        for kind in ("http", "websocket"):
            heard = ask(guard, kind, **headers)
            assert b"all there is" not in b"".join(each.get("body", b"") for each in heard)
    assert application.asked == []
    assert ask(guard)[-1]["body"] == b"all there is"
    assert ask(guard, "websocket") == [{"type": "websocket.accept"}]
    assert application.asked == ["http", "websocket"]


def test_a_websocket_is_refused_with_a_status_where_the_server_can_and_closed_where_not() -> None:
    guard = BrowserGuard(Application(), DAGSTER, OwnHosts())
    (start, _) = ask(guard, "websocket", {"websocket.http.response": {}}, origin="http://evil.example")
    assert (start["type"], start["status"]) == ("websocket.http.response.start", 403)
    (close,) = ask(guard, "websocket", origin="http://evil.example")
    assert close["type"] == "websocket.close"


def test_a_policy_of_the_applications_own_stays_beside_the_guards() -> None:
    own = [(b"content-security-policy", b"script-src 'self'"), (b"referrer-policy", b"no-referrer")]
    (start, _) = ask(BrowserGuard(Application(own), DAGSTER, OwnHosts()))
    values = [value for name, value in start["headers"] if name == b"content-security-policy"]
    assert values == [b"script-src 'self'", b"frame-ancestors 'none'"]
    assert (b"referrer-policy", b"no-referrer") in start["headers"]
    assert (b"x-frame-options", b"DENY") in start["headers"]


def test_the_servers_own_start_and_end_pass() -> None:
    application = Application()
    ask(BrowserGuard(application, DAGSTER, OwnHosts()), "lifespan", host="evil.example")
    assert application.asked == ["lifespan"]


def test_refusals_are_logged_up_to_a_number_and_probes_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    monkeypatch.setattr(browser_guard._log, "warning", lambda message, **_: lines.append(message), raising=False)
    monkeypatch.setattr(browser_guard, "_LOGGED", 3)
    guard = BrowserGuard(Application(), DAGSTER, OwnHosts())
    for _ in range(10):
        ask(guard, host=NOBODYS_HOST)
    assert lines == []
    for _ in range(10):
        ask(guard, host="evil.example")
    assert lines == ["request refused"] * 3 + [
        "further refused requests are not logged until the process is started again"
    ]
