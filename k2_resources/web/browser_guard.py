"""Wraps an ASGI application so that pages of other sites get no answer (#048)."""

from collections.abc import Iterable

from starlette.datastructures import MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from k2_market.browser_requests import NOBODYS_HOST, OwnHosts, Refusal, Site, WebRequest, refusal
from k2_resources.logs.structured_logging import get_logger

_LOGGED = 100
"""Refusals that a process logs; a page that asks for ever must not fill the disk."""
_LOGGED_CHARACTERS = 200
_REFUSE_WEBSOCKET = "websocket.http.response"
_POLICY_VIOLATION = 1008

_log = get_logger("guard")


class BrowserGuard:
    """Passes requests on to an application, or answers in its place that they are refused.

    What it answers can't be shown in another page's frame, nor be read there as what it is not.
    """

    def __init__(self, app: ASGIApp, site: Site, own: OwnHosts) -> None:
        self._app = app
        self._site = site
        self._own = own
        self._refused = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or open one websocket."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)  # the server's own start and end
            return
        request = _request(scope)
        found = refusal(request, self._site, self._own)
        if found is None:
            await self._app(scope, receive, _unframed(send))
        else:
            self._log(request, found)
            await _refuse(found, scope, receive, _unframed(send))

    def _log(self, request: WebRequest, found: Refusal) -> None:
        if request.header("host") == NOBODYS_HOST:
            return  # a health probe, which comes all the time
        self._refused += 1
        if self._refused <= _LOGGED:
            _log.warning(
                "request refused",
                reason=found.reason[:_LOGGED_CHARACTERS],
                method=request.method,
                path=request.path[:_LOGGED_CHARACTERS],
            )
        if self._refused == _LOGGED:
            _log.warning("further refused requests are not logged until the process is started again")


def _request(scope: Scope) -> WebRequest:
    headers: Iterable[tuple[bytes, bytes]] = scope["headers"]
    return WebRequest(
        method=scope.get("method", "GET"),
        path=scope["path"],
        query=scope["query_string"].decode("latin-1"),
        headers=tuple((name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in headers),
        is_websocket=scope["type"] == "websocket",
    )


async def _refuse(found: Refusal, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await receive()  # the handshake, which has to be taken before it can be answered
        if _REFUSE_WEBSOCKET not in scope.get("extensions", {}):
            await send({"type": "websocket.close", "code": _POLICY_VIOLATION, "reason": "refused"})
            return
    answer = JSONResponse({"error_code": found.status, "message": f"K2: {found.reason}."}, found.status)
    await answer(scope, receive, send)


def _unframed(send: Send) -> Send:
    async def with_headers(message: Message) -> None:
        if message["type"] in ("http.response.start", f"{_REFUSE_WEBSOCKET}.start"):
            headers = MutableHeaders(raw=list(message.get("headers", [])))
            headers["X-Frame-Options"] = "DENY"
            # Beside a policy of the application's own: a browser holds both.
            headers.append("Content-Security-Policy", "frame-ancestors 'none'")
            headers["X-Content-Type-Options"] = "nosniff"
            headers["Cross-Origin-Resource-Policy"] = "same-origin"
            headers.setdefault("Referrer-Policy", "same-origin")
            message = {**message, "headers": headers.raw}
        await send(message)

    return with_headers
