"""What JSON has no number for: NaN and infinities are null in a column, and beside it stands at which places what is.

So a chart's gap stays a gap, and who computes with an answer still learns that a percentile is infinite, or that a sum has a NaN in it. The words are those of
exports (`NaN`, `+Inf`, `-Inf`).
"""

import math
from collections.abc import Mapping
from typing import Any, Final, Literal

import numpy as np

Word = Literal["NaN", "+Inf", "-Inf"]
Special = dict[str, dict[str, Word]]
"""Of each column that has some, their places and what they are."""
COLUMNS: Final = ("values", "min", "max")


def word(value: float) -> Word | None:
    """Say what a value is, where it is no finite number."""
    if math.isfinite(value):
        return None
    return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"


def of(columns: Mapping[str, Any], gaps: Any = None) -> Special:  # noqa: ANN401 - columns, and a mask of them
    """Find them in columns; a gap is none."""
    found: Special = {}
    for name, column in columns.items():
        odd = ~np.isfinite(column)
        if gaps is not None:
            odd &= ~gaps
        if odd.any():
            found[name] = {str(at): _known(float(column[at])) for at in np.flatnonzero(odd).tolist()}
    return found


def _known(value: float) -> Word:
    found = word(value)
    assert found is not None  # noqa: S101 - it isn't finite
    return found
