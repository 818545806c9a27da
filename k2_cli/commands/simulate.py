"""``k2 simulate``: produce a simulated trading day to a feed's Kafka topic."""

from collections.abc import Collection
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from k2_cli.inputs.asked_day import AskedDay, day_option

if TYPE_CHECKING:
    from k2_market.simulation.simulated_faults import Fault

_ALL = "all"


def simulate(
    feed: Annotated[str, typer.Option(help="The feed's name; only feeds with mic XXXX are simulated.")],
    day: Annotated[AskedDay, day_option("--date", "The trading day, one that is over.")],
    trades: Annotated[int, typer.Option(min=1, help="Messages, before faults.")] = 100_000,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same day, byte for byte.")] = 1,
    symbols: Annotated[int, typer.Option(min=1, max=99_999, help="How many instruments trade.")] = 50,
    faults: Annotated[
        str,
        typer.Option(
            help="What goes wrong, with commas between: gaps, late, duplicates, corrupt, negative-price, null-value; "
            "or all."
        ),
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, for programs.")] = False,
) -> None:
    """Produce a simulated trading day, and say which faults were planted into it, for the checks to find.

    Example: k2 simulate --feed sim --date 2026-11-20 --trades 100000 --seed 7 --faults gaps,corrupt
    """
    from datetime import UTC

    from k2_cli.inputs.declared_feeds import usable_feed, warn_of_changed
    from k2_cli.output.produced_report import print_report
    from k2_platform.producing import produce_simulated_day
    from k2_resources.logs.structured_logging import configure_logging
    from k2_resources.metrics.event_counts import keep_counts
    from k2_resources.settings import Settings

    chosen = _faults(faults)
    settings = Settings.load()
    configure_logging("simulate", settings)
    keep_counts(settings)
    declared = usable_feed(settings, feed)
    now = datetime.now(UTC)
    print_report(
        produce_simulated_day(settings, declared, day.date(declared.zone), trades, seed, symbols, chosen, now), as_json
    )
    warn_of_changed(settings)


def _faults(text: str) -> "Collection[Fault]":
    from k2_market.simulation.simulated_faults import Fault

    names = [name.strip() for name in text.split(",") if name.strip()]
    if names == [_ALL]:
        return list(Fault)
    known = [fault.value for fault in Fault]
    for name in names:
        if name not in known:
            raise typer.BadParameter(f"{name!r} is none of {', '.join(known)}", param_hint="--faults")
    return [Fault(name) for name in names]
