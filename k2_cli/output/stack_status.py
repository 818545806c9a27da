"""Formats the state of services and feeds for ``k2 status``: tables, or JSON."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from k2_cli.stack.process_supervision import ServiceState, ServiceStatus
from k2_market.feeds.feed import RefusedFile

if TYPE_CHECKING:
    from rich.table import Table

    from k2_market.alerting.alarm_facts import DiskUse
    from k2_platform.feed_status import FeedStatus

_COLOURS = {
    ServiceState.RUNNING: "green",
    ServiceState.STOPPED: "dim",
    ServiceState.STALE: "yellow",
    ServiceState.FOREIGN: "red",
}


@dataclass(frozen=True)
class PlatformStatus:
    """Describes how the platform stands.

    Attributes:
        services: The parts of the local stack.
        feeds: A status a feed; empty where there is no home yet.
        alerts: Titles of open alerts that concern no single feed.
        disks: The disks that data lies on.
        refused: Feed files that were refused.
        changed: How feed files differ from those that the running stack was started with.
    """

    services: Sequence[ServiceStatus]
    feeds: "Sequence[FeedStatus]" = ()
    alerts: Sequence[str] = ()
    disks: "Sequence[DiskUse]" = ()
    refused: Sequence[RefusedFile] = ()
    changed: Sequence[str] = ()

    @property
    def missing(self) -> list[str]:
        """Name the services that should run and do not: they were started, and nobody stopped them."""
        return [service.name for service in self.services if service.state is ServiceState.STALE]


def as_json_text(status: PlatformStatus) -> str:
    """Write the state as JSON; times are ISO 8601, UTC.

    ``{"services": [{"name", "state", "pid", "port", "url", "since"}], "feeds": [{"feed", "behind", "newest", "days",
    "failed_days", "days_to_build", "outdated_days", "alerts", "error"}], "alerts": [], "disks": [{"path", "used",
    "free"}], "refused_feed_files": [{"path", "name", "reason"}], "changed_feed_files": []}``
    """
    services = [
        {
            "name": service.name,
            "state": service.state,
            "pid": service.pid,
            "port": service.port,
            "url": service.url,
            "since": _iso(service.since),
        }
        for service in status.services
    ]
    content: dict[str, Any] = {
        "services": services,
        "feeds": [{**asdict(feed), "newest": _iso(feed.newest)} for feed in status.feeds],
        "alerts": list(status.alerts),
        "disks": [asdict(disk) for disk in status.disks],
        "refused_feed_files": [asdict(file) for file in status.refused],
        "changed_feed_files": list(status.changed),
    }
    return json.dumps(content, indent=2)


def print_status(status: PlatformStatus) -> None:
    """Print a line a service and a line a feed, open alerts and disks."""
    from rich.console import Console

    print_table(status.services)
    console = Console(highlight=False, soft_wrap=True)
    if status.feeds:
        console.print()
        console.print(_feed_table(status.feeds))
    for feed in status.feeds:
        for alert in feed.alerts:
            console.print(f"alert: {alert}", style="yellow", markup=False)
    for error in dict.fromkeys(feed.error for feed in status.feeds if feed.error):
        names = ", ".join(feed.feed for feed in status.feeds if feed.error == error)
        console.print(f"{names}: {error}", style="red", markup=False)
    for alert in status.alerts:
        console.print(f"alert: {alert}", style="yellow", markup=False)
    for change in status.changed:
        console.print(
            f"feed file {change} since the stack was started; `k2 up` restarts what has to know", style="yellow"
        )
    for disk in status.disks:
        console.print(f"disk of {disk.path}: {disk.used:.0%} in use, {disk.free / 2**30:,.1f} GiB free", markup=False)


def print_table(statuses: Sequence[ServiceStatus]) -> None:
    """Print one line a service on stdout, with what is wrong with those that are stale or foreign."""
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


def _feed_table(feeds: "Sequence[FeedStatus]") -> "Table":
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("feed", no_wrap=True)
    for heading in ("behind", "newest trade (UTC)", "days", "findings", "to build", "outdated", "alerts"):
        table.add_column(heading, justify="right", no_wrap=True)
    for each in feeds:
        table.add_row(
            each.feed,
            "?" if each.behind is None else f"{each.behind:,}",
            "" if each.newest is None else f"{each.newest:%Y-%m-%d %H:%M:%S}",
            *(_count(count) for count in (each.days, each.failed_days, each.days_to_build, each.outdated_days)),
            _count(len(each.alerts)),
        )
    return table


def _count(number: int) -> str:
    return f"{number:,}" if number else "-"


def _iso(instant: datetime | None) -> str | None:
    return None if instant is None else instant.isoformat(timespec="seconds")
