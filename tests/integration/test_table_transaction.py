"""A transaction that looks at the metadata once a change shows what pyiceberg's own shows."""

from pathlib import Path

import pytest
from pyiceberg.catalog import Catalog
from pyiceberg.table import Transaction
from pyiceberg.table.metadata import TableMetadata
from raw_deliveries import delivered

from k2_market.kinds.shipped import KINDS, tables_of
from k2_resources.iceberg.catalog import ensure_table, open_catalog
from k2_resources.iceberg.snapshot_expiry import expire_oldest
from k2_resources.iceberg.table_transaction import TableTransaction


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return open_catalog(f"sqlite:///{tmp_path}/catalog.db", f"file://{tmp_path}/warehouse")


def own_view(transaction: TableTransaction) -> TableMetadata:
    """The metadata as pyiceberg works it out, but for the time at which it does."""
    worked_out = Transaction.table_metadata.fget(transaction)  # type: ignore[attr-defined]
    return worked_out.model_copy(update={"last_updated_ms": transaction.table_metadata.last_updated_ms})


def test_after_each_change_it_shows_what_pyiceberg_works_out(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("k2_resources.iceberg.snapshot_expiry.KEPT_SNAPSHOTS", 2)
    table = ensure_table(catalog, "asx", "raw_trades", tables_of(KINDS)["raw_trades"])
    for number in range(4):
        before = table.metadata.model_copy(deep=True)
        transaction = TableTransaction(table)
        assert transaction.table_metadata == own_view(transaction)
        expire_oldest(transaction, table)
        assert transaction.table_metadata == own_view(transaction)
        transaction.append(delivered(number, number + 1).rows)
        assert transaction.table_metadata == own_view(transaction)
        transaction.set_properties({"said": str(number)})
        assert transaction.table_metadata == own_view(transaction)
        assert table.metadata == before
        table = transaction.commit_transaction()
        assert table.properties["said"] == str(number)
        assert len(table.metadata.snapshots) == min(number + 1, 2)
        table = catalog.load_table(("asx", "raw_trades"))
    assert table.scan().to_arrow().num_rows == 4


def test_looking_again_works_nothing_out_again(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    transaction = TableTransaction(ensure_table(catalog, "asx", "raw_trades", tables_of(KINDS)["raw_trades"]))
    assert transaction.table_metadata is transaction.table_metadata
    transaction.set_properties({"said": "this"})
    assert transaction.table_metadata is transaction.table_metadata
    assert transaction.table_metadata.properties["said"] == "this"
