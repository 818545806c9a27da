"""Finds the process that listens on a port of this machine."""

import socket
from dataclasses import dataclass
from typing import Any

import psutil

_SHOWN_CHARACTERS = 160


@dataclass(frozen=True)
class PortOwner:
    """A process that listens on a port; ``pid`` and ``command`` are ``None`` when this user may not see them."""

    pid: int | None
    command: str | None

    def __str__(self) -> str:
        """For messages."""
        if self.pid is None:
            return "a process that this user may not see"
        return f"pid {self.pid} ({self.command or 'command not visible'})"


def is_taken(port: int) -> bool:
    """Say whether anything answers on the port on loopback."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def owner_of(port: int) -> PortOwner | None:
    """Return the process that listens on the port, or ``None`` if none does."""
    if not is_taken(port):
        return None
    pid = _listening_pid(port)
    return PortOwner(pid, _command(pid))


def _listening_pid(port: int) -> int | None:
    try:
        connections = psutil.net_connections(kind="tcp")
    except psutil.AccessDenied:
        return _own_listening_pid(port)
    return next((each.pid for each in connections if _listens_on(each, port) and each.pid is not None), None)


def _own_listening_pid(port: int) -> int | None:
    for process in psutil.process_iter():
        try:
            connections = process.net_connections(kind="tcp")
        except psutil.Error:
            continue  # gone, or not ours to look into
        if any(_listens_on(each, port) for each in connections):
            return process.pid
    return None


def _listens_on(connection: Any, port: int) -> bool:
    return bool(connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr.port == port)


def _command(pid: int | None) -> str | None:
    if pid is None:
        return None
    try:
        words = " ".join(psutil.Process(pid).cmdline()).split()
        return " ".join(words)[:_SHOWN_CHARACTERS] or None
    except psutil.Error:
        return None
