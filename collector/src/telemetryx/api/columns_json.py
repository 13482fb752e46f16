"""JSON of answers with columns in them.

orjson writes NumPy's arrays by itself, and past the end of its buffer where many numbers are as long as numbers get, as the smallest one,
a common mark for "no value", is (3.13.0: the process dies). As lists they are written by another path of it, which asks for enough room.
"""

from typing import Any

import numpy as np
import orjson


def dumps(answer: object) -> bytes:
    """Write it; arrays as lists, what is no finite number as null. Raises TypeError for what JSON doesn't have."""
    return orjson.dumps(answer, default=_listed)


def _listed(found: object) -> Any:  # noqa: ANN401 - whatever the array holds
    if isinstance(found, np.ndarray | np.generic):
        return found.tolist()
    raise TypeError(f"{type(found).__name__} has no JSON")
