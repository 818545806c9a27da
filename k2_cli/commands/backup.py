"""``k2 backup``: copy this home to a directory, while it runs."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from k2_market.homes.backup_manifest import BackupManifest


def backup(
    directory: Annotated[Path, typer.Argument(help="Where the backup goes; not there yet, or empty.")],
    as_json: Annotated[bool, typer.Option("--json", help="What it holds, as JSON, for programs.")] = False,
) -> None:
    """Copy this home (K2_HOME) to a directory, consistently, while everything goes on running.

    It holds Dagster's records, the tables with all snapshots they keep, Kafka's logs, the registry's schemas, and the
    size and SHA-256 of each file. `k2 restore` makes a home of it, at any place and on any ports. Downloads and logs
    are left out; so are a Kafka, a registry and feed files that lie elsewhere, and it says so.

    Example: k2 backup /mnt/backups/k2-2026-11-30
    """
    from k2_cli.homes.home_backup import HomeBackup
    from k2_cli.inputs.existing_home import settings_of_home
    from k2_resources.logs.structured_logging import configure_logging

    settings = settings_of_home()
    configure_logging("backup", settings)
    taken = HomeBackup(settings, lambda what: typer.echo(f"copying {what}", err=True)).take(directory.absolute())
    _print(directory, taken, as_json)


def _print(directory: Path, taken: "BackupManifest", as_json: bool) -> None:
    import json

    said = {
        "directory": str(directory),
        "taken": taken.taken.isoformat(),
        "files": len(taken.files),
        "bytes": taken.size,
        "parts": list(taken.parts),
        "tables": len(taken.tables),
        "left_out": list(taken.left_out),
    }
    if as_json:
        typer.echo(json.dumps(said))
        return
    typer.echo(f"{directory}: {len(taken.files):,} files, {taken.size:,} bytes: {', '.join(taken.parts)}")
    for each in taken.left_out:
        typer.echo(f"not in it: {each}")
    typer.echo("`K2_HOME=<an empty directory> k2 restore` makes a home of it.")
