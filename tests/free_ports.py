"""Ports for the servers that tests start."""

import random
import socket


def free_ports(count: int) -> list[int]:
    """Ports on loopback that nothing listens on, below those that the system hands out for outgoing connections."""
    found: list[int] = []
    for port in random.sample(range(20_000, 32_000), 1_000):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                found.append(port)
        if len(found) == count:
            return found
    raise RuntimeError(f"fewer than {count} free ports between 20000 and 32000")
