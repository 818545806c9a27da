"""Names pyiceberg's row filters for callers that are type-checked.

They are pydantic models, and type checkers do not agree with pydantic about their arguments.
"""

from collections.abc import Callable

from pyiceberg.expressions import (
    And,
    BooleanExpression,
    EqualTo,
    GreaterThanOrEqual,
    In,
    IsNull,
    LessThan,
    LessThanOrEqual,
    NotNull,
    Or,
)

Filter = Callable[..., BooleanExpression]
"""Makes a filter of a column's name and values, or of other filters."""

all_of: Filter = And
any_of: Filter = Or
at_least: Filter = GreaterThanOrEqual
at_most: Filter = LessThanOrEqual
below: Filter = LessThan
equals: Filter = EqualTo
is_in: Filter = In
is_null: Filter = IsNull
not_null: Filter = NotNull
