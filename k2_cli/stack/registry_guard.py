"""Serves the registry's API in its place, closed to other sites' pages: ``python -m k2_cli.stack.registry_guard``.

The registry (Apicurio) checks no host that it is asked by, so it is put where no browser gets an answer from it: behind
a password that this process alone knows (#048). Either the guard starts the registry as its child, with a password
that is made for it, on a port that is free; or it passes on to one that runs elsewhere (``--to``), with which it shares
the password in ``K2_REGISTRY_PASSWORD``.
"""

import argparse
import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil
import uvicorn

from k2_cli.stack.process_records import ProcessRecord, read_record
from k2_cli.stack.registry_process import USER
from k2_market.browser_requests import REGISTRY, OwnHosts
from k2_market.errors import K2Error
from k2_resources.logs.structured_logging import configure_logging, get_logger
from k2_resources.settings import Settings
from k2_resources.web.browser_guard import BrowserGuard
from k2_resources.web.http_forwarding import Forwarding

_SECONDS_TO_END = 15.0
_POLL_SECONDS = 0.05
_log = get_logger("guard")


class RegistryEnded(K2Error):
    """The registry ended, and its guard with it; or an earlier one does not end."""


def main() -> None:
    """Serve until SIGTERM or SIGINT, or until the registry ends."""
    parser = argparse.ArgumentParser(prog="python -m k2_cli.stack.registry_guard", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--to", metavar="URL", help="the registry, if it runs already")
    parser.add_argument("--record", type=Path, help="a file that says which registry was started")
    parser.add_argument("command", nargs="*", help="starts the registry")
    options = parser.parse_args()
    if (options.to is None) == (not options.command) or (options.command and options.record is None):
        parser.error("either --to URL, or --record FILE -- PROGRAM ARGUMENT...")
    settings = Settings.load()
    configure_logging("registry", settings)
    if options.to is not None:
        password = settings.registry_password
        shared = None if password is None else (USER, password.get_secret_value())
        _server(options.host, options.port, Forwarding(options.to, shared), settings.own_hosts).run()
        return
    with _registry(options.command, options.record) as (process, forwarding):
        server = _server(options.host, options.port, forwarding, settings.own_hosts)
        threading.Thread(target=_end_with, args=(process, server), name="registry-watch", daemon=True).start()
        server.run()
        if process.poll() is not None:
            raise RegistryEnded(f"the registry (pid {process.pid}) ended with exit code {process.returncode}")


def _server(host: str, port: int, forwarding: Forwarding, own: OwnHosts) -> uvicorn.Server:
    config = uvicorn.Config(
        BrowserGuard(forwarding, REGISTRY, own),
        host=host,
        port=port,
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        lifespan="off",
        timeout_graceful_shutdown=5,
    )
    return uvicorn.Server(config)


@contextmanager
def _registry(command: Sequence[str], record: Path) -> Iterator[tuple["subprocess.Popen[bytes]", Forwarding]]:
    """Run a registry, and the server that forwards to it, for as long as the block does."""
    _end_what_a_killed_guard_left(record)
    port, password = _free_port(), secrets.token_urlsafe(24)
    environment = {
        "QUARKUS_HTTP_PORT": str(port),
        # In the environment, which no other user sees; a command line is everyone's to read.
        f"QUARKUS_SECURITY_USERS_EMBEDDED_USERS_{USER.upper()}": password,
    }
    # The system ends the registry with its guard, were that killed, where the system is Linux.
    launcher = [sys.executable, "-I", "-S", str(Path(__file__).with_name("fresh_process.py"))]
    launcher += ["--until-parent-ends", str(os.getpid())]
    process = subprocess.Popen([*launcher, *command], env=os.environ | environment, stdin=subprocess.DEVNULL)
    try:
        ProcessRecord.of(process.pid, command).save(record)
        yield process, Forwarding(f"http://127.0.0.1:{port}", (USER, password))
    finally:
        process.terminate()
        try:
            process.wait(_SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        record.unlink(missing_ok=True)


def _end_what_a_killed_guard_left(record: Path) -> None:
    """End a registry that outlived its guard: it would keep its schemas' file locked, and nobody knows its password."""
    left = read_record(record)
    if left is None or not left.is_running():
        return
    _log.warning("a registry without its guard is ended", pid=left.pid)
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(left.pid).kill()
    deadline = time.monotonic() + _SECONDS_TO_END
    while left.is_running():  # as a zombie it is as good as gone, and may stay one for long
        if time.monotonic() > deadline:
            raise RegistryEnded(f"an earlier registry (pid {left.pid}) does not end though it was killed")
        time.sleep(_POLL_SECONDS)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _end_with(process: "subprocess.Popen[bytes]", server: uvicorn.Server) -> None:
    process.wait()
    server.should_exit = True


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGINT))  # until the server takes both
    try:
        main()
    except K2Error as error:
        _log.error(str(error))
        sys.exit(f"k2: {error}")
