"""Reads a table's metadata for verification: its snapshots, its ledger, and the ledgers of earlier metadata files."""

import json
from dataclasses import replace

from pyiceberg.table import Table

from k2_market.verification.ledger_claims import LEDGER_PROPERTY
from k2_market.verification.snapshot_verification import RetainedSnapshot, TableHistory


def history_of(table: Table) -> TableHistory:
    """Tell what a loaded table's metadata holds; opens no file."""
    return TableHistory(
        current_id=table.metadata.current_snapshot_id,
        snapshots=[
            RetainedSnapshot(
                snapshot_id=each.snapshot_id,
                parent_id=each.parent_snapshot_id,
                sequence=each.sequence_number or 0,
                summary={} if each.summary is None else dict(each.summary.additional_properties),
            )
            for each in table.metadata.snapshots
        ],
        ledger=table.properties.get(LEDGER_PROPERTY),
    )


def with_earlier_ledgers(history: TableHistory, table: Table) -> TableHistory:
    """Return the history with the ledgers of earlier metadata files, as far as they are still there."""
    found: list[tuple[str, str | None]] = []
    for entry in table.metadata.metadata_log:
        try:
            with table.io.new_input(entry.metadata_file).open() as file:
                properties = json.loads(file.read())["properties"]
        except FileNotFoundError:
            continue
        found.append((entry.metadata_file.rsplit("/", 1)[-1], properties.get(LEDGER_PROPERTY)))
    return replace(history, earlier_ledgers=found)
