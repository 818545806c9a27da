"""The commit of a repair against other writers, catalogs that give no answer, and tables that were rolled back."""

import json
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pyarrow as pa
import pytest
from pyiceberg.catalog import Catalog
from pyiceberg.table import Transaction
from raw_deliveries import DAY, delivered, raw_row
from typer.testing import CliRunner

from k2_cli.main import app
from k2_market.errors import K2Error
from k2_market.kinds.trades import TRADES
from k2_market.repair.day_repair import Rewrite
from k2_market.schemas.tables import RAW_TRADES
from k2_resources.iceberg.catalog import open_catalog
from k2_resources.iceberg.snapshot_summary import DAYS, RUN_ID
from k2_resources.raw.commit import CommitOutcomeUnknown
from k2_resources.raw.rewrite import NoTable, RawRewriter
from k2_resources.raw.roll_forward import CannotRollForward, roll_forward, roll_forward_plan
from k2_resources.raw.table import RawTable
from k2_resources.raw.view import RawView, TableRolledBack

OTHER_DAY = date(2014, 3, 12)
TABLE = ("asx", "raw_trades")


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return open_catalog(f"sqlite:///{tmp_path}/catalog.db", f"file://{tmp_path}/warehouse")


def commit(catalog: Catalog, start: int, end: int, day: date = DAY) -> None:
    RawTable(catalog, "asx", TRADES).commit(delivered(start, end, day=day))


def offsets(catalog: Catalog, day: date = DAY) -> list[int]:
    return sorted(RawTable(catalog, "asx", TRADES).view().read_day(day)["kafka_offset"].to_pylist())


def rewritten(view: RawView) -> Rewrite:
    """The day as it is, with offset 1, which was away, in its place again."""
    back = pa.Table.from_pylist([raw_row(1)], schema=RAW_TRADES)
    return Rewrite(DAY, pa.concat_tables([view.read_day(DAY), back]))


def without_one(catalog: Catalog) -> RawRewriter:
    commit(catalog, 0, 3)
    catalog.load_table(TABLE).delete("kafka_offset = 1")
    return RawRewriter(catalog, "asx", TRADES)


def interleaved(monkeypatch: pytest.MonkeyPatch, acts: list[Callable[[], None]]) -> None:
    """Let each act happen just before one of the next commits goes to the catalog."""
    commit_transaction = Transaction.commit_transaction

    def overtaken(transaction: Transaction) -> object:
        if acts:
            acts.pop(0)()
        return commit_transaction(transaction)

    monkeypatch.setattr(Transaction, "commit_transaction", overtaken)


def test_a_repair_that_an_ingest_overtakes_is_decided_anew_and_loses_nothing_of_it(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    rewriter = without_one(catalog)
    decided: list[int] = []

    def decide(view: RawView) -> Rewrite:
        decided.append(view.rows)
        return rewritten(view)

    interleaved(monkeypatch, [lambda: commit(catalog, 3, 6)])
    assert rewriter.commit(decide) is not None
    assert decided == [2, 5]
    assert offsets(catalog) == list(range(6))
    assert RawTable(catalog, "asx", TRADES).ledger().messages == RawTable(catalog, "asx", TRADES).view().rows == 6


def test_an_ingest_that_a_repair_overtakes_keeps_the_repairs_rows(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    rewriter = without_one(catalog)
    interleaved(monkeypatch, [lambda: assert_committed(rewriter)])
    commit(catalog, 3, 6)
    assert offsets(catalog) == list(range(6))


def assert_committed(rewriter: RawRewriter) -> None:
    assert rewriter.commit(rewritten) is not None


def test_a_repair_that_is_overtaken_again_and_again_gives_up_and_says_so(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    rewriter = without_one(catalog)
    monkeypatch.setattr("tenacity.nap.time.sleep", lambda _: None)
    others = list(range(3, 40))
    commit_transaction = Transaction.commit_transaction

    def always_overtaken(transaction: Transaction) -> object:
        with monkeypatch.context() as undisturbed:
            undisturbed.setattr(Transaction, "commit_transaction", commit_transaction)
            commit(catalog, n := others.pop(0), n + 1)
        return commit_transaction(transaction)

    monkeypatch.setattr(Transaction, "commit_transaction", always_overtaken)
    with pytest.raises(K2Error, match=r"asx\.raw_trades: the repair lost against other writers 10 times"):
        rewriter.commit(rewritten)
    assert 1 not in offsets(catalog)


def test_a_repair_that_landed_without_an_answer_is_not_repeated(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    rewriter = without_one(catalog)
    commit_transaction = Transaction.commit_transaction

    def answer_lost(transaction: Transaction) -> object:
        commit_transaction(transaction)
        raise ConnectionError("the answer was lost")

    monkeypatch.setattr(Transaction, "commit_transaction", answer_lost)
    assert rewriter.commit(rewritten) is not None
    assert offsets(catalog) == [0, 1, 2]


def test_a_repair_that_did_not_land_and_got_no_answer_says_that_the_table_is_as_it_was(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    rewriter = without_one(catalog)

    def never_sent(transaction: Transaction) -> object:
        raise ConnectionError("no route to the catalog")

    monkeypatch.setattr(Transaction, "commit_transaction", never_sent)
    with pytest.raises(CommitOutcomeUnknown, match="the table is as it was; run the repair again"):
        rewriter.commit(rewritten)


def test_a_decision_for_nothing_commits_nothing(catalog: Catalog) -> None:
    rewriter = without_one(catalog)
    before = catalog.load_table(TABLE).metadata_location
    assert rewriter.commit(lambda _: None) is None
    assert catalog.load_table(TABLE).metadata_location == before


def test_a_day_whose_rows_are_all_gone_is_written_again_and_one_that_should_have_none_is_emptied(
    catalog: Catalog, recwarn: pytest.WarningsRecorder
) -> None:
    commit(catalog, 0, 3)
    rows = RawTable(catalog, "asx", TRADES).view().read_day(DAY)
    catalog.load_table(TABLE).delete("kafka_offset >= 0")
    rewriter = RawRewriter(catalog, "asx", TRADES)
    rewriter.commit(lambda _: Rewrite(DAY, rows))
    assert offsets(catalog) == [0, 1, 2]
    rewriter.commit(lambda _: Rewrite(DAY, rows.slice(0, 0)))
    assert offsets(catalog) == []
    assert RawTable(catalog, "asx", TRADES).ledger().messages == 3
    assert not [each for each in recwarn if "did not match any records" in str(each.message)]


def test_a_repair_keeps_the_number_of_snapshots_as_it_is(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = 6
    monkeypatch.setattr("k2_resources.iceberg.snapshot_expiry.KEPT_SNAPSHOTS", kept)
    for n in range(kept + 3):
        commit(catalog, n, n + 1)
    rewriter = RawRewriter(catalog, "asx", TRADES)
    for _ in range(3):
        rewriter.commit(lambda view: Rewrite(DAY, view.read_day(DAY)))
    assert len(catalog.load_table(TABLE).metadata.snapshots) <= kept + 1
    commit(catalog, 90, 91)
    assert len(catalog.load_table(TABLE).metadata.snapshots) == kept


def test_a_feed_without_a_table_is_named(catalog: Catalog) -> None:
    with pytest.raises(NoTable, match=r"asx\.raw_trades: there is no such table"):
        RawRewriter(catalog, "asx", TRADES).commit(rewritten)


@pytest.fixture
def rolled_back(catalog: Catalog) -> Catalog:
    """A table whose second and third commits were taken back by hand."""
    commit(catalog, 0, 3)
    commit(catalog, 3, 6)
    commit(catalog, 6, 9, OTHER_DAY)
    table = catalog.load_table(TABLE)
    table.manage_snapshots().rollback_to_snapshot(table.metadata.snapshots[0].snapshot_id).commit()
    return catalog


def test_a_rolled_back_table_is_not_repaired_but_names_the_command_that_rolls_it_forward(rolled_back: Catalog) -> None:
    with pytest.raises(TableRolledBack, match="k2 repair --feed asx --roll-forward"):
        RawRewriter(rolled_back, "asx", TRADES).commit(rewritten)


def test_a_rolled_back_table_is_rolled_forward_and_its_days_are_told(rolled_back: Catalog) -> None:
    forward = roll_forward(RawRewriter(rolled_back, "asx", TRADES), rolled_back)
    assert forward is not None
    assert ([str(each) for each in forward.ranges], forward.days) == (["t/0[3,9)"], (DAY, OTHER_DAY))
    assert (offsets(rolled_back), offsets(rolled_back, OTHER_DAY)) == ([0, 1, 2, 3, 4, 5], [6, 7, 8])
    view = RawTable(rolled_back, "asx", TRADES).view()
    assert (view.ledger.messages, view.rows) == (9, 9)
    newest = view.commits[-1]
    assert (newest.run_id.startswith("repair-"), newest.days) == (True, (DAY, OTHER_DAY))
    commit(rolled_back, 9, 12)
    assert roll_forward(RawRewriter(rolled_back, "asx", TRADES), rolled_back) is None


def test_rolling_forward_goes_to_a_repairs_last_snapshot(catalog: Catalog) -> None:
    without_one(catalog).commit(rewritten)
    table = catalog.load_table(TABLE)
    table.manage_snapshots().rollback_to_snapshot(table.metadata.snapshots[0].snapshot_id).commit()
    assert roll_forward(RawRewriter(catalog, "asx", TRADES), catalog) is not None
    assert offsets(catalog) == [0, 1, 2]


def test_a_table_that_was_written_to_after_it_was_rolled_back_is_not_rolled_forward(rolled_back: Catalog) -> None:
    rolled_back.load_table(TABLE).append(delivered(20, 21).rows)
    with pytest.raises(CannotRollForward, match="written after the table was rolled back"):
        roll_forward_plan(rolled_back.load_table(TABLE))


def test_a_table_whose_snapshots_are_gone_says_what_is_left_to_do(rolled_back: Catalog) -> None:
    table = rolled_back.load_table(TABLE)
    newest = [each.snapshot_id for each in table.metadata.snapshots[1:]]
    table.maintenance.expire_snapshots().by_ids(newest).commit()
    with pytest.raises(CannotRollForward, match=r"it was expired\. Drop the table"):
        roll_forward_plan(rolled_back.load_table(TABLE))


def test_the_command_rolls_forward_and_a_dry_run_does_not(
    rolled_back: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("K2_HOME", str(tmp_path))
    dry = CliRunner().invoke(app, ["repair", "--feed", "asx", "--roll-forward", "--dry-run"])
    assert "Rows that come back are of t/0[3,9), trading days 2014-03-11, 2014-03-12" in dry.stdout
    assert offsets(rolled_back) == [0, 1, 2]
    done = CliRunner().invoke(app, ["repair", "--feed", "asx", "--roll-forward", "--json"])
    assert json.loads(done.stdout)["rolled_forward"]["days"] == ["2014-03-11", "2014-03-12"]
    assert offsets(rolled_back) == [0, 1, 2, 3, 4, 5]
    snapshot = rolled_back.load_table(TABLE).current_snapshot()
    assert snapshot is not None
    assert snapshot.summary is not None
    assert {RUN_ID, DAYS} <= snapshot.summary.additional_properties.keys()
