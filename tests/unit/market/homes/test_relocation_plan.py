"""What becomes of a catalog's tables when their home was moved or copied to another place."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2_market.homes.relocation_plan import Action, Decision, TableFacts, decide, decide_all

OURS, THEIRS = "sqlite:/b/catalog.db", "sqlite:/a/catalog.db"
FACTS = st.builds(
    TableFacts,
    name=st.just("asx.trades"),
    place=st.just("file:///a/warehouse/asx/trades"),
    lies_inside=st.booleans(),
    marked_by=st.sampled_from([None, OURS, THEIRS]),
    other_in_use=st.sampled_from([None, True, False]),
    shared=st.booleans(),
    missing=st.sampled_from(["", "/b/1.parquet is not there"]),
)


def facts(
    *, inside: bool = False, marked: str | None = THEIRS, used: bool | None = True, shared: bool = False, gone: str = ""
) -> TableFacts:
    return TableFacts("asx.trades", "file:///a/warehouse/asx/trades", inside, marked, used, shared, gone)


@given(FACTS, st.booleans())
def test_files_that_another_catalog_may_use_are_taken_over_only_when_it_is_gone_or_we_are_told_so(
    found: TableFacts, take_over: bool
) -> None:
    decision = decide(found, OURS, take_over=take_over)
    changed = decision.refusal is None and decision.action is not Action.LEAVE
    same_files = found.lies_inside or found.shared
    if changed and same_files and found.marked_by == THEIRS:
        assert take_over or found.other_in_use is False


@given(FACTS, st.booleans())
def test_a_table_is_changed_only_if_all_of_its_files_are_here(found: TableFacts, take_over: bool) -> None:
    decision = decide(found, OURS, take_over=take_over)
    if found.missing and decision.action is not Action.LEAVE:
        pytest.fail(f"{decision} though files are missing")
    if found.missing and not (found.lies_inside and found.marked_by in (None, OURS)):
        assert decision.refusal is not None
        assert found.missing in decision.refusal


@given(FACTS, st.booleans())
def test_a_table_whose_metadata_names_another_place_is_written_anew_or_refused(
    found: TableFacts, take_over: bool
) -> None:
    decision = decide(found, OURS, take_over=take_over)
    if not found.lies_inside:
        assert decision.refusal is not None or decision.action is Action.MOVE
    else:
        assert decision.action is not Action.MOVE


@pytest.mark.parametrize("marked", [None, OURS])
def test_our_own_table_in_our_warehouse_is_left_as_it_is(marked: str | None) -> None:
    assert decide(facts(inside=True, marked=marked), OURS, take_over=True) == Decision("asx.trades")


def test_a_copy_of_anothers_table_is_moved_without_a_question() -> None:
    assert decide(facts(), OURS, take_over=False).action is Action.MOVE


@pytest.mark.parametrize("place", [{"inside": True}, {"shared": True}])
@pytest.mark.parametrize(("used", "why"), [(True, "is still there"), (None, "can't be asked from here")])
def test_another_catalogs_files_are_refused_by_its_name_and_by_what_is_known_of_it(
    place: dict[str, bool], used: bool | None, why: str
) -> None:
    refusal = decide(facts(used=used, **place), OURS, take_over=False).refusal
    assert refusal is not None
    for part in ("asx.trades", THEIRS, why, "k2 relocate --take-over"):
        assert part in refusal


def test_all_tables_are_decided_about_in_their_order() -> None:
    found = [facts(), facts(inside=True, marked=OURS), facts(gone="x is not there")]
    decisions = decide_all(found, OURS, take_over=False)
    assert [each.action for each in decisions[:2]] == [Action.MOVE, Action.LEAVE]
    assert decisions[2].refusal is not None
