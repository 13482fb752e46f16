"""`> 80`: the condition of a rule, applied to a whole column at once."""

import math
import re
from typing import Any, Final, Literal, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from telemetryx.types import F64

Op = Literal[">", ">=", "<", "<=", "==", "!="]

_TEXT: Final = re.compile(
    r"\s*(>=|<=|==|!=|>|<)\s*([+-]?[0-9][0-9_]*(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)\s*", re.ASCII
)
_CALLS: Final[dict[str, Any]] = {
    ">": np.greater,
    ">=": np.greater_equal,
    "<": np.less,
    "<=": np.less_equal,
    "==": np.equal,
    "!=": np.not_equal,
}


class Comparison(NamedTuple):
    """An operator and a threshold."""

    op: Op
    threshold: float

    @classmethod
    def parse(cls, text: object) -> "Comparison":
        """Read one, or raise ValueError with how it is written."""
        match = _TEXT.fullmatch(text) if isinstance(text, str) else None
        if match is None:
            raise ValueError(
                'a comparison is an operator (> >= < <= == !=) and a number, in quotes, like "> 80"'
            )
        threshold = float(match[2])
        if not math.isfinite(threshold):
            raise ValueError(f"the threshold {match[2]} is too large for a number")
        return cls(cast("Op", match[1]), threshold)

    def __str__(self) -> str:
        """Write it as in a file."""
        return f"{self.op} {self.threshold!r}".removesuffix(".0")

    def holds(self, values: F64) -> NDArray[np.bool_]:
        """Compare a column; NaN meets nothing but `!=`."""
        return cast("NDArray[np.bool_]", _CALLS[self.op](values, self.threshold))

    def overlaps(self, other: "Comparison") -> bool:
        """Whether some value meets both: then an alert could recover and start again on the same value."""
        edges = (self.threshold, other.threshold)
        beside = [math.nextafter(edge, side) for edge in edges for side in (-math.inf, math.inf)]
        probes = np.array([*edges, *beside, self.threshold / 2 + other.threshold / 2, -math.inf, math.inf])
        return bool(np.any(self.holds(probes) & other.holds(probes)))
