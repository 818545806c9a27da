"""A copied or moved home: its catalog names another home's tables, reads them, and can't change a byte of theirs."""

import ast
import os
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.table.update.snapshot import ManageSnapshots
from raw_deliveries import DAY, delivered, raw_row
from repository import REPOSITORY
from typer.testing import CliRunner

from k2_cli.main import app
from k2_market.feeds.feed import Conditions, load_feeds
from k2_market.homes.table_ownership import MARK, Owner
from k2_market.kinds.shipped import KINDS, tables_of
from k2_market.kinds.trades import TRADES
from k2_market.schemas.tables import RAW_TRADES
from k2_market.trades.cleaning import clean_day
from k2_resources.iceberg.catalog import ensure_table, open_catalog
from k2_resources.iceberg.day_table import DayTable
from k2_resources.iceberg.owned_catalog import ForeignTable, OwnedCatalog
from k2_resources.iceberg.table_transaction import TableTransaction
from k2_resources.maintenance.day_tagging import tag_day
from k2_resources.maintenance.feed_maintenance import FeedMaintenance
from k2_resources.maintenance.orphan_cleaner import OrphanCleaner
from k2_resources.maintenance.raw_compaction import RawCompactor
from k2_resources.maintenance.table_properties import complete_properties
from k2_resources.raw.rewrite import RawRewriter
from k2_resources.raw.roll_forward import roll_forward
from k2_resources.raw.table import RawTable
from k2_resources.settings import Settings

RAW = ("asx", "raw_trades")
ROOMS = ("k2_market", "k2_resources", "k2_assets", "k2_sensors", "k2_cli")


def home(directory: Path) -> Settings:
    return Settings(home=directory, kafka_bootstrap="127.0.0.1:1", registry_url="http://127.0.0.1:1")


def catalog_of(settings: Settings) -> OwnedCatalog:
    return open_catalog(settings.iceberg_catalog_uri, settings.iceberg_warehouse)


@pytest.fixture
def original(tmp_path: Path) -> Settings:
    """A home with three files of raw trades, and a day of trades."""
    settings = home(tmp_path / "A")
    catalog = catalog_of(settings)
    for start in (0, 3, 6):
        RawTable(catalog, "asx", TRADES).commit(delivered(start, start + 3))
    DayTable(catalog, "asx", "trades").replace_day(DAY, trades(DAY), "run")
    return settings


@pytest.fixture(params=["default", "shared warehouse"])
def copy(request: pytest.FixtureRequest, original: Settings, tmp_path: Path) -> Settings:
    """A copy of it at another path: with a warehouse of its own by its settings, or told to use the original's."""
    shutil.copytree(original.home, tmp_path / "B")
    copied = home(tmp_path / "B")
    if request.param == "default":
        return copied
    return copied.model_copy(update={"warehouse": original.iceberg_warehouse})


@pytest.fixture
def untouched(original: Settings, copy: Settings) -> Iterator[None]:
    """Fails if anything of the original, or of the copy's own tables, was written, deleted or moved."""
    before = files_below(original.home), files_below(copy.home / "warehouse")
    yield
    assert (files_below(original.home), files_below(copy.home / "warehouse")) == before


def files_below(directory: Path) -> dict[Path, tuple[int, int]]:
    found = [path for path in directory.rglob("*") if path.is_file()]
    return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in found}


def trades(day: date, *, price: int = 1) -> pa.Table:
    """Three trades of a day."""
    known = {"trade_date": day, "price": Decimal(price), "quantity": Decimal(1), "side": "BUY", "action": "NEW"}
    rows = [raw_row(offset, **known, currency="AUD", conditions=[]) for offset in range(3)]
    return clean_day(pa.Table.from_pylist(rows, schema=RAW_TRADES), Conditions()).trades


def _commit(catalog: OwnedCatalog) -> None:
    RawTable(catalog, "asx", TRADES).commit(delivered(9, 12))


def _publish(catalog: OwnedCatalog) -> None:
    DayTable(catalog, "asx", "trades").replace_day(DAY, trades(DAY, price=2), "run")


def _compact(catalog: OwnedCatalog) -> None:
    RawCompactor(catalog, "asx", TRADES, lambda days: days).compact()


def _rewrite(catalog: OwnedCatalog) -> None:
    RawRewriter(catalog, "asx", TRADES).commit(lambda _: pytest.fail("a rewrite was decided on"))


def _tag(catalog: OwnedCatalog) -> None:
    tag_day(catalog, "asx", "raw_trades", DAY)


def _clean(catalog: OwnedCatalog) -> None:
    OrphanCleaner(catalog, timedelta(hours=24)).clean("asx", "raw_trades")


def _look_for_orphans(catalog: OwnedCatalog) -> None:
    OrphanCleaner(catalog, timedelta(hours=24)).look("asx", "raw_trades")


def _set_properties(catalog: OwnedCatalog) -> None:
    transaction = TableTransaction(catalog.load_table(RAW))
    transaction.set_properties({"note": "ours"})
    transaction.commit_transaction()


def _with_pyiceberg_itself(catalog: OwnedCatalog) -> None:
    catalog.load_table(RAW).transaction().set_properties({"note": "ours"}).commit_transaction()


def _append_with_pyiceberg_itself(catalog: OwnedCatalog) -> None:
    catalog.load_table(RAW).append(delivered(9, 12).rows)


def _tag_with_pyiceberg_itself(catalog: OwnedCatalog) -> None:
    table = catalog.load_table(RAW)
    transaction = table.transaction()
    ManageSnapshots(transaction).create_tag(table.metadata.snapshots[0].snapshot_id, "t").commit()
    transaction.commit_transaction()


def _purge(catalog: OwnedCatalog) -> None:
    catalog.purge_table(RAW)


WRITERS = [
    _commit,
    _publish,
    _compact,
    _rewrite,
    _tag,
    _clean,
    _look_for_orphans,
    _set_properties,
    _with_pyiceberg_itself,
    _append_with_pyiceberg_itself,
    _tag_with_pyiceberg_itself,
    _purge,
]


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("write", WRITERS, ids=lambda write: write.__name__.strip("_"))
def test_nothing_of_another_homes_table_is_written_or_deleted(
    write: Callable[[OwnedCatalog], None], copy: Settings
) -> None:
    with pytest.raises(ForeignTable, match=r"asx\.(raw_trades|trades) is another home's table: .*k2 relocate"):
        write(catalog_of(copy))


@pytest.mark.usefixtures("untouched")
def test_a_rolled_back_table_of_another_home_is_not_rolled_forward(original: Settings, copy: Settings) -> None:
    # Rolled back in the copied catalog alone, as someone would do who does not know that it is a copy.
    catalog = catalog_of(copy)
    first = catalog.load_table(RAW).metadata.snapshots[0].snapshot_id
    table = catalog.load_table(RAW)
    rolled_back = table.metadata.model_copy(update={"current_snapshot_id": first})
    view = RawRewriter(catalog, "asx", TRADES).view()
    assert view.table is not None
    view.table.metadata = rolled_back
    with pytest.raises(ForeignTable):
        roll_forward(_Rewriter(view), catalog)  # type: ignore[arg-type]


class _Rewriter:
    """Has one view of a table, whenever it is asked."""

    def __init__(self, view: Any) -> None:
        self.view = lambda: view


@pytest.mark.usefixtures("untouched")
def test_properties_of_another_homes_table_are_not_completed(copy: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("k2_resources.iceberg.catalog._PROPERTIES", {"k2.new": "1"})
    with pytest.raises(ForeignTable):
        complete_properties(catalog_of(copy), "asx", "raw_trades")


@pytest.mark.usefixtures("untouched")
def test_maintenance_of_another_homes_tables_stops_before_it_does_anything(copy: Settings) -> None:
    feed = load_feeds(copy.feed_directories)["asx"]
    maintenance = FeedMaintenance(catalog_of(copy), feed, TRADES, lambda: datetime(2026, 11, 30, tzinfo=UTC))
    with pytest.raises(ForeignTable):
        maintenance.carry_out(DAY)


@pytest.mark.usefixtures("untouched")
def test_another_homes_tables_can_be_read(copy: Settings) -> None:
    catalog = catalog_of(copy)
    assert RawTable(catalog, "asx", TRADES).view().read_day(DAY).num_rows == 9
    assert RawTable(catalog, "asx", TRADES).ledger().messages == 9
    assert DayTable(catalog, "asx", "trades").read_day(DAY).num_rows == 3
    assert len(catalog.load_table(RAW).scan().to_arrow()) == 9


@pytest.mark.usefixtures("untouched")
def test_commands_that_read_say_that_the_tables_are_another_homes(copy: Settings) -> None:
    answer = k2(copy, "sql", "SELECT count(*) AS n FROM asx.raw_trades", "--format", "csv")
    assert answer.stdout == "n\n9\n"
    assert "another home's" in answer.stderr
    verified = k2(copy, "verify", "ledger", "--feed", "asx", "--offline")
    assert verified.exit_code == 1
    assert "another home's" in verified.stdout


def test_a_home_of_ones_own_is_not_warned_of(original: Settings) -> None:
    assert k2(original, "sql", "SELECT count(*) AS n FROM asx.raw_trades", "--format", "csv").stderr == ""
    assert k2(original, "verify", "ledger", "--feed", "asx", "--offline").exit_code == 0


@pytest.mark.usefixtures("untouched")
def test_a_table_that_the_copied_catalog_does_not_name_is_not_made_among_the_originals(
    original: Settings, copy: Settings
) -> None:
    # Somebody gave the namespace a place of its own, so that its tables would lie there.
    catalog = catalog_of(copy)
    place = f"file://{original.home}/warehouse/asx"
    catalog.update_namespace_properties("asx", updates={"location": place})
    if copy.warehouse is None:
        with pytest.raises(ForeignTable, match=r"asx\.ohlcv_1m is another home's table: it lies at"):
            ensure_table(catalog, "asx", "ohlcv_1m", tables_of(KINDS)["ohlcv_1m"])
        with pytest.raises(ForeignTable, match=r"asx\.notes"):
            catalog.create_table("asx.notes", pa.schema([("a", pa.string())]))


def test_the_original_goes_on_beside_its_copy(original: Settings, copy: Settings) -> None:
    for write in WRITERS[:2]:
        with pytest.raises(ForeignTable):
            write(catalog_of(copy))
    catalog = catalog_of(original)
    for write in (_commit, _publish, _compact, _tag, _clean, _set_properties, _with_pyiceberg_itself):
        write(catalog)
    assert RawTable(catalog, "asx", TRADES).view().read_day(DAY).num_rows == 12


def test_tables_are_marked_when_they_are_made(original: Settings) -> None:
    catalog = catalog_of(original)
    expected = Owner(f"sqlite:{os.path.realpath(original.home / 'catalog.db')}", original.iceberg_warehouse)
    assert catalog.owner == expected
    for table in ("asx.raw_trades", "asx.trades"):
        assert catalog.load_table(table).properties[MARK] == expected.mark


@pytest.mark.parametrize("write", [_commit, _publish, _compact, _tag, _set_properties, _with_pyiceberg_itself])
def test_a_table_of_an_earlier_version_is_adopted_by_whatever_is_committed_next(
    write: Callable[[OwnedCatalog], None], original: Settings
) -> None:
    for table in ("asx.raw_trades", "asx.trades"):
        _forget_owner(original, table)
    assert MARK not in catalog_of(original).load_table("asx.raw_trades").properties
    write(catalog_of(original))
    marked = [MARK in catalog_of(original).load_table(name).properties for name in ("asx.raw_trades", "asx.trades")]
    assert marked.count(True) == 1


def test_a_table_of_an_earlier_version_that_lies_elsewhere_is_not_adopted(original: Settings, tmp_path: Path) -> None:
    for table in ("asx.raw_trades", "asx.trades"):
        _forget_owner(original, table)
    shutil.copytree(original.home, tmp_path / "B")
    with pytest.raises(ForeignTable, match=r"it lies at file:.*/A/warehouse/asx/raw_trades, outside of"):
        _commit(catalog_of(home(tmp_path / "B")))


def test_a_home_behind_a_link_is_the_same_home(original: Settings, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(original.home)
    linked = catalog_of(home(tmp_path / "link"))
    _commit(linked)
    _clean(linked)
    _commit2 = RawTable(catalog_of(original), "asx", TRADES).commit(delivered(12, 15))
    assert _commit2.snapshot_id is not None


def test_a_commit_to_what_has_changed_since_it_was_loaded_is_refused_whatever_changed(original: Settings) -> None:
    catalog = catalog_of(original)
    for change in (_set_properties, _tag, _commit):
        stale = catalog.load_table(RAW)
        change(catalog)
        with pytest.raises(CommitFailedException):
            stale.transaction().set_properties({"note": "stale"}).commit_transaction()
        with pytest.raises(CommitFailedException):
            stale.append(delivered(30, 31).rows)
    assert catalog.load_table(RAW).properties["note"] == "ours"


def test_every_catalog_and_every_transaction_of_k2_goes_through_the_one_that_asks_for_the_owner() -> None:
    """No other way to a catalog, a transaction or a table's files is written down anywhere in K2's own code."""
    allowed = {
        "SqlCatalog": {"k2_resources/iceberg/owned_catalog.py"},
        "load_catalog": set(),
        "Transaction": {"k2_resources/iceberg/table_transaction.py", "k2_resources/raw/commit.py"},
        "PyArrowFileIO": {
            "k2_resources/iceberg/owned_catalog.py",
            "k2_resources/iceberg/table_storage.py",
            "k2_resources/iceberg/catalog_identity.py",
            "k2_resources/homes/home_relocation.py",
            "k2_resources/homes/table_copy.py",
            "k2_resources/homes/table_relocation.py",
        },
    }
    found: dict[str, set[str]] = {name: set() for name in allowed}
    begun = set()
    for path in (each for room in ROOMS for each in (REPOSITORY / room).rglob("*.py")):
        name = str(path.relative_to(REPOSITORY))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            called = node.func if isinstance(node, ast.Call) else None
            if isinstance(called, ast.Name) and called.id in found:
                found[called.id].add(name)
            if isinstance(node, ast.ClassDef):
                for base in node.bases:
                    if isinstance(base, ast.Name) and base.id in found:
                        found[base.id].add(name)
            # table.transaction(), table.manage_snapshots(), table.update_schema() and the like commit by themselves.
            if isinstance(called, ast.Attribute) and called.attr in _BEGINS_ONE:
                begun.add(f"{name}: {ast.unparse(called)}")
    assert {name: places - allowed[name] for name, places in found.items()} == {name: set() for name in allowed}
    assert begun == {
        "k2_resources/iceberg/catalog.py: table.update_schema",
        "k2_resources/iceberg/catalog.py: catalog.create_table_transaction",
        "k2_resources/iceberg/catalog.py: transaction.update_spec",
    }


_BEGINS_ONE = {
    "transaction",
    "manage_snapshots",
    "update_schema",
    "update_spec",
    "update_statistics",
    "create_table",
    "create_table_if_not_exists",
    "create_table_transaction",
    "register_table",
    "add_files",
    "upsert",
}


def _forget_owner(settings: Settings, table: str) -> None:
    """Make a table what it was before there were owners: pyiceberg's own catalog knows none."""
    plain = SqlCatalog("k2", uri=settings.iceberg_catalog_uri, warehouse=settings.iceberg_warehouse)
    plain.load_table(table).transaction().remove_properties(MARK).commit_transaction()


def k2(settings: Settings, *arguments: str) -> Any:
    environment = {**settings.environment_variables(), "K2_LOG_FORMAT": "json"}
    return CliRunner().invoke(app, arguments, env=environment)
