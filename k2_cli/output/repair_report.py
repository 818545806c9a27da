"""Formats the findings and the outcome of a repair: tables, or JSON."""

import json
from collections.abc import Sequence
from datetime import date
from typing import Any

from rich.console import Console

from k2_cli.output.table_display import TableColumn, show_columns, visible
from k2_market.errors import K2Error
from k2_market.ledger.offset_ranges import RangeSet
from k2_market.plans.unhalting import Unhalting
from k2_market.repair.day_difference import DayDifference, RowDifference
from k2_market.repair.dead_letter_repair import DeadLetterPlan
from k2_resources.raw.repair import ReadAgain
from k2_resources.raw.roll_forward import RollForwardPlan

_RANGES_SHOWN = 3
_DRY = "Dry run: nothing was written."


def print_day(table: str, found: DayDifference, dry_run: bool, as_json: bool) -> None:
    """Print how a day differed from Kafka."""
    if as_json:
        print(json.dumps(_day_as_json(table, found, dry_run)))
        return
    console = Console(highlight=False)
    after = found.before if not found.changes else _rows_of_day(found)
    console.print(
        f"{table}, {found.rewrite.day}: {found.before:,} rows, {after:,} {'after the repair' if dry_run else 'now'}"
    )
    if found.changes:
        _show(found.changes, console)
    if found.untouched:
        console.print("Left as it is:")
        _show(found.untouched, console)
    if not found.changes:
        console.print("Nothing to repair.")
    elif dry_run:
        console.print(_DRY)


def print_dead_letters(
    table: str, days: Sequence[tuple[date, DeadLetterPlan]], unread: ReadAgain | None, dry_run: bool, as_json: bool
) -> None:
    """Print what became of dead letters, and of offsets that had been set aside unread, if these were read again."""
    if as_json:
        content: dict[str, Any] = {"table": table, "dry_run": dry_run}
        content["days"] = [_revival_as_json(*each) for each in days]
        if unread is not None:
            content["unread"] = _unread_as_json(unread)
        print(json.dumps(content))
        return
    console = Console(highlight=False)
    if days:
        console.print(f"{table}, dead letters:")
        show_columns(
            [
                TableColumn("filed under", [str(day) for day, _ in days], False),
                TableColumn("dead letters", [f"{each.dead_letters:,}" for _, each in days], True),
                TableColumn("decode now", [f"{sum(each.decoded.values()):,}" for _, each in days], True),
                TableColumn("of the day", [_counted(each.decoded) for _, each in days], False),
                TableColumn("why others don't", [visible(_counted(each.reasons)) for _, each in days], False),
            ],
            console,
        )
    if unread is not None:
        _show_unread(unread, console)
    if not any(each.changes for _, each in days) and not (unread is not None and unread.read):
        console.print("Nothing to repair.")
    elif dry_run:
        console.print(_DRY)


def print_roll_forward(table: str, forward: RollForwardPlan | None, dry_run: bool, as_json: bool) -> None:
    """Print what rolling forward brings back."""
    if as_json:
        content = None if forward is None else _forward_as_json(forward)
        print(json.dumps({"table": table, "dry_run": dry_run, "rolled_forward": content}))
    elif forward is None:
        print(f"{table} was not rolled back. Nothing to repair.")
    else:
        print(f"{table}: to snapshot {forward.snapshot_id}, of batch {forward.batch_id}.")
        print(
            f"Rows that come back are of {_places(forward.ranges)}, trading days {', '.join(map(str, forward.days))}."
        )
        if dry_run:
            print(_DRY)


class StillHalted(K2Error):
    """A topic stays halted, since its log does not have what was ingested."""


def print_unhalting(table: str, found: Unhalting, dry_run: bool, as_json: bool) -> None:
    """Print what is recorded of a topic as cut off or lost, beside what its log has, and what came of it.

    Raises:
        StillHalted: The topic stays halted; not in a dry run, which tells it only.
    """
    if as_json:
        print(json.dumps(_unhalting_as_json(table, found, dry_run)))
    else:
        _print_unhalting(table, found, dry_run)
    if found.against and not dry_run:
        raise StillHalted(f"{table}: {found.topic.name} stays halted: {_against(found)}")


def _print_unhalting(table: str, found: Unhalting, dry_run: bool) -> None:
    console = Console(highlight=False)
    console.print(f"{table}, topic {found.topic.name} ({found.topic.topic_id})")
    if not found.recorded:
        console.print("It is not halted, and nothing is wrongly recorded as lost. Nothing to repair.")
        return
    partitions = {each.partition for one in found.recorded for each in one.offsets}
    logs = [each for each in found.topic.partitions if each.partition in partitions]
    show_columns(
        [
            TableColumn("partition", [str(each.partition) for each in logs], True),
            TableColumn("log begins at", [f"{each.low:,}" for each in logs], True),
            TableColumn("ends at", [f"{each.stable_end:,}" for each in logs], True),
        ],
        console,
    )
    show_columns(
        [
            TableColumn("recorded as", ["cut off" if each.truncated else "lost" for each in found.recorded], False),
            TableColumn("count", [f"{len(each.offsets):,}" for each in found.recorded], True),
            TableColumn("what the log has there", [str(each.in_log) for each in found.recorded], False),
            TableColumn("offsets", [_places(each.offsets) for each in found.recorded], False),
        ],
        console,
    )
    if found.against:
        console.print(f"The topic {'would stay' if dry_run else 'stays'} halted: {_against(found)}")
    elif found.is_halted:
        console.print(f"The halt {'would end' if dry_run else 'has ended'}: the topic is read on by the next look.")
    if found.lost:
        console.print(f"As lost {'would' if dry_run else 'do'} no more count {len(found.lost):,} offsets.")
    if dry_run:
        console.print(_DRY)


def _against(found: Unhalting) -> str:
    told = "; ".join(f"at {_places(each.offsets)} the log has {each.in_log}" for each in found.against)
    return f"{told}. Create the topic anew: its new id is ingested by itself"


def _unhalting_as_json(table: str, found: Unhalting, dry_run: bool) -> dict[str, Any]:
    return {
        "table": table,
        "dry_run": dry_run,
        "topic": found.topic.name,
        "topic_id": found.topic.topic_id,
        "recorded": [
            {
                "as": "truncated" if each.truncated else "lost",
                "in_log": each.in_log.name.lower(),
                "offsets": [str(offsets) for offsets in each.offsets],
            }
            for each in found.recorded
        ],
        "halted": bool(found.against) or (found.is_halted and dry_run),
        "taken_back": [] if dry_run else [str(each) for each in (*found.truncated, *found.lost)],
    }


def _show(found: Sequence[RowDifference], console: Console) -> None:
    show_columns(
        [
            TableColumn("rows", [f"{each.rows:,}" for each in found], True),
            TableColumn("what", [_said(each) for each in found], False),
            TableColumn("offsets", [_places(each.offsets) for each in found], False),
        ],
        console,
    )


def _show_unread(found: ReadAgain, console: Console) -> None:
    if found.read:
        console.print(f"Set aside unread, and read now: {found.rows:,} messages of {_places(found.read)}")
    for reason, offsets in found.unread.items():
        console.print(f"Set aside unread, and still so: {_places(offsets)}: {visible(reason)}")


def _said(found: RowDifference) -> str:
    return str(found.what) if found.day is None else f"of {found.day}: {found.what}"


def _places(ranges: RangeSet) -> str:
    shown = [str(each) for each in ranges]
    more = f" and {len(shown) - _RANGES_SHOWN} more ranges" if len(shown) > _RANGES_SHOWN else ""
    return ", ".join(shown[:_RANGES_SHOWN]) + more


def _counted(counts: Any) -> str:
    shown = [f"{count:,} x {what}" for what, count in counts.items()]
    more = f"; and {len(shown) - _RANGES_SHOWN} more" if len(shown) > _RANGES_SHOWN else ""
    return "; ".join(shown[:_RANGES_SHOWN]) + more


def _rows_of_day(found: DayDifference) -> int:
    import pyarrow.compute as pc

    return int(pc.sum(pc.equal(found.rewrite.rows["trade_date"], found.rewrite.day)).as_py() or 0)


def _day_as_json(table: str, found: DayDifference, dry_run: bool) -> dict[str, Any]:
    return {
        "table": table,
        "day": str(found.rewrite.day),
        "dry_run": dry_run,
        "repaired": bool(found.changes) and not dry_run,
        "rows_before": found.before,
        "rows_after": _rows_of_day(found),
        "changes": [_found_as_json(each) for each in found.changes],
        "untouched": [_found_as_json(each) for each in found.untouched],
    }


def _found_as_json(found: RowDifference) -> dict[str, Any]:
    return {
        "what": found.what.name.lower(),
        "rows": found.rows,
        "offsets": [str(each) for each in found.offsets],
        **({} if found.day is None else {"day": str(found.day)}),
    }


def _revival_as_json(day: date, found: DeadLetterPlan) -> dict[str, Any]:
    return {
        "day": str(day),
        "dead_letters": found.dead_letters,
        "decoded": {str(its_day): count for its_day, count in found.decoded.items()},
        "reasons": dict(found.reasons),
    }


def _unread_as_json(found: ReadAgain) -> dict[str, Any]:
    return {
        "rows": found.rows,
        "read": [str(each) for each in found.read],
        "still_unread": {reason: [str(each) for each in offsets] for reason, offsets in found.unread.items()},
    }


def _forward_as_json(forward: RollForwardPlan) -> dict[str, Any]:
    return {
        "snapshot_id": str(forward.snapshot_id),
        "batch_id": forward.batch_id,
        "ranges": [str(each) for each in forward.ranges],
        "days": [str(each) for each in forward.days],
    }
