"""Who listens on a port of this machine."""

import socket
from dataclasses import dataclass

import psutil


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
    """Whether anything answers on the port on loopback."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def owner_of(port: int) -> PortOwner | None:
    """The process that listens on the port, or ``None`` if none does."""
    if not is_taken(port):
        return None
    pid = _listening_pid(port)
    return PortOwner(pid, _command(pid))


def _listening_pid(port: int) -> int | None:
    try:
        connections = psutil.net_connections(kind="tcp")
    except psutil.AccessDenied:
        return _own_listening_pid(port)
    for connection in connections:
        if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port and connection.pid is not None:
            return int(connection.pid)
    return None


def _own_listening_pid(port: int) -> int | None:
    for process in psutil.process_iter():
        try:
            connections = process.net_connections(kind="tcp")
        except psutil.Error:
            continue  # gone, or not ours to look into
        if any(each.status == psutil.CONN_LISTEN and each.laddr.port == port for each in connections):
            return int(process.pid)
    return None


def _command(pid: int | None) -> str | None:
    if pid is None:
        return None
    try:
        return " ".join(psutil.Process(pid).cmdline())[:200] or None
    except psutil.Error:
        return None
