"""Which tables a catalog may write to: those in its warehouse that bear no other catalog's mark."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2_market.homes import table_ownership
from k2_market.homes.table_ownership import Owner, TablePlace, lies_within, why_not

OURS = Owner("sqlite:/a/catalog.db", "file:///a/warehouse")
THEIRS = Owner("sqlite:/b/catalog.db", "file:///b/warehouse")
WAREHOUSE = "file:/a/warehouse"
INSIDE = "file:/a/warehouse/asx/trades"

names = st.text(alphabet="ab.é #?%", min_size=1, max_size=6)


def refusal(place: str = INSIDE, mark: str | None = OURS.mark, *more: str) -> str | None:
    return why_not(TablePlace("asx.trades", (place, *more), mark), OURS, WAREHOUSE)


def test_a_table_with_our_mark_in_our_warehouse_may_be_written_to() -> None:
    assert refusal() is None


def test_a_table_without_a_mark_in_our_warehouse_may_be_written_to_and_one_outside_may_not() -> None:
    assert refusal(mark=None) is None
    said = refusal("file:/b/warehouse/asx/trades", None)
    assert said is not None
    assert "it lies at file:/b/warehouse/asx/trades, outside of this home's warehouse file:///a/warehouse" in said


def test_a_table_with_another_catalogs_mark_is_refused_though_it_lies_in_our_warehouse() -> None:
    said = refusal(mark=THEIRS.mark)
    assert said is not None
    assert "asx.trades" in said
    assert "belongs to the catalog sqlite:/b/catalog.db" in said
    for message in (table_ownership.refusal(said), table_ownership.notice(said)):
        assert said in message
        assert "`k2 relocate`" in message


def test_our_own_table_outside_of_our_warehouse_is_refused() -> None:
    assert "outside of this home's warehouse" in str(refusal("file:/b/warehouse/asx/trades"))


def test_a_table_that_is_told_to_write_elsewhere_is_refused_by_that_place() -> None:
    assert "it lies at file:/elsewhere/data" in str(refusal(INSIDE, OURS.mark, "file:/elsewhere/data"))


def test_our_mark_with_another_name_of_the_warehouse_is_ours() -> None:
    assert refusal(mark=Owner(OURS.catalog, "file:///link/warehouse").mark) is None


@pytest.mark.parametrize("mark", ["", "ours", "[]", '{"catalog": "sqlite:/a/catalog.db"}', "null", "1"])
def test_a_mark_that_can_not_be_read_is_refused_and_shown(mark: str) -> None:
    assert f"its property k2.owner can't be read: {mark!r}" in str(refusal(mark=mark))


@given(st.text(), st.text())
def test_a_mark_is_read_as_it_was_written(catalog: str, warehouse: str) -> None:
    assert Owner.of_mark(Owner(catalog, warehouse).mark) == Owner(catalog, warehouse)


@given(st.lists(names, max_size=4), st.lists(names, max_size=4))
def test_a_place_lies_within_a_directory_if_its_parts_begin_with_the_directorys(
    parts: list[str], directory: list[str]
) -> None:
    found = lies_within("file:/" + "/".join(parts), "file:/" + "/".join(directory))
    assert found == (parts[: len(directory)] == directory)


def test_a_directory_whose_name_only_begins_like_ours_is_not_ours() -> None:
    assert not lies_within("file:/a/warehouse-2/t", "file:/a/warehouse")
    assert lies_within("file:/a/warehouse", "file:/a/warehouse/")
