import os
import socket
from collections.abc import Iterator

import psutil
import pytest
from free_ports import free_ports

from k2_cli.stack.port_owners import PortOwner, is_taken, owner_of


@pytest.fixture
def listening() -> Iterator[int]:
    """A port that this very process listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_free_port_has_no_owner() -> None:
    (port,) = free_ports(1)
    assert not is_taken(port)
    assert owner_of(port) is None


def test_the_owner_is_named_with_its_command_on_one_line(listening: int) -> None:
    owner = owner_of(listening)
    assert owner is not None
    assert owner.pid == os.getpid()
    assert owner.command
    assert "\n" not in str(owner)


def test_where_the_system_hides_connections_our_own_processes_are_still_found(
    listening: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hidden(kind: str) -> list[object]:
        raise psutil.AccessDenied

    monkeypatch.setattr(psutil, "net_connections", hidden)
    owner = owner_of(listening)
    assert owner is not None
    assert owner.pid == os.getpid()


def test_an_owner_that_may_not_be_seen_is_said_to_be_one() -> None:
    assert str(PortOwner(None, None)) == "a process that this user may not see"
