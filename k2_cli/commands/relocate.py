"""``k2 relocate``: make the tables that this home's catalog names this home's own, after it was moved or copied."""

from typing import Annotated

import typer


def relocate(
    take_over: Annotated[
        bool,
        typer.Option(
            "--take-over",
            help="The catalog that the tables belong to will never be used again: take them over where they lie.",
        ),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what there is to do, and change nothing.")] = False,
) -> None:
    """Make the tables of a home that was moved or copied the home's own, so that it can live where it is.

    A catalog names files by absolute paths. Where they are those of another place, the tables' metadata is written anew
    for this home's warehouse (K2_WAREHOUSE), in which all their files must be. Rows, snapshots and tags stay as they
    are, data files are not touched, and nothing is changed at the other place. Interrupted, it can be run again.

    Example: k2 relocate --dry-run
    """
    from k2_cli.inputs.existing_home import settings_of_home
    from k2_market.homes.relocation_plan import Action
    from k2_resources.homes.home_relocation import HomeRelocation
    from k2_resources.iceberg.catalog import open_catalog
    from k2_resources.logs.structured_logging import configure_logging

    settings = settings_of_home()
    configure_logging("relocate", settings)
    relocation = HomeRelocation(open_catalog(settings.iceberg_catalog_uri, settings.iceberg_warehouse))
    plan = relocation.plan(take_over=take_over) if dry_run else relocation.carry_out(take_over=take_over)
    said = {Action.MOVE: "metadata written anew", Action.MARK: "taken over where it lies"}
    for each in plan.decisions:
        if each.action is not Action.LEAVE:
            typer.echo(f"{each.name}: {said[each.action]}")
    if not plan.changed:
        typer.echo(f"Nothing to relocate: the {len(plan.decisions)} tables are this home's own.")
    elif dry_run:
        typer.echo("Dry run: nothing was changed.")
    else:
        typer.echo("Done. `k2 verify ledger --feed F --offline` proves it; `k2 up` goes on from here.")
