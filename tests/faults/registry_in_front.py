"""A registry in front of the real one, which answers for it while it is told to: down, slow, or another's answer."""

import json
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.error import HTTPError

Answer = tuple[int, bytes]
"""Status and body."""

_open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open


@dataclass
class RegistryInFront:
    """Passes requests on to the real registry, or answers them itself.

    Attributes:
        behind: The real registry's URL.
        instead: Given a request's path, the answer in place of the real one's; None passes it on.
        silent: Takes requests and does not answer until it ends.
        asked: Paths of requests, in their order.
    """

    behind: str
    instead: Callable[[str], Answer | None] = lambda path: None
    silent: bool = False
    asked: list[str] = field(default_factory=list)
    url: str = ""
    ends: threading.Event = field(default_factory=threading.Event)

    def answers(self, status: int, content: object) -> None:
        """Answer every request so."""
        self.instead = lambda path: (status, json.dumps(content).encode())

    def passes(self) -> None:
        """Pass everything on again."""
        self.instead = lambda path: None
        self.silent = False

    def answer(self, method: str, path: str, body: bytes | None) -> Answer:
        """What a request gets."""
        self.asked.append(path)
        if self.silent:
            self.ends.wait()
        own = self.instead(path)
        if own is not None:
            return own
        # The real registry's URL has a path; so has the one given to clients.
        request = urllib.request.Request(self.behind + path, body, {"Content-Type": "application/json"}, method=method)
        try:
            with _open(request, timeout=30) as response:
                return response.status, response.read()
        except HTTPError as error:
            return error.code, error.read()


@contextmanager
def registry_in_front(behind: str) -> Iterator[RegistryInFront]:
    """One that runs for as long as the block does."""
    front = RegistryInFront(behind)

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            status, content = front.answer(self.command, self.path, self.rfile.read(length) if length else None)
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = _answer  # noqa: N815

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    front.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield front
    finally:
        front.ends.set()
        server.shutdown()
        server.server_close()
