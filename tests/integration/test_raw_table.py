"""The raw table's commit protocol against a real catalog and real Iceberg files."""

from collections.abc import Callable
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path

import pyarrow as pa
import pytest
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.table import CreateTableTransaction, Transaction
from pyiceberg.transforms import IdentityTransform

from k2_market.errors import K2Error, LedgerError
from k2_market.kinds.trades import TRADES
from k2_market.ledger.offset_ranges import OffsetRange, RangeSet
from k2_market.quality.finding import Finding
from k2_market.quality.ledger_rules import offsets_reconcile
from k2_market.schemas.tables import RAW_TRADES
from k2_resources.iceberg import day_files
from k2_resources.iceberg.catalog import KEPT_SNAPSHOTS, TableMismatch, open_catalog
from k2_resources.iceberg.snapshot_expiry import expire_oldest
from k2_resources.raw.commit import CommitOutcomeUnknown
from k2_resources.raw.delivery import Delivery
from k2_resources.raw.table import RawTable
from k2_resources.raw.view import RawView, TableRolledBack

DAY = date(2014, 3, 11)


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return open_catalog(f"sqlite:///{tmp_path}/catalog.db", f"file://{tmp_path}/warehouse")


def delivery(start: int, end: int, *, partition: int = 0, day: date = DAY, **more: object) -> Delivery:
    offsets = range(start, end)
    rows = pa.Table.from_pylist(
        [
            {
                "trade_date": day,
                "symbol": "BHP",
                "exchange_timestamp": datetime(2014, 3, 11, 0, 0, tzinfo=UTC),
                "trade_id": f"{partition}-{offset}",
                "kafka_topic_id": "t",
                "kafka_partition": partition,
                "kafka_offset": offset,
            }
            for offset in offsets
        ],
        schema=RAW_TRADES,
    )
    return Delivery(rows, RangeSet.of([OffsetRange("t", partition, start, end)]), {"t": "trades"}, "run", **more)  # type: ignore[arg-type]


def offsets(table: RawTable, partition: int = 0) -> list[int]:
    rows = table.view().read_day(DAY, "kafka_partition", "kafka_offset").to_pylist()
    return sorted(row["kafka_offset"] for row in rows if row["kafka_partition"] == partition)


def overtaken(monkeypatch: pytest.MonkeyPatch, by: Callable[[], object]) -> None:
    """Have another writer commit after the next commit's last look at the table and before its own."""
    commit_transaction = Transaction.commit_transaction

    def after_the_other(transaction: Transaction) -> object:
        monkeypatch.setattr(Transaction, "commit_transaction", commit_transaction)
        by()
        return commit_transaction(transaction)

    monkeypatch.setattr(Transaction, "commit_transaction", after_the_other)


def test_rows_and_their_offsets_land_together(catalog: Catalog) -> None:
    table = RawTable(catalog, "asx", TRADES)
    commit = table.commit(delivery(0, 5))
    assert offsets(table) == [0, 1, 2, 3, 4]
    assert list(table.ledger().covered) == [OffsetRange("t", 0, 0, 5)]
    assert (commit.batch.messages, table.view().rows) == (5, 5)


def test_the_same_range_a_second_time_adds_nothing(catalog: Catalog) -> None:
    table = RawTable(catalog, "asx", TRADES)
    table.commit(delivery(0, 5))
    again = table.commit(delivery(0, 5))
    assert (again.snapshot_id, len(again.refused)) == (None, 5)
    assert offsets(table) == [0, 1, 2, 3, 4]


def test_of_an_overlapping_range_only_what_is_new_lands(catalog: Catalog) -> None:
    table = RawTable(catalog, "asx", TRADES)
    table.commit(delivery(0, 5))
    table.commit(delivery(3, 8))
    assert offsets(table) == list(range(8))
    assert table.ledger().messages == 8


def test_two_writers_that_loaded_the_same_snapshot_commit_a_range_once(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = RawTable(catalog, "asx", TRADES), RawTable(catalog, "asx", TRADES)
    one.commit(delivery(0, 1))
    overtaken(monkeypatch, lambda: other.commit(delivery(1, 6)))
    late = one.commit(delivery(1, 6))
    assert len(late.refused) == 5
    assert offsets(one) == list(range(6))
    assert one.ledger().messages == one.view().rows == 6


def test_two_writers_that_both_find_no_table_make_it_once(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = RawTable(catalog, "asx", TRADES), RawTable(catalog, "asx", TRADES)
    interleaved = iter([lambda: other.commit(delivery(0, 4, partition=1))])
    create = CreateTableTransaction.commit_transaction

    def overtaken(transaction: CreateTableTransaction) -> object:
        for act in interleaved:
            act()
        return create(transaction)

    monkeypatch.setattr(CreateTableTransaction, "commit_transaction", overtaken)
    one.commit(delivery(1, 6))
    assert (offsets(one), offsets(one, 1)) == ([1, 2, 3, 4, 5], [0, 1, 2, 3])


def test_disjoint_ranges_of_two_writers_both_land(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = RawTable(catalog, "asx", TRADES), RawTable(catalog, "asx", TRADES)
    one.commit(delivery(0, 1))
    overtaken(monkeypatch, lambda: other.commit(delivery(0, 4, partition=1)))
    one.commit(delivery(1, 6))
    assert (offsets(one), offsets(one, 1)) == (list(range(6)), list(range(4)))
    assert one.ledger().messages == one.view().rows == 10


def test_deliveries_that_are_committed_together_are_one_snapshot_and_one_batch_of_the_ledger(catalog: Catalog) -> None:
    table = RawTable(catalog, "asx", TRADES)
    written = [table.write(delivery(0, 5)), table.write(delivery(0, 3, partition=1)), table.write(delivery(5, 9))]
    assert (table.view().rows, table.ledger().messages) == (0, 0)
    commit = table.commit_written(written)
    assert (commit.batch.batch_id, commit.batch.messages) == (written[0].batch.batch_id, 12)
    assert commit.by_day[DAY].rows == table.view().rows == table.ledger().messages == 12
    assert (offsets(table), offsets(table, 1)) == (list(range(9)), [0, 1, 2])
    assert len(catalog.load_table(("asx", "raw_trades")).snapshots()) == 1


def test_two_deliveries_of_the_same_offset_are_refused_and_neither_is_committed(catalog: Catalog) -> None:
    table = RawTable(catalog, "asx", TRADES)
    with pytest.raises(LedgerError, match="an offset stands in two of its 2 deliveries"):
        table.commit_written([table.write(delivery(0, 5)), table.write(delivery(4, 9))])
    assert table.view().rows == 0


def test_of_deliveries_committed_together_only_those_that_another_writer_has_part_of_are_written_again(
    catalog: Catalog, tmp_path: Path
) -> None:
    one, other = RawTable(catalog, "asx", TRADES), RawTable(catalog, "asx", TRADES)
    untouched, beaten = one.write(delivery(0, 5)), one.write(delivery(5, 9))
    other.commit(delivery(3, 6, partition=1))
    other.commit(delivery(7, 12))
    commit = one.commit_written([untouched, beaten])
    assert list(commit.refused) == [OffsetRange("t", 0, 7, 9)]
    assert offsets(one) == list(range(12))
    assert one.ledger().messages == one.view().rows == 15
    live = {task.file.file_path for task in catalog.load_table(("asx", "raw_trades")).scan().plan_files()}
    assert {file.file_path for file in untouched.files} <= live
    assert not {file.file_path for file in beaten.files} & live


def test_a_conflict_costs_no_file_more(catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = RawTable(catalog, "asx", TRADES), RawTable(catalog, "asx", TRADES)
    one.commit(delivery(0, 1))
    overtaken(monkeypatch, lambda: other.commit(delivery(0, 4, partition=1)))
    one.commit(delivery(1, 6))
    assert len(list(tmp_path.rglob("*.parquet"))) == 3


def test_files_that_do_not_fit_the_table_any_more_are_written_again(catalog: Catalog) -> None:
    table = RawTable(catalog, "asx", TRADES)
    table.commit(delivery(0, 2))
    written = table.write(delivery(2, 6))
    with catalog.load_table(("asx", "raw_trades")).update_spec() as spec:
        spec.add_field("kafka_partition", IdentityTransform(), "partition")
    table.commit_written([written])
    assert offsets(table) == list(range(6))
    partitions = [task.file.partition for task in catalog.load_table(("asx", "raw_trades")).scan().plan_files()]
    assert sorted(len(each) for each in partitions) == [1, 2]


def test_written_rows_that_are_not_all_there_when_read_again_are_not_committed(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, other = RawTable(catalog, "asx", TRADES), RawTable(catalog, "asx", TRADES)
    written = table.write(delivery(0, 5))
    other.commit(delivery(4, 6))
    read_files = day_files.read_files
    monkeypatch.setattr(day_files, "read_files", lambda *what: read_files(*what).slice(1))
    with pytest.raises(K2Error, match=r"5 rows were written and 4 are there in .*their offsets are still pending"):
        table.commit_written([written])
    assert offsets(table) == [4, 5]


def test_a_commit_that_landed_without_an_answer_is_not_repeated(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = RawTable(catalog, "asx", TRADES)
    table.commit(delivery(0, 1))
    commit_transaction = Transaction.commit_transaction

    def answer_lost(transaction: Transaction) -> object:
        commit_transaction(transaction)
        raise ConnectionError("the answer was lost")

    monkeypatch.setattr(Transaction, "commit_transaction", answer_lost)
    commit = table.commit(delivery(1, 6))
    assert commit.batch.messages == 5
    assert offsets(table) == list(range(6))


def test_a_commit_that_did_not_land_and_gave_no_answer_says_so_and_leaves_its_range_pending(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = RawTable(catalog, "asx", TRADES)
    table.commit(delivery(0, 1))

    def never_sent(transaction: Transaction) -> object:
        raise ConnectionError("no route to the catalog")

    monkeypatch.setattr(Transaction, "commit_transaction", never_sent)
    with pytest.raises(CommitOutcomeUnknown, match="still pending"):
        table.commit(delivery(1, 6))
    monkeypatch.undo()
    table.commit(delivery(1, 6))
    assert offsets(table) == list(range(6))


def test_pyicebergs_own_retry_stays_off(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    table = RawTable(catalog, "asx", TRADES)
    table.commit(delivery(0, 1))
    assert catalog.load_table(("asx", "raw_trades")).properties["commit.retry.num-retries"] == "0"


def test_a_table_rolled_back_behind_its_ledger_is_refused(catalog: Catalog) -> None:
    table = RawTable(catalog, "asx", TRADES)
    first = table.commit(delivery(0, 3))
    table.commit(delivery(3, 6))
    assert first.snapshot_id is not None
    catalog.load_table(("asx", "raw_trades")).manage_snapshots().rollback_to_snapshot(first.snapshot_id).commit()
    with pytest.raises(TableRolledBack, match=r"rolled back.*Rows of t/0\[3,6\) are not in it") as refused:
        table.commit(delivery(6, 9))
    assert list(refused.value.ranges) == [OffsetRange("t", 0, 3, 6)]


def test_offsets_that_hold_no_message_are_entered_by_an_empty_snapshot(catalog: Catalog) -> None:
    table = RawTable(catalog, "asx", TRADES)
    holes = RangeSet.of([OffsetRange("t", 0, 0, 4)])
    first = table.commit(Delivery(table.schema.empty_table(), holes, {"t": "trades"}, "run"))
    assert first.snapshot_id is not None
    assert (table.ledger().covered, table.ledger().holes, table.view().rows) == (holes, 4, 0)
    assert table.commit(Delivery(table.schema.empty_table(), holes, {"t": "trades"}, "run")).snapshot_id is None


def test_losses_and_truncations_are_entered_without_rows_and_once(catalog: Catalog) -> None:
    table = RawTable(catalog, "asx", TRADES)
    table.commit(delivery(5, 9))
    lost, truncated = (RangeSet.of([OffsetRange("t", 0, *span)]) for span in ((0, 5), (7, 9)))
    news = Delivery(table.schema.empty_table(), RangeSet(), {"t": "trades"}, "run", lost=lost, truncated=truncated)
    assert table.commit(news).snapshot_id is not None
    assert (table.ledger().lost, table.ledger().truncated) == (lost, truncated)
    assert table.commit(news).snapshot_id is None


def test_two_writers_without_rows_are_fenced_like_any_others(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    table, other = RawTable(catalog, "asx", TRADES), RawTable(catalog, "asx", TRADES)
    table.commit(delivery(0, 5))
    overtaken(monkeypatch, lambda: other.commit(delivery(10, 15)))
    holes = RangeSet.of([OffsetRange("t", 0, 5, 10)])
    table.commit(Delivery(table.schema.empty_table(), holes, {"t": "trades"}, "run"))
    assert list(table.ledger().covered) == [OffsetRange("t", 0, 0, 15)]
    assert table.view().rows == 10


def test_snapshots_are_expired_within_the_commit_and_tagged_ones_stay(catalog: Catalog) -> None:
    table = RawTable(catalog, "asx", TRADES)
    first = table.commit(delivery(0, 1))
    assert first.snapshot_id is not None
    catalog.load_table(("asx", "raw_trades")).manage_snapshots().create_tag(first.snapshot_id, "d2014-03-11").commit()
    for n in range(1, KEPT_SNAPSHOTS + 5):
        table.commit(delivery(n, n + 1))
    kept = {snapshot.snapshot_id for snapshot in catalog.load_table(("asx", "raw_trades")).metadata.snapshots}
    assert len(kept) == KEPT_SNAPSHOTS + 1
    assert first.snapshot_id in kept
    assert offsets(table) == list(range(KEPT_SNAPSHOTS + 5))


def test_rows_for_published_days_are_counted_as_late(catalog: Catalog) -> None:
    table = RawTable(catalog, "asx", TRADES)
    table.commit(delivery(0, 3))
    table.commit(delivery(3, 5, published_days=frozenset({DAY})))
    table.commit(delivery(5, 9, day=date(2014, 3, 12), published_days=frozenset({DAY})))
    assert table.ledger().late_rows == 2


def reconciled(view: RawView) -> Finding:
    rows = partial(view.reader([DAY]).day_batches_compactly, DAY)
    return offsets_reconcile(DAY, rows, view.rows, view.ledger, view.all_offsets)


def test_offsets_reconcile_finds_rows_that_were_deleted_by_hand_and_names_their_range(catalog: Catalog) -> None:
    table = RawTable(catalog, "asx", TRADES)
    table.commit(delivery(0, 10))
    view = table.view()
    assert reconciled(view).passed
    catalog.load_table(("asx", "raw_trades")).delete("kafka_offset >= 4 and kafka_offset < 7")
    view = table.view()
    found = reconciled(view)
    assert not found.passed
    assert {"kind": "missing or hole", "range": "t/0[4,7)"} in found.examples


def test_offsets_reconcile_finds_a_doubled_row(catalog: Catalog) -> None:
    table = RawTable(catalog, "asx", TRADES)
    table.commit(delivery(0, 4))
    catalog.load_table(("asx", "raw_trades")).append(delivery(2, 3).rows)
    view = table.view()
    found = reconciled(view)
    assert (found.passed, found.numbers["repeated_offsets"]) == (False, 1)


def test_a_view_at_a_snapshot_has_the_rows_of_then_and_at_one_that_is_gone_those_of_now(catalog: Catalog) -> None:
    table = RawTable(catalog, "asx", TRADES)
    table.commit(delivery(0, 4))
    then = table.view()
    table.commit(delivery(4, 10))
    now = table.view()
    assert then.snapshot_id != now.snapshot_id
    for view, rows in ((now.at(then.snapshot_id), 4), (now.at(12345), 10), (now.at(None), 10), (now, 10)):
        assert (view.rows, view.read_day(DAY).num_rows) == (rows, rows)
    assert RawTable(catalog, "btc", TRADES).view().at(then.snapshot_id).snapshot_id is None


def test_a_day_is_read_from_its_own_files_alone(catalog: Catalog) -> None:
    table = RawTable(catalog, "asx", TRADES)
    for n in range(5):
        table.commit(delivery(n, n + 1, day=date(2014, 3, 10 + n)))
    loaded = catalog.load_table(("asx", "raw_trades"))
    paths = [task.file.file_path for task in loaded.scan(row_filter="trade_date = '2014-03-11'").plan_files()]
    assert len(paths) == 1
    assert "/exchange_date=2014-03-11/" in paths[0]


def test_a_conflict_is_a_refusal_and_not_an_unknown_outcome(catalog: Catalog) -> None:
    table = RawTable(catalog, "asx", TRADES)
    table.commit(delivery(0, 1))
    stale = catalog.load_table(("asx", "raw_trades"))
    table.commit(delivery(1, 2))
    transaction = stale.transaction()
    transaction.append(delivery(2, 3).rows)
    expire_oldest(transaction, stale)
    with pytest.raises(CommitFailedException):
        transaction.commit_transaction()


def test_a_table_of_another_version_is_refused_by_its_column(catalog: Catalog) -> None:
    catalog.create_namespace("asx")
    older = pa.schema(
        [field.with_type(pa.decimal128(18, 8)) if field.name == "price" else field for field in RAW_TRADES]
    )
    catalog.create_table(("asx", "raw_trades"), older)
    with pytest.raises(TableMismatch, match=r"asx\.raw_trades, column price: found decimal128\(18, 8\)"):
        RawTable(catalog, "asx", TRADES).commit(delivery(0, 3))


def test_a_table_that_was_dropped_between_write_and_commit_is_made_anew_with_the_rows(catalog: Catalog) -> None:
    table = RawTable(catalog, "asx", TRADES)
    table.commit(delivery(0, 3))
    written = table.write(delivery(3, 6))
    catalog.drop_table(("asx", "raw_trades"))
    commit = table.commit_written([written])
    assert offsets(table) == [3, 4, 5]
    assert list(commit.batch.covered) == list(table.ledger().covered) == [OffsetRange("t", 0, 3, 6)]


def test_a_table_that_was_dropped_and_made_anew_by_another_between_write_and_commit_has_the_rows_of_both(
    catalog: Catalog,
) -> None:
    table, other = RawTable(catalog, "asx", TRADES), RawTable(catalog, "asx", TRADES)
    table.commit(delivery(0, 3))
    written = table.write(delivery(3, 6))
    catalog.drop_table(("asx", "raw_trades"))
    other.commit(delivery(10, 12))
    table.commit_written([written])
    assert offsets(table) == [3, 4, 5, 10, 11]
