"""``k2 status``: show which parts of the local stack run, and how each feed stands."""

from typing import Annotated

import typer


def status(as_json: Annotated[bool, typer.Option("--json", help="As JSON, for programs.")] = False) -> None:
    """Show which parts of the local stack run, and how each feed stands.

    A part is running, stopped, stale (it ended without being stopped) or foreign (another process has its port). Of a
    feed: messages that are not ingested yet, its newest trade, its days and those with findings, open alerts. Feed
    files that were refused, or that the running stack does not know yet, are named.

    Exit code 1 when a part that was started has ended without being stopped.
    """
    from k2_cli.inputs.declared_feeds import usable_feeds
    from k2_cli.output.stack_status import PlatformStatus, as_json_text, print_status
    from k2_cli.stack.local_stack import LocalStack
    from k2_cli.stack.process_supervision import ServiceState
    from k2_cli.stack.started_feeds import changes_since_start
    from k2_platform.feed_status import feed_statuses
    from k2_resources.exporter.disk_use import data_paths, disks_of
    from k2_resources.settings import Settings

    settings = Settings.load()
    services = LocalStack.to_show(settings).status()
    declared = usable_feeds(settings)
    has_home = settings.catalog_uri is not None or settings.home.is_dir()
    kafka_answers = settings.kafka_bootstrap is not None or any(
        service.name == "kafka" and service.state is ServiceState.RUNNING for service in services
    )
    feeds, alerts = feed_statuses(settings, declared.values(), kafka_answers=kafka_answers) if has_home else ([], ())
    found = PlatformStatus(
        services=services,
        feeds=feeds,
        alerts=alerts,
        disks=disks_of(data_paths(settings)),
        refused=declared.refused,
        changed=changes_since_start(settings.home, settings.feed_directories),
    )
    if as_json:
        typer.echo(as_json_text(found))
    else:
        print_status(found)
        if not has_home:
            typer.echo(f"There is no K2 home at {settings.home} yet (K2_HOME); `k2 up` makes one.", err=True)
    if found.missing:
        typer.echo(f"{', '.join(found.missing)} ended without being stopped; `k2 up` starts it again.", err=True)
        raise typer.Exit(1)
