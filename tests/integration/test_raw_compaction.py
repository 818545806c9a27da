"""Compaction on a real catalog: rows stay what they are, whoever commits or dies in between."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyiceberg.catalog import Catalog
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table, Transaction
from pyiceberg.transforms import IdentityTransform
from raw_deliveries import DAY, delivered, raw_row

from k2_market.kinds.trades import TRADES
from k2_market.ledger.offset_ranges import OffsetRange, RangeSet
from k2_market.schemas.tables import RAW_TRADES
from k2_resources.iceberg.catalog import TableMismatch, open_catalog
from k2_resources.iceberg.data_files import live_files
from k2_resources.iceberg.table_storage import TableStorage
from k2_resources.maintenance import raw_compaction
from k2_resources.maintenance.orphan_cleaner import OrphanCleaner
from k2_resources.maintenance.raw_compaction import Compaction, RawCompactor, RowsChanged
from k2_resources.proofs.ledger_proof import prove_ledger
from k2_resources.raw.commit import CommitOutcomeUnknown
from k2_resources.raw.delivery import Delivery
from k2_resources.raw.table import RawTable
from k2_resources.raw.view import TableRolledBack, batch_ids

NEXT_DAY = DAY + timedelta(days=1)
TABLE = ("asx", "raw_trades")
OFFSET = [("kafka_offset", "ascending")]


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return open_catalog(f"sqlite:///{tmp_path}/catalog.db", f"file://{tmp_path}/warehouse")


def commit(catalog: Catalog, start: int, end: int, day: date = DAY) -> None:
    RawTable(catalog, "asx", TRADES).commit(delivered(start, end, day=day))


def small_files(catalog: Catalog, count: int = 4) -> None:
    """So many commits of three rows of one day, and as many of another that has not closed."""
    for number in range(count):
        commit(catalog, number * 6, number * 6 + 3)
        commit(catalog, number * 6 + 3, number * 6 + 6, day=NEXT_DAY)


def compactor(catalog: Catalog) -> RawCompactor:
    return RawCompactor(catalog, "asx", TRADES, lambda days: days - {NEXT_DAY})


def compact(catalog: Catalog) -> Compaction:
    compaction = compactor(catalog).compact()
    assert compaction is not None
    return compaction


def rows(catalog: Catalog) -> list[dict[str, Any]]:
    return catalog.load_table(TABLE).scan().to_arrow().sort_by(OFFSET).to_pylist()


def files_of(catalog: Catalog, day: date) -> list[str]:
    return [each.path for each in raw_compaction._facts(live_files(catalog.load_table(TABLE))) if each.day == day]


def assert_verified(catalog: Catalog) -> None:
    found = prove_ledger(catalog.load_table(TABLE), TRADES, None, None)
    assert found.violations == ()
    assert found.holds


def in_between(monkeypatch: pytest.MonkeyPatch, act: Callable[[], None]) -> None:
    """Let something happen just before the next commit goes to the catalog."""
    commit_transaction = Transaction.commit_transaction
    left = [act]

    def overtaken(transaction: Transaction) -> Table:
        if left:
            with monkeypatch.context() as undisturbed:
                undisturbed.setattr(Transaction, "commit_transaction", commit_transaction)
                left.pop()()
        return commit_transaction(transaction)

    monkeypatch.setattr(Transaction, "commit_transaction", overtaken)


def test_a_closed_days_files_become_one_and_every_row_stays_what_it_is(catalog: Catalog) -> None:
    small_files(catalog)
    before, ledger = rows(catalog), RawTable(catalog, "asx", TRADES).ledger()
    open_day = files_of(catalog, NEXT_DAY)
    compaction = compact(catalog)
    assert (compaction.days, compaction.replaced, compaction.written, compaction.rows) == ((DAY,), 4, 1, 12)
    assert len(files_of(catalog, DAY)) == 1
    assert sorted(files_of(catalog, NEXT_DAY)) == sorted(open_day)
    assert rows(catalog) == before
    after = RawTable(catalog, "asx", TRADES).ledger()
    assert (after.covered, after.messages, after.topic_names) == (ledger.covered, ledger.messages, ledger.topic_names)
    assert_verified(catalog)


def test_what_is_compacted_already_is_left_alone(catalog: Catalog) -> None:
    small_files(catalog)
    compact(catalog)
    metadata = catalog.load_table(TABLE).metadata_location
    assert compactor(catalog).compact() is None
    assert catalog.load_table(TABLE).metadata_location == metadata


def test_a_feed_without_a_table_has_nothing_to_compact(catalog: Catalog) -> None:
    assert compactor(catalog).compact() is None
    assert compactor(catalog).look().groups == ()
    assert compactor(catalog).files().files == 0


def test_rows_lie_sorted_by_symbol_and_time_and_every_kind_of_value_survives(catalog: Catalog) -> None:
    said = [
        {"symbol": "RIO", "price": Decimal("1.0000000001"), "conditions": ["a", None], "attributes": [("k", "v")]},
        {"symbol": "BHP", "exchange_timestamp": datetime(2014, 3, 11, 2, tzinfo=UTC), "quantity": Decimal("1e-8")},
        {"symbol": None, "exchange_timestamp": None, "reject_reason": "no", "payload": b"\x00\xff", "kafka_key": b""},
        {"symbol": "BHP", "exchange_timestamp": datetime(2014, 3, 11, 1, tzinfo=UTC), "conditions": []},
    ]
    for offset, each in enumerate(said):
        table = pa.Table.from_pylist([raw_row(offset, **each)], schema=RAW_TRADES)
        covered = RangeSet.of([OffsetRange("t", 0, offset, offset + 1)])
        RawTable(catalog, "asx", TRADES).commit(Delivery(table, covered, {"t": "trades"}, "run"))
    before = rows(catalog)
    compact(catalog)
    assert rows(catalog) == before
    written = catalog.load_table(TABLE).scan().to_arrow()
    assert written["kafka_offset"].to_pylist() == [3, 1, 0, 2]
    assert_verified(catalog)


def test_late_rows_of_a_compacted_day_are_put_together_with_it_again(catalog: Catalog) -> None:
    small_files(catalog)
    compact(catalog)
    commit(catalog, 100, 103)
    assert compact(catalog).replaced == 2
    assert len(files_of(catalog, DAY)) == 1
    assert_verified(catalog)


@pytest.mark.parametrize("day", [DAY, NEXT_DAY])
def test_rows_ingested_between_look_and_commit_are_neither_lost_nor_doubled(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch, day: date
) -> None:
    small_files(catalog)
    in_between(monkeypatch, lambda: commit(catalog, 100, 103, day=day))
    compact(catalog)
    assert [row["kafka_offset"] for row in rows(catalog)] == [*range(24), *range(100, 103)]
    assert len(files_of(catalog, DAY)) == 1
    assert_verified(catalog)


def test_an_ingest_that_a_compaction_overtakes_is_committed_once(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_files(catalog)
    in_between(monkeypatch, lambda: assert_compacted(catalog))
    commit(catalog, 100, 103)
    assert [row["kafka_offset"] for row in rows(catalog)] == [*range(24), *range(100, 103)]
    assert_verified(catalog)


def assert_compacted(catalog: Catalog) -> None:
    assert compactor(catalog).compact() is not None


def test_a_table_that_was_given_other_partitions_is_left_alone_in_words(catalog: Catalog) -> None:
    small_files(catalog)
    with catalog.load_table(TABLE).update_spec() as spec:
        spec.add_field("symbol", IdentityTransform(), "symbol")
    before = files_of(catalog, DAY)
    with pytest.raises(TableMismatch, match="expected a trading day each"):
        compact(catalog)
    assert files_of(catalog, DAY) == before


def test_what_a_refused_attempt_had_written_is_removed(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    small_files(catalog)
    storage = TableStorage(catalog.load_table(TABLE))
    before = {each.path for each in storage.files() if each.path.startswith("data/")}
    in_between(monkeypatch, lambda: commit(catalog, 100, 103, day=NEXT_DAY))
    compact(catalog)
    added = {each.path for each in storage.files() if each.path.startswith("data/")} - before
    assert len(added) == 2  # what was ingested meanwhile, and the compaction's own


def test_a_compaction_that_landed_without_an_answer_is_not_repeated(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_files(catalog)
    answers_with(monkeypatch, landed=True)
    assert compact(catalog).replaced == 4
    assert len(files_of(catalog, DAY)) == 1
    assert_verified(catalog)


def test_a_compaction_that_never_arrived_says_so_and_leaves_the_table_as_it_was(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_files(catalog)
    before = rows(catalog)
    answers_with(monkeypatch, landed=False)
    with pytest.raises(CommitOutcomeUnknown, match="the table is as it was; the next maintenance compacts it"):
        compactor(catalog).compact()
    assert rows(catalog) == before
    assert_verified(catalog)


def answers_with(monkeypatch: pytest.MonkeyPatch, *, landed: bool) -> None:
    """Have the connection break at a commit, after it landed or before."""
    commit_transaction = Transaction.commit_transaction

    def broken(transaction: Transaction) -> Table:
        if landed:
            commit_transaction(transaction)
        raise ConnectionError("cut off")

    monkeypatch.setattr(Transaction, "commit_transaction", broken)


def test_a_table_that_was_rolled_back_is_not_compacted(catalog: Catalog) -> None:
    small_files(catalog)
    table = catalog.load_table(TABLE)
    first = table.metadata.snapshots[3]
    table.manage_snapshots().rollback_to_snapshot(first.snapshot_id).commit()
    with pytest.raises(TableRolledBack):
        compactor(catalog).compact()


def test_a_file_that_does_not_hold_what_was_read_is_not_committed(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_files(catalog)
    before, write = rows(catalog), raw_compaction.write_day_files

    def one_price_wrong(metadata: Any, io: Any, table: pa.Table) -> list[DataFile]:
        place = table.schema.get_field_index("price")
        wrong = pa.array([*[None] * (table.num_rows - 1), Decimal("1")], table.field("price").type)
        return list(write(metadata, io, table.set_column(place, table.field("price"), wrong)))

    monkeypatch.setattr(raw_compaction, "write_day_files", one_price_wrong)
    with pytest.raises(RowsChanged, match=r"does not hold the 12 rows of 2014-03-11 that were written"):
        compactor(catalog).compact()
    assert rows(catalog) == before
    assert_verified(catalog)


def test_a_ledger_stays_trusted_when_compactions_are_all_that_the_table_remembers(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("k2_resources.iceberg.snapshot_expiry.KEPT_SNAPSHOTS", 2)
    monkeypatch.setattr("k2_market.plans.compaction_plan.MOST_ROWS_PER_COMMIT", 1)  # a commit for each day
    days = [DAY + timedelta(days=number) for number in range(2, 5)]
    for number, day in enumerate(days * 2):
        commit(catalog, number * 3, number * 3 + 3, day=day)
    assert [compact(catalog).days for _ in days] == [(day,) for day in reversed(days)]
    table = catalog.load_table(TABLE)
    assert len(table.metadata.snapshots) == 2
    assert RawTable(catalog, "asx", TRADES).ledger().batch_id == batch_ids(table)[0]
    assert_verified(catalog)


def test_old_metadata_files_are_removed_by_the_commits_themselves(catalog: Catalog) -> None:
    for number in range(15):
        commit(catalog, number, number + 1)
    compact(catalog)
    table = catalog.load_table(TABLE)
    kept = [each for each in TableStorage(table).files() if each.path.endswith(".metadata.json")]
    assert len(kept) == len(table.metadata.metadata_log) + 1 == 11


def test_the_files_of_a_compacted_day_go_once_no_snapshot_needs_them(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("k2_resources.iceberg.snapshot_expiry.KEPT_SNAPSHOTS", 3)
    small_files(catalog)
    storage = TableStorage(catalog.load_table(TABLE))
    replaced = {path for each in files_of(catalog, DAY) if (path := storage.path_of(each)) is not None}
    compact(catalog)
    for number in range(5):
        commit(catalog, 100 + number, 101 + number, day=NEXT_DAY)
        now = datetime.now(UTC) + timedelta(hours=25 * (number + 1))
        OrphanCleaner(catalog, timedelta(hours=24), lambda _, now=now: now).clean(*TABLE)  # type: ignore[misc]
    assert len(replaced) == 4
    assert not replaced & {each.path for each in storage.files()}
    assert_verified(catalog)


PROGRAM = """
import sys
from k2_market.kinds.trades import TRADES
from k2_resources.iceberg.catalog import TableMismatch, open_catalog
from k2_resources.maintenance.raw_compaction import RawCompactor
RawCompactor(open_catalog(sys.argv[1], sys.argv[2]), "asx", TRADES, lambda days: days).compact()
"""


@pytest.mark.parametrize(
    ("point", "landed"),
    [
        ("compaction_half", False),
        ("compacted_written", False),
        ("before_compaction_cas", False),
        ("after_compaction_cas", True),
    ],
)
def test_a_compaction_killed_at_any_point_loses_nothing_and_the_next_one_ends_it(
    catalog: Catalog, tmp_path: Path, point: str, landed: bool
) -> None:
    small_files(catalog)
    before = rows(catalog)
    killed = subprocess.run(
        [sys.executable, "-c", PROGRAM, f"sqlite:///{tmp_path}/catalog.db", f"file://{tmp_path}/warehouse"],
        env={**os.environ, "K2_CRASH_AT": point},
        timeout=60,
    )
    assert killed.returncode == -signal.SIGKILL
    assert (len(files_of(catalog, DAY)) == 1) is landed
    assert rows(catalog) == before
    assert_verified(catalog)
    commit(catalog, 100, 101)
    compact(catalog)
    assert len(files_of(catalog, DAY)) == 1
    assert rows(catalog)[:-1] == before
    assert_verified(catalog)
