"""A TCP proxy between a client and a server that can be made slow, silent, chopped up or broken while it runs.

It takes toxiproxy's place: ``slow`` is its bandwidth, ``sliced`` its slicer, ``silent`` its timeout of 0 (a half-open
connection: both ends stay connected and hear nothing), ``reset`` its reset_peer and ``answer_lost`` what it lacks: a
request that arrives and is carried out, and whose answer never comes back.
"""

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

_CHUNK = 65_536
_TICK_SECONDS = 0.05


@dataclass(frozen=True)
class Passage:
    """How bytes pass, from the moment that it is set; the default is as if the proxy were not there.

    Attributes:
        silent: Nothing passes in either direction; connections stay, and new ones are accepted.
        bytes_per_second: At most so many of the server's bytes pass, over all connections.
        slice_bytes: The server's bytes come in pieces of so many, each sent by itself.
        reset_after: A connection is reset once so many of the server's bytes have passed on it; 0 refuses it.
        answer_lost: The next bytes that the server sends are thrown away, and their connection is reset.
    """

    silent: bool = False
    bytes_per_second: float | None = None
    slice_bytes: int | None = None
    reset_after: int | None = None
    answer_lost: bool = False


OPEN = Passage()
SILENT = Passage(silent=True)


@dataclass
class TcpProxy:
    """Passes connections to ``port`` on to ``target_port``, both on loopback.

    Attributes:
        port: Where clients connect.
        target_port: Where the server listens; it may come later, or go.
        answered: Bytes of the server that have passed.
        resets: Connections that were reset on purpose.
    """

    port: int
    target_port: int
    answered: int = 0
    resets: int = 0
    _passage: Passage = OPEN
    _connections: list["_Connection"] = field(default_factory=list)
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _closing: bool = False
    _due: list[tuple[int, Callable[[], None]]] = field(default_factory=list)

    @contextmanager
    def running(self) -> Iterator["TcpProxy"]:
        """The proxy for as long as the block runs."""
        listener = socket.create_server(("127.0.0.1", self.port), backlog=64)
        listener.settimeout(_TICK_SECONDS)
        acceptor = threading.Thread(target=self._accept, args=(listener,), name=f"proxy-{self.port}", daemon=True)
        acceptor.start()
        try:
            yield self
        finally:
            self._closing = True
            self.set(OPEN)
            acceptor.join()
            listener.close()
            self.reset_all()

    def set(self, passage: Passage) -> None:
        """Let bytes pass in another way from now on, on connections that are there too."""
        with self._changed:
            self._passage = passage
            self._changed.notify_all()

    def reset_all(self) -> None:
        """Reset every connection that is there."""
        for connection in list(self._connections):
            connection.reset()

    def when_answered(self, more_bytes: int, act: Callable[[], None]) -> None:
        """Do something once so many more of the server's bytes have passed; their connection waits meanwhile."""
        self._due.append((self.answered + more_bytes, act))

    def _accept(self, listener: socket.socket) -> None:
        while not self._closing:
            try:
                client, _ = listener.accept()
            except TimeoutError:
                continue
            try:
                server = socket.create_connection(("127.0.0.1", self.target_port), timeout=5)
            except OSError:
                _reset(client)
                continue
            connection = _Connection(self, client, server)
            self._connections = [each for each in self._connections if each.is_open] + [connection]
            connection.start()

    def _wait_until_not_silent(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: not self._passage.silent or self._closing)

    def _passed(self, count: int) -> None:
        self.answered += count
        for due in [each for each in self._due if each[0] <= self.answered]:
            self._due.remove(due)
            due[1]()


class _Connection:
    """A client's connection and the one to the server that it is passed on to."""

    def __init__(self, proxy: TcpProxy, client: socket.socket, server: socket.socket) -> None:
        self._proxy = proxy
        self._client = client
        self._server = server
        self._answered = 0
        self.is_open = True
        for each in (client, server):
            each.settimeout(None)
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def start(self) -> None:
        for pump in (self._ask, self._answer):
            threading.Thread(target=self._pump, args=(pump,), name=f"proxy-{self._proxy.port}", daemon=True).start()

    def reset(self) -> None:
        """Break it off at both ends, as a peer that crashed would."""
        if self.is_open:
            self.is_open = False
            _reset(self._client)
            _reset(self._server)

    def _pump(self, pump: Callable[[], None]) -> None:
        with contextlib.suppress(OSError):
            pump()
        self.reset()

    def _ask(self) -> None:
        while asked := self._client.recv(_CHUNK):
            self._proxy._wait_until_not_silent()
            self._server.sendall(asked)

    def _answer(self) -> None:
        while answer := self._server.recv(_CHUNK):
            for piece in self._pieces(answer):
                self._proxy._wait_until_not_silent()
                if not self._let_pass(piece):
                    return

    def _pieces(self, answer: bytes) -> Iterator[bytes]:
        passage = self._proxy._passage
        size = passage.slice_bytes or len(answer)
        if passage.bytes_per_second is not None:
            size = min(size, max(1, int(passage.bytes_per_second * _TICK_SECONDS)))
        for start in range(0, len(answer), size):
            yield answer[start : start + size]

    def _let_pass(self, piece: bytes) -> bool:
        """Send a piece of an answer on; whether the connection still stands."""
        passage = self._proxy._passage
        if passage.answer_lost:
            self._proxy.set(OPEN)
            self._proxy.resets += 1
            return False
        if passage.reset_after is not None and self._answered + len(piece) > passage.reset_after:
            self._client.sendall(piece[: max(0, passage.reset_after - self._answered)])
            self._proxy.resets += 1
            return False
        if passage.bytes_per_second is not None:
            time.sleep(len(piece) / passage.bytes_per_second)
        self._client.sendall(piece)
        self._answered += len(piece)
        self._proxy._passed(len(piece))
        return True


def _reset(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        # Closing with nothing to linger for sends RST in place of FIN.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.shutdown(socket.SHUT_RD)
    with contextlib.suppress(OSError):
        connection.close()
