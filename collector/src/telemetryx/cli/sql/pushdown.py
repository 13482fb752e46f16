"""What a statement's conditions say about rows that needn't be read: Polars hands them to the tables, which read less.

Only what is certain is used: a condition is a conjunction of parts, and a part counts when it compares a column with a value, or is
about a series alone. All conditions are applied to what was read anyway, so a part that isn't understood costs time and no row.
"""

import operator
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, Final, TypeAlias

import polars as pl

Expression: TypeAlias = Any
"""An expression of Polars, untyped here."""
Span = tuple[int, int]

TIME: Final = pl.Datetime("ns", "UTC")
_COMPARE: Final[tuple[Callable[[Any, Any], Any], ...]] = (
    operator.gt,
    operator.ge,
    operator.lt,
    operator.le,
    operator.eq,
)
_TURNED: Final = {
    operator.gt: operator.lt,
    operator.ge: operator.le,
    operator.lt: operator.gt,
    operator.le: operator.ge,
    operator.eq: operator.eq,
}
_LAST: Final = 2**63 - 1


def parts(condition: Expression | None) -> list[Expression]:
    """Take a conjunction apart."""
    if condition is None:
        return []
    inputs = condition.meta.pop()
    if len(inputs) == 2:  # noqa: PLR2004  an operator's two sides
        for one, other in (inputs, inputs[::-1]):
            if (one & other).meta.eq(condition):
                return parts(one) + parts(other)
    return [condition]


def about(conditions: Sequence[Expression], columns: Collection[str]) -> list[Expression]:
    """Return the parts that need no column but these."""
    return [one for one in conditions if (roots := set(one.meta.root_names())) and roots <= set(columns)]


def span(conditions: Sequence[Expression], column: str, within: Span) -> Span:
    """Narrow [start, end) by what is said about a column of times."""
    start, end = within
    for compare, value in _compared(conditions, column, TIME):
        at = min(value, _LAST - 1)
        if compare in {operator.gt, operator.ge, operator.eq}:
            start = max(start, at + 1 if compare is operator.gt else at)
        if compare in {operator.lt, operator.le, operator.eq}:
            end = min(end, at if compare is operator.lt else at + 1)
    return start, max(start, end)


def equal(conditions: Sequence[Expression], column: str) -> str | None:
    """Return the text that a column must equal."""
    found = (value for compare, value in _compared(conditions, column, pl.String) if compare is operator.eq)
    return next(found, None)


def at_least(conditions: Sequence[Expression], column: str) -> int:
    """Return the least that a column of whole numbers must be; 0 when nothing is said."""
    least = 0
    for compare, value in _compared(conditions, column, pl.Int64):
        if compare in {operator.gt, operator.ge, operator.eq}:
            least = max(least, value + 1 if compare is operator.gt else value)
    return least


def _compared(
    conditions: Sequence[Expression],
    column: str,
    kind: Any,  # noqa: ANN401  a type of Polars
) -> Iterator[tuple[Callable[[Any, Any], Any], Any]]:
    """Give how the column itself is compared with values: as `column OP value`, whichever side it stood on."""
    for condition in about(conditions, {column}):
        inputs = condition.meta.pop()
        if len(inputs) != 2:  # noqa: PLR2004
            continue
        ours = [one for one in inputs if one.meta.eq(pl.col(column))]
        others = [one for one in inputs if not one.meta.root_names()]
        if len(ours) != 1 or len(others) != 1:
            continue
        for compare in _COMPARE:
            straight = compare(ours[0], others[0]).meta.eq(condition)
            if straight or compare(others[0], ours[0]).meta.eq(condition):
                value = _value(others[0], kind)
                if value is not None:
                    yield (compare if straight else _TURNED[compare]), value
                break


def _value(literal: Expression, kind: Any) -> Any:  # noqa: ANN401
    """Evaluate a literal as the column's type; None when it isn't one value of it."""
    try:
        found = pl.select(literal).to_series()
        if (found.dtype == pl.String) != (kind == pl.String) or len(found) != 1:
            return None
        if kind != TIME:
            return found.cast(kind, strict=True).item() if found.dtype != pl.Float64 else None
        if not isinstance(found.dtype, pl.Datetime):
            return None
        return found.cast(kind).cast(pl.Int64).item()
    except pl.exceptions.PolarsError:
        return None
