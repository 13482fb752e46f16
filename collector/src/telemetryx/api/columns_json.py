"""JSON of answers with columns in them.

orjson writes NumPy's arrays by itself, and past the end of its buffer where many numbers are as long as numbers get, as the smallest one,
a common mark for "no value", is (3.13.0: the process dies). So the compiled module writes the two kinds of which answers have thousands, and
the rest are lists, which orjson writes by another path.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import orjson

from telemetryx.compiled import native
from telemetryx.errors import NotCompiled


@cache
def _writers() -> dict[np.dtype[Any], Callable[[Any], bytes]]:
    """Return what writes columns of a kind; nothing without the compiled module, or with an older one. Asked when there are columns."""
    try:
        module = native()
        return {np.dtype(np.int64): module.json_i64, np.dtype(np.float64): module.json_f64}
    except (NotCompiled, AttributeError):
        return {}


def dumps(answer: object) -> bytes:
    """Write it; arrays as lists, what is no finite number as null. Raises TypeError for what JSON doesn't have."""
    return orjson.dumps(answer, default=_written)


def _written(found: object) -> Any:  # noqa: ANN401 - whatever the array holds
    if isinstance(found, np.ndarray):
        writer = _writers().get(found.dtype) if found.ndim == 1 else None
        return found.tolist() if writer is None else orjson.Fragment(writer(found))
    if isinstance(found, np.generic):
        return found.tolist()
    raise TypeError(f"{type(found).__name__} has no JSON")
