"""Decides how often an open day's raw rows are checked: at every run while they are few, then less often (#040).

The checks read all of a day, so at every run they would cost more and more. They are due when much is new, and else
after a rest that grows with the day.
"""

from datetime import timedelta

FEW_ROWS = 2_000_000
"""Checked in about a second."""

_NEW_PART = 5
_REST_A_ROW = timedelta(microseconds=10)
"""Some twenty times what it takes to check a row: a core gives a twentieth of its time, however large the day."""

_LONGEST_REST = timedelta(minutes=15)
"""Half of what a day gets between its close and its build (``build_plan.GRACE``), so that it is checked in between."""


def checked_with_its_run(rows: int, new: int) -> bool:
    """Say whether the run that adds rows to an open day also checks the day.

    Args:
        rows: Those that the day has before.
        new: Those that the run will add, about.
    """
    return rows + new <= FEW_ROWS or new * _NEW_PART >= rows


def rest_of(rows: int) -> timedelta:
    """Tell how long an open day of so many rows rests between two checks."""
    return min(rows * _REST_A_ROW, _LONGEST_REST)
