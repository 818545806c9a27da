"""How the state of the local stack is shown: a table for people, JSON for programs."""

import json
from collections.abc import Sequence
from dataclasses import asdict

from k2_cli.process_supervision import ServiceState, ServiceStatus
from k2_market.feed import RefusedFile

_COLOURS = {
    ServiceState.RUNNING: "green",
    ServiceState.STOPPED: "dim",
    ServiceState.STALE: "yellow",
    ServiceState.FOREIGN: "red",
}


def as_json_text(statuses: Sequence[ServiceStatus], refused: Sequence[RefusedFile] = ()) -> str:
    """Write the state as JSON; ``since`` is ISO 8601, UTC.

    ``{"services": [{"name", "state", "pid", "port", "url", "since"}],
    "refused_feed_files": [{"path", "name", "reason"}]}``
    """
    services = [
        {
            "name": status.name,
            "state": status.state,
            "pid": status.pid,
            "port": status.port,
            "url": status.url,
            "since": None if status.since is None else status.since.isoformat(timespec="seconds"),
        }
        for status in statuses
    ]
    return json.dumps({"services": services, "refused_feed_files": [asdict(file) for file in refused]}, indent=2)


def print_table(statuses: Sequence[ServiceStatus]) -> None:
    """One line a service on stdout, with what is wrong with those that are stale or foreign."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for heading in ("service", "state", "pid", "where", "since (UTC)"):
        table.add_column(heading, overflow="fold")
    for status in statuses:
        table.add_row(
            status.name,
            f"[{_COLOURS[status.state]}]{status.state}[/]",
            str(status.pid or ""),
            escape(status.url or status.detail or (f"127.0.0.1:{status.port}" if status.port else "")),
            "" if status.since is None else f"{status.since:%m-%d %H:%M}",
        )
    Console(highlight=False).print(table)
