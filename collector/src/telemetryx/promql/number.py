"""Numbers as texts, exactly as Prometheus' API writes them: one by one, and whole columns in C."""

import re
from typing import Final

import numpy as np
import orjson

from telemetryx.types import F64

_SMALLEST: Final = 1e-4
_LARGEST: Final = 1e16
_WHOLE = re.compile(rb"\.0(?=,|$)")


def text(value: float) -> str:
    """Write one number: the shortest digits that give it back."""
    if np.isnan(value):
        return "NaN"
    if np.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    size = abs(value)
    if size != 0 and (size < 1e-6 or size >= 1e21):  # noqa: PLR2004  where Prometheus changes the notation
        mantissa, _, exponent = np.format_float_scientific(value, trim="-").partition("e")
        return f"{mantissa}e{exponent}"
    return np.format_float_positional(value, trim="-")


def texts(values: F64) -> list[bytes]:
    """Write a column."""
    if not len(values):
        return []
    size = np.abs(values)
    with np.errstate(invalid="ignore"):
        plain = np.isfinite(values) & ((size == 0) | ((size >= _SMALLEST) & (size < _LARGEST)))
    written = orjson.dumps(np.where(plain, values, 0.0).tolist())[1:-1]
    out = _WHOLE.sub(b"", written).split(b",")
    for at in np.flatnonzero(~plain).tolist():
        out[at] = text(float(values[at])).encode()
    return out
