"""Zeros below nothing: SQLite keeps a whole number in a REAL column as an integer, and of integers there is no -0.0.

So it stands there as the eight bytes that IEEE 754 has for it, a BLOB. To SQL's arithmetic that is 0; what compares values casts
them (`number`), for SQLite takes every BLOB for greater than every number. PostgreSQL keeps all bits, and has none of these.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

from telemetryx.types import F64

MINUS_ZERO: Final = b"\x80\0\0\0\0\0\0\0"
Reals = Callable[[F64], list[Any]]
"""Makes Python values of a column, as an engine's tables take them."""
_SIGN: Final = np.iinfo(np.int64).min
"""The bits of -0.0."""


def below(column: F64) -> Any:  # noqa: ANN401 - a mask
    """Return which items are -0.0."""
    return np.ascontiguousarray(column).view(np.int64) == _SIGN


def marked(column: F64) -> list[Any]:
    """Return a column for SQLite."""
    values: list[Any] = column.tolist()
    for at in np.flatnonzero(below(column)).tolist():
        values[at] = MINUS_ZERO
    return values


def plain(column: F64) -> list[Any]:
    """Return a column for an engine that keeps every bit."""
    values: list[Any] = column.tolist()
    return values


def read(column: Sequence[Any]) -> F64:
    """Take a column of rows, whichever engine they are of. NULL is NaN."""
    try:
        return np.array(column, np.float64)
    except (ValueError, TypeError):
        return np.array([value(one) for one in column], np.float64)


def value(one: Any) -> float:  # noqa: ANN401 - what a REAL column gives
    """Take one value of a row."""
    if one is None:
        return float("nan")
    return -0.0 if one == MINUS_ZERO else float(one)


def number(column: str) -> str:
    """Return an expression that compares as the number that it stands for."""
    return f"CAST({column} AS DOUBLE PRECISION)"


def is_below(column: str) -> str:
    """Return a condition: it is -0.0. Its text is what tells it from 0.0 in both engines."""
    return f"({number(column)} = 0 AND CAST({column} AS TEXT) NOT IN ('0', '0.0'))"
