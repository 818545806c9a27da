"""``k2 migrate``: change a home that an older K2 made so that this one can work on it."""

from typing import Annotated

import typer


def migrate(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what there is to do, and change nothing.")] = False,
) -> None:
    """Change a home that an older K2 made so that this one can work on it, and say what is changed.

    The stack must be down. Tables, Kafka's logs and the registry's schemas are left as they are. Interrupted, it can be
    run again. A home of a newer K2 is refused.

    Example: k2 migrate --dry-run
    """
    from k2_cli.inputs.existing_home import settings_of_home
    from k2_cli.stack.local_stack import LocalStack
    from k2_cli.stack.process_supervision import ServiceState
    from k2_market.homes.home_format import FORMAT, HomeFormatError
    from k2_resources.homes.home_format import changes_needed, format_of
    from k2_resources.homes.home_format import migrate as carry_out

    home = settings_of_home()
    changes, found = changes_needed(home.home), format_of(home.home)
    if not changes and found is not None and found.format == FORMAT:
        typer.echo(f"{home.home} has format {FORMAT} already: there is nothing to migrate.")
        return
    running = [each.name for each in LocalStack.to_stop(home).status() if each.state is ServiceState.RUNNING]
    if running and changes and not dry_run:
        raise HomeFormatError(f"{', '.join(running)} of {home.home} run: `k2 down` first. Nothing was changed")
    for change in changes:
        typer.echo(f"{change.path}: {change.what}")
    typer.echo(f"home.json: format {FORMAT}, which was {'not there' if found is None else found.format}")
    if dry_run:
        typer.echo("Dry run: nothing was changed.")
        return
    carry_out(home.home, changes)
    typer.echo("Done. `k2 up` goes on from here.")
