"""What an operator does with two columns of numbers, as Go's float64 does."""

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from telemetryx.promql.data import Bools
from telemetryx.types import F64

_HALF: Final = 0.5


def _power(left: F64, right: F64) -> F64:
    """Raise to a power. NumPy takes a square root for 0.5, which isn't defined where the power is."""
    edge = (right == _HALF) & (np.isneginf(left) | (left == 0))
    return np.asarray(np.where(edge, np.abs(left), np.power(left, right)), np.float64)


ARITHMETIC: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
    "/": np.divide,
    "%": np.fmod,
    "^": _power,
    "atan2": np.arctan2,
}
COMPARISON: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "==": np.equal,
    "!=": np.not_equal,
    "<": np.less,
    ">": np.greater,
    "<=": np.less_equal,
    ">=": np.greater_equal,
}
SETS: Final = frozenset({"and", "or", "unless"})


def compute(op: str, left: F64, right: F64) -> F64:
    """Do arithmetic."""
    with np.errstate(all="ignore"):
        return np.asarray(ARITHMETIC[op](left, right), np.float64)


def compare(op: str, left: F64, right: F64) -> Bools:
    """Compare; NaN is unequal to everything."""
    with np.errstate(invalid="ignore"):
        return np.asarray(COMPARISON[op](left, right), np.bool_)
