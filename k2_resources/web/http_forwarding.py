"""Forwards HTTP requests to a server as an ASGI application."""

from collections.abc import AsyncIterator, Callable, Iterable, Iterator

import httpx2
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 60.0

_OF_ONE_CONNECTION = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""Headers that speak of a connection and not of what goes over it (RFC 9110, 7.6.1)."""
_OF_A_BROWSER = frozenset({"cookie", "origin"})
"""Headers that the guard in front has judged, and the server behind has nothing to do with."""
_UNAVAILABLE = 503

RawHeaders = Iterable[tuple[bytes, bytes]]


class Forwarding:
    """Passes requests on to ``target``, each on a connection of its own.

    Args:
        target: The server's URL, without a path.
        credentials: Name and password that the server knows its one client by; a request's own are not passed on.
    """

    def __init__(self, target: str, credentials: tuple[str, str] | None = None) -> None:
        self._target = httpx2.URL(target)
        self._auth = None if credentials is None else httpx2.BasicAuth(*credentials)
        self._client = httpx2.AsyncClient(
            timeout=httpx2.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS),
            # A connection that is kept may be closed by the server just when the next request is sent on it.
            limits=httpx2.Limits(max_keepalive_connections=0),
            trust_env=False,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; a websocket is refused."""
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close"})
            return
        request = Request(scope, receive)
        answer = await self._answer(request)
        await answer(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        query = request.scope["query_string"]
        raw_path = request.scope["raw_path"] + (b"?" + query if query else b"")
        # Not the client's to build: it would ask for encodings that whoever asks did not.
        outgoing = httpx2.Request(
            request.method,
            self._target.copy_with(raw_path=raw_path),
            headers=list(_passed(request.headers.raw, self._is_for_the_server)),
            content=request.stream() if _has_body(request) else None,
        )
        try:
            answer = await self._client.send(outgoing, auth=self._auth, stream=True)
        except httpx2.TransportError as error:
            reason = f"the server behind gives no answer: {type(error).__name__}"
            return JSONResponse({"error_code": _UNAVAILABLE, "message": f"K2: {reason}."}, _UNAVAILABLE)
        passed = StreamingResponse(_body(answer), answer.status_code)
        passed.raw_headers = [*_passed(answer.headers.raw, lambda name: name != "www-authenticate")]
        return passed

    def _is_for_the_server(self, name: str) -> bool:
        of_browser = name in _OF_A_BROWSER or name.startswith("sec-")
        return not of_browser and not (name == "authorization" and self._auth is not None)


async def _body(answer: httpx2.Response) -> AsyncIterator[bytes]:
    try:
        async for piece in answer.aiter_raw():
            yield piece
    finally:
        await answer.aclose()  # whoever asked may have hung up


def _passed(headers: RawHeaders, wanted: Callable[[str], bool]) -> Iterator[tuple[bytes, bytes]]:
    """Yield the headers to pass on, their names in lower case."""
    named = [(name.decode("latin-1").lower(), value) for name, value in headers]
    of_connection = {
        each.strip().lower()
        for name, value in named
        if name == "connection"
        for each in value.decode("latin-1").split(",")
    }
    for name, value in named:
        if name not in _OF_ONE_CONNECTION and name not in of_connection and wanted(name):
            yield name.encode("latin-1"), value


def _has_body(request: Request) -> bool:
    return "content-length" in request.headers or "transfer-encoding" in request.headers
