"""Functions of each value by itself: mathematics, and parts of a date."""

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from telemetryx.types import F64

_MATH: Final[dict[str, Callable[[Any], Any]]] = {
    "abs": np.abs,
    "ceil": np.ceil,
    "floor": np.floor,
    "exp": np.exp,
    "ln": np.log,
    "log2": np.log2,
    "log10": np.log10,
    "sqrt": np.sqrt,
    "sgn": np.sign,
    "deg": np.degrees,
    "rad": np.radians,
    "sin": np.sin,
    "cos": np.cos,
    "tan": np.tan,
    "asin": np.arcsin,
    "acos": np.arccos,
    "atan": np.arctan,
    "sinh": np.sinh,
    "cosh": np.cosh,
    "tanh": np.tanh,
    "asinh": np.arcsinh,
    "acosh": np.arccosh,
    "atanh": np.arctanh,
}
_LAST_SECOND: Final = 9.2e9
"""Dates beyond this one (the year 2261) have no parts here."""


def element(name: str, values: F64) -> F64:
    """Apply a mathematical function."""
    with np.errstate(all="ignore"):
        return np.asarray(_MATH[name](values), np.float64)


def rounded(values: F64, nearest: F64) -> F64:
    """Round to multiples; halves go up."""
    with np.errstate(all="ignore"):
        # As Prometheus does: the inverse keeps 0.1 and the like exact.
        inverse = 1.0 / nearest
        return np.asarray(np.floor(values * inverse + 0.5) / inverse, np.float64)


def clamped(values: F64, low: F64, high: F64) -> F64:
    """Keep between two bounds; a bound that is NaN gives NaN, but for what no number is beyond: Go's maximum of NaN and +Inf is +Inf."""
    with np.errstate(all="ignore"):
        least = np.where(np.isneginf(high) | np.isneginf(values), -np.inf, np.minimum(high, values))
        return np.asarray(
            np.where(np.isposinf(low) | np.isposinf(least), np.inf, np.maximum(low, least)), np.float64
        )


def date_part(name: str, seconds: F64) -> F64:
    """Return a part of a time in UTC."""
    known = np.abs(seconds) < _LAST_SECOND
    whole = np.where(known, np.nan_to_num(np.trunc(seconds)), 0).astype(np.int64).astype("datetime64[s]")
    return np.where(known, _DATES[name](whole), np.nan)


def _since(unit: str, moments: Any) -> Any:  # noqa: ANN401  NumPy's dates have no useful type
    return moments.astype(f"datetime64[{unit}]")


_DATES: Final[dict[str, Callable[[Any], Any]]] = {
    "minute": lambda at: (at.astype(np.int64) // 60) % 60,
    "hour": lambda at: (at.astype(np.int64) // 3_600) % 24,
    # 1970-01-01 was a Thursday, the fourth day after Sunday.
    "day_of_week": lambda at: (_since("D", at).astype(np.int64) + 4) % 7,
    "day_of_month": lambda at: (
        (_since("D", at) - _since("M", at).astype("datetime64[D]")).astype(np.int64) + 1
    ),
    "day_of_year": lambda at: (
        (_since("D", at) - _since("Y", at).astype("datetime64[D]")).astype(np.int64) + 1
    ),
    "days_in_month": lambda at: (
        (_since("M", at) + 1).astype("datetime64[D]") - _since("M", at).astype("datetime64[D]")
    ).astype(np.int64),
    "month": lambda at: _since("M", at).astype(np.int64) % 12 + 1,
    "year": lambda at: _since("Y", at).astype(np.int64) + 1_970,
}
