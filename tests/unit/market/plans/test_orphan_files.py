"""Which files may be deleted, over histories of a table: none that is needed, and in the end all that are not."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from k2_market.plans.orphan_files import (
    FileListing,
    Mark,
    Marks,
    StoredFile,
    SweepPlan,
    marks_from_json,
    marks_to_json,
    plan_sweep,
)

START = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)
FLOOR = timedelta(hours=24)


@dataclass(frozen=True)
class Seen:
    """A look and what came of it."""

    look: FileListing
    sweep: SweepPlan


@st.composite
def histories(draw: st.DrawFn) -> list[Seen]:
    """Looks at a table, some hours apart, whose files come, lose their references and get them again."""
    seen: list[Seen] = []
    marks: Marks = {}
    now, snapshot_id, deleted = START, 1, set[str]()
    names = [f"data/{n}.parquet" for n in range(5)]
    written = {name: START + timedelta(hours=draw(st.integers(0, 60))) for name in names}
    for _ in range(draw(st.integers(1, 8))):
        now += timedelta(hours=draw(st.integers(1, 30)))
        snapshot_id += draw(st.integers(0, 1))
        files = tuple(StoredFile(name, 10, at) for name, at in written.items() if at <= now and name not in deleted)
        look = FileListing(now, files, draw(st.frozensets(st.sampled_from(names))), snapshot_id)
        planned = plan_sweep(look, marks, FLOOR)
        seen.append(Seen(look, planned))
        if draw(st.booleans()):  # else the cleaner was killed before it wrote its marks
            marks = planned.marks
        deleted |= {each.path for each in planned.deletable if draw(st.booleans())}
    return seen


@given(histories())
def test_every_file_is_deleted_marked_or_kept(history: list[Seen]) -> None:
    for each in history:
        parts = [*each.sweep.deletable, *each.sweep.resting, *each.sweep.kept]
        assert sorted(parts, key=lambda file: file.path) == sorted(each.look.files, key=lambda file: file.path)
        assert set(each.sweep.held) <= set(each.sweep.resting)
        assert {file.path for file in each.sweep.resting} == set(each.sweep.marks)


@given(histories())
def test_no_file_is_deleted_that_the_table_refers_to_or_that_is_young(history: list[Seen]) -> None:
    for each in history:
        for file in each.sweep.deletable:
            assert file.path not in each.look.reachable
            assert file.modified <= each.look.now - FLOOR


@settings(max_examples=300)
@given(histories())
def test_a_file_is_deleted_only_when_an_earlier_look_found_it_so_and_a_commit_came_since(history: list[Seen]) -> None:
    for number, each in enumerate(history):
        for file in each.sweep.deletable:
            earlier = [
                before.look
                for before in history[:number]
                if before.look.now <= each.look.now - FLOOR
                and file in before.look.files
                and file.path not in before.look.reachable
            ]
            assert any(before.snapshot_id != each.look.snapshot_id for before in earlier)


ORPHAN = StoredFile("data/orphan.parquet", 100, START)


def looked(
    hours: float, snapshot_id: int, *, files: tuple[StoredFile, ...] = (ORPHAN,), reachable: str = ""
) -> FileListing:
    return FileListing(START + timedelta(hours=hours), files, frozenset({reachable}), snapshot_id)


def test_an_orphan_is_marked_then_rests_then_goes() -> None:
    first = plan_sweep(looked(30, 1), {}, FLOOR)
    assert (first.deletable, first.resting) == ((), (ORPHAN,))
    assert plan_sweep(looked(53.9, 2), first.marks, FLOOR).deletable == ()
    assert plan_sweep(looked(54, 2), first.marks, FLOOR).deletable == (ORPHAN,)


def test_a_file_that_was_taken_into_the_table_meanwhile_is_kept_and_its_mark_forgotten() -> None:
    first = plan_sweep(looked(30, 1), {}, FLOOR)
    second = plan_sweep(looked(60, 2, reachable=ORPHAN.path), first.marks, FLOOR)
    assert (second.kept, dict(second.marks)) == ((ORPHAN,), {})


def test_without_a_commit_since_it_was_marked_a_file_waits_for_one_that_may_be_stopped() -> None:
    first = plan_sweep(looked(30, 1), {}, FLOOR)
    second = plan_sweep(looked(60, 1), first.marks, FLOOR)
    assert (second.deletable, second.held) == ((), (ORPHAN,))
    assert plan_sweep(looked(61, 2), second.marks, FLOOR).deletable == (ORPHAN,)


def test_a_file_written_under_the_name_of_another_is_not_taken_for_that_one() -> None:
    first = plan_sweep(looked(30, 1), {}, FLOOR)
    again = replace(ORPHAN, modified=START + timedelta(hours=31))
    assert plan_sweep(looked(56, 2, files=(again,)), first.marks, FLOOR).deletable == ()


def test_a_mark_from_the_future_is_made_anew() -> None:
    marks = {ORPHAN.path: Mark(START + timedelta(hours=100), 1)}
    assert plan_sweep(looked(60, 2), marks, FLOOR).marks == {ORPHAN.path: Mark(START + timedelta(hours=60), 2)}


marks_of_any_table = st.dictionaries(
    st.text(max_size=20),
    st.builds(
        Mark,
        st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)),
        st.none() | st.integers(0, 2**63 - 1),
    ),
    max_size=5,
)


@given(marks_of_any_table)
def test_the_text_of_marks_is_the_same_marks_again(marks: Marks) -> None:
    assert marks_from_json(marks_to_json(marks)) == marks


@given(marks_of_any_table, st.integers(0, 500))
def test_a_text_that_was_not_written_to_its_end_is_no_marks(marks: Marks, length: int) -> None:
    text = marks_to_json(marks)
    assert marks_from_json(text[: min(length, len(text) - 1)]) == {}


@pytest.mark.parametrize("text", ["", "[]", "null", '{"version":2,"marks":{}}', '{"version":1,"marks":{"a":"b"}}'])
def test_what_is_no_text_of_marks_is_none(text: str) -> None:
    assert marks_from_json(text) == {}
