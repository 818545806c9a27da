"""``k2 loads``: list the loads of a feed."""

from typing import Annotated

import typer


def loads(
    feed: Annotated[str, typer.Option(help="The feed's name.")],
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, for programs.")] = False,
) -> None:
    """List what was loaded into a feed, the latest last: files by name and content, rows, times, offsets.

    A load that is begun and not complete is under way, or its process ended; loading its files again is safe. What
    k2 unload, k2 correct and k2 cancel sent is listed too.

    Example: k2 loads --feed asx
    """
    import json

    from k2_cli.inputs.declared_feeds import usable_feed
    from k2_cli.inputs.existing_home import settings_of_home
    from k2_cli.output.load_table import as_plain, load_table
    from k2_resources.kafka.load_records import LoadRecords
    from k2_resources.logs.structured_logging import configure_logging

    settings = settings_of_home()
    configure_logging("loads", settings)
    found = LoadRecords(settings.bootstrap_servers, usable_feed(settings, feed)).read()
    if as_json:
        typer.echo(json.dumps([as_plain(load) for load in found]))
    elif not found:
        typer.echo(f"{feed}: nothing was loaded.")
    else:
        load_table(found)
