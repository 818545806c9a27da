"""A webhook of our own: a real HTTP server on loopback that remembers what was posted."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Webhook(ThreadingHTTPServer):
    """Answers with the statuses in ``answers``, one a post, and with 200 when there are none left."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: list[int] = []
        self.headers: dict[str, str] = {}
        self.posts: list[dict[str, Any]] = []
        self.taken: list[dict[str, Any]] = []
        self.paths: list[str] = []

    @property
    def url(self) -> str:
        """Where to post."""
        return f"http://127.0.0.1:{self.server_address[1]}/services/T0/B0/s3cret"

    @property
    def titles(self) -> list[str]:
        """The text of each message taken, without its sign."""
        return [post["text"].split(" ", 1)[1] for post in self.taken]


class _Handler(BaseHTTPRequestHandler):
    server: Webhook

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        status = self.server.answers.pop(0) if self.server.answers else 200
        self.server.posts.append(body)
        self.server.paths.append(self.path)
        if status == 200:
            self.server.taken.append(body)
        self.send_response(status)
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    do_GET = do_POST  # noqa: N815

    def log_message(self, *arguments: Any) -> None:
        pass


@contextmanager
def running_webhook() -> Iterator[Webhook]:
    """A webhook that listens while the block runs."""
    webhook = Webhook()
    thread = threading.Thread(target=webhook.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield webhook
    finally:
        webhook.shutdown()
        webhook.server_close()
