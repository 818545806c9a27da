"""``k2 restore``: make a home of a backup."""

from pathlib import Path
from typing import Annotated

import typer


def restore(
    backup: Annotated[Path, typer.Argument(help="The directory that `k2 backup` made.")],
) -> None:
    """Make a home of a backup, in the empty directory that K2_HOME names.

    Every file is held to the size and SHA-256 that were written down. Tables are written for their new place, with all
    snapshots and tags; runs that were under way are ended. The backup and the home that it is of are left as they are.

    Example: K2_HOME=/srv/k2-again K2_KAFKA_PORT=29092 k2 restore /mnt/backups/k2-2026-11-30
    """
    from k2_cli.homes.home_restore import HomeRestore
    from k2_resources.settings import Settings

    settings = Settings.load()
    restored = HomeRestore(settings, lambda what: typer.echo(f"restoring {what}", err=True)).carry_out(
        backup.absolute()
    )
    manifest = restored.manifest
    typer.echo(f"{settings.home}: {', '.join(manifest.parts)}, as they were at {manifest.taken.isoformat()}")
    if restored.ended_runs:
        typer.echo(
            f"{restored.ended_runs} runs that were under way then are ended; what they carried is pending again."
        )
    for each in manifest.left_out:
        typer.echo(f"Not in the backup, and needed: {each}.")
    typer.echo(
        "Next: `k2 up`, on ports of its own if the other home runs on this machine (K2_KAFKA_PORT and the others in "
        "docs/operating.md). What came since the backup is pending and is taken once. "
        "`k2 verify ledger --feed F` proves it."
    )
