"""How old samples are when they are stored: a histogram over the life of the process, from which quantiles are read.

Only live data counts (younger than a minute): a backlog's age says how long the link was down, not how fast we are.
"""

from typing import Final

import numpy as np

from telemetryx.api.metrics import Metric, Reading
from telemetryx.types import Committed

LIVE_NS: Final = 60_000_000_000
#: Bin edges from 0.01 ms to 60 s, 5 % apart: a quantile is off by at most that.
_EDGES: Final = np.geomspace(1e4, LIVE_NS, 320)
QUANTILES: Final = (0.5, 0.9, 0.99)


class Delay:
    """Counts of samples by the time between being measured and being committed."""

    def __init__(self) -> None:
        """Begin with none."""
        self._counts = np.zeros(len(_EDGES) + 1, np.int64)

    def committed(self, committed: Committed) -> None:
        """Count a commit's samples. A clock that runs ahead gives negative ages: they count as the shortest."""
        if committed.received_ns - committed.t1_ns > LIVE_NS or not len(committed.samples):
            return
        ages = committed.received_ns - committed.samples.times
        live = ages[ages <= LIVE_NS]
        self._counts += np.bincount(np.searchsorted(_EDGES, live), minlength=len(self._counts))

    def quantile_ns(self, quantile: float) -> float | None:
        """Return the age that this share of samples stays below; None before the first."""
        total = int(self._counts.sum())
        if total == 0:
            return None
        at = int(np.searchsorted(np.cumsum(self._counts), quantile * total))
        return float(_EDGES[min(at, len(_EDGES) - 1)])

    def readings(self) -> list[tuple[Metric, list[Reading]]]:
        """Show the quantiles."""
        found = [(quantile, self.quantile_ns(quantile)) for quantile in QUANTILES]
        return [(Metric.DELAY, [((str(quantile),), age / 1e9) for quantile, age in found if age is not None])]

    def totals(self) -> dict[str, float]:
        """Show them as /api/v1/status does."""
        found = {f"delay_p{round(quantile * 100)}_ms": self.quantile_ns(quantile) for quantile in QUANTILES}
        return {name: age / 1e6 for name, age in found.items() if age is not None}
