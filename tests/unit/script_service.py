"""Small servers for tests of the local stack, which need not be Kafka to be started, watched and stopped."""

import sys
import textwrap
from dataclasses import dataclass
from datetime import datetime

from k2_cli.stack.port_owners import is_taken
from k2_cli.stack.process_supervision import Command, Port

SERVER = """
    import http.server
    http.server.HTTPServer(("127.0.0.1", {port}), http.server.BaseHTTPRequestHandler).serve_forever()
"""
SERVER_WITH_A_CHILD = (
    """
    import subprocess, sys
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    print("child", child.pid, flush=True)
"""
    + SERVER
)
SERVER_THAT_REFUSES_TO_END = (
    """
    import signal
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
"""
    + SERVER
)
DIES = "raise SystemExit('no such setting: colour')"
NEVER_ANSWERS = "import time; time.sleep(600)"


@dataclass(frozen=True)
class ScriptService:
    """A Python script as a service; it is healthy when its port answers."""

    port: int
    script: str = SERVER
    name: str = "script"
    url: str | None = None
    start_timeout_seconds: float = 20.0
    stop_timeout_seconds: float = 5.0

    @property
    def ports(self) -> tuple[Port, ...]:
        return (Port(self.port, "K2_SCRIPT_PORT"),)

    def prepare(self) -> Command:
        script = textwrap.dedent(self.script).replace("{port}", str(self.port))
        return Command([sys.executable, "-c", script], {"COLOUR": "blue"})

    def is_healthy(self, _since: datetime, /) -> bool:
        return is_taken(self.port)
