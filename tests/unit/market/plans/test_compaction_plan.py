"""Which files are put together: properties over any files, and examples of what a day looks like."""

from dataclasses import replace
from datetime import date, timedelta

from hypothesis import given
from hypothesis import strategies as st

from k2_market.plans.compaction_plan import (
    MOST_ROWS_PER_COMMIT,
    TARGET_BYTES,
    TARGET_ROWS,
    CompactionPlan,
    FileFacts,
    FileGroup,
    plan_compaction,
)

MONDAY = date(2026, 11, 23)
DAYS = [MONDAY + timedelta(days=number) for number in range(4)]
CLOSED = frozenset(DAYS[:3])

sizes = st.one_of(st.integers(1, 50_000), st.integers(1, TARGET_ROWS * 2))
facts = st.builds(
    FileFacts,
    path=st.uuids().map(str),
    day=st.sampled_from(DAYS),
    rows=sizes,
    bytes=st.integers(1, TARGET_BYTES),
    sequence=st.integers(1, 50),
)
some_files = st.lists(facts, max_size=60, unique_by=lambda each: each.path)


def file(rows: int, *, day: date = MONDAY, sequence: int = 1, size: int = 1000) -> FileFacts:
    return FileFacts(f"{day}/{sequence}-{rows}", day, rows, size, sequence)


def carried_out(files: list[FileFacts], plan: CompactionPlan) -> list[FileFacts]:
    """The files after a plan, each group one file of the same rows and bytes, of a new commit."""
    gone = {each.path for group in plan.groups for each in group.files}
    sequence = max(each.sequence for each in files) + 1
    made = [
        FileFacts(f"made-{sequence}-{number}", group.day, group.rows, group.bytes, sequence)
        for number, group in enumerate(plan.groups)
    ]
    return [each for each in files if each.path not in gone] + made


@given(some_files)
def test_each_file_is_in_one_group_at_most_with_others_of_its_own_closed_day(files: list[FileFacts]) -> None:
    plan = plan_compaction(files, CLOSED)
    taken = [each for group in plan.groups for each in group.files]
    assert len({each.path for each in taken}) == len(taken)
    assert set(taken) <= set(files)
    for group in plan.groups:
        assert len(group.files) > 1
        assert {each.day for each in group.files} == {group.day} <= CLOSED
        assert not any(each.is_full for each in group.files)


@given(some_files)
def test_no_file_grows_past_the_target_and_no_commit_past_its_limit_by_more_than_its_first_group(
    files: list[FileFacts],
) -> None:
    plan = plan_compaction(files, CLOSED)
    assert all(group.rows <= TARGET_ROWS and group.bytes <= TARGET_BYTES for group in plan.groups)
    assert sum(group.rows for group in plan.groups[1:]) <= MOST_ROWS_PER_COMMIT


@given(some_files)
def test_commit_after_commit_comes_to_an_end_after_which_nothing_is_to_be_done(files: list[FileFacts]) -> None:
    rows = sum(each.rows for each in files)
    while (plan := plan_compaction(files, CLOSED)).groups:
        fewer = carried_out(files, plan)
        assert len(fewer) < len(files)
        files = fewer
    assert plan.groups_left == 0
    assert sum(each.rows for each in files) == rows


@given(some_files)
def test_a_day_that_was_compacted_has_one_file_at_most_that_is_not_full(files: list[FileFacts]) -> None:
    files = [replace(each, bytes=each.rows) for each in files]  # so that rows alone decide
    while (plan := plan_compaction(files, CLOSED)).groups:
        files = carried_out(files, plan)
    for day in CLOSED:
        assert sum(not each.is_full for each in files if each.day == day) <= 1


@given(some_files, st.randoms())
def test_the_order_in_which_files_are_given_changes_nothing(files: list[FileFacts], random) -> None:  # type: ignore[no-untyped-def]
    shuffled = random.sample(files, len(files))
    assert plan_compaction(shuffled, CLOSED) == plan_compaction(files, CLOSED)


def test_a_days_many_small_files_become_one_in_the_order_of_their_commits() -> None:
    files = [file(10, sequence=number) for number in (3, 1, 2)]
    (group,) = plan_compaction(files, CLOSED).groups
    assert group == FileGroup(MONDAY, (files[1], files[2], files[0]))


def test_the_day_under_way_is_left_alone() -> None:
    files = [file(10, day=DAYS[3], sequence=number) for number in range(5)]
    assert plan_compaction(files, CLOSED) == CompactionPlan()


def test_a_single_late_file_beside_a_full_one_is_left_until_there_is_another() -> None:
    full, late, later = file(TARGET_ROWS), file(5, sequence=2), file(6, sequence=3)
    assert plan_compaction([full, late], CLOSED).groups == ()
    assert plan_compaction([full, late, later], CLOSED).groups == (FileGroup(MONDAY, (late, later)),)


def test_the_latest_day_comes_first_and_what_is_too_much_for_one_commit_is_counted() -> None:
    files = [file(TARGET_ROWS // 2 - 1, day=day, sequence=number) for day in DAYS[:3] for number in (1, 2)]
    plan = plan_compaction(files, CLOSED)
    assert plan.days == (DAYS[1], DAYS[2])
    assert plan.groups[0].day == DAYS[2]
    assert plan.groups_left == 1
