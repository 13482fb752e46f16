"""The loss ledger, as people see it, and the two sums that must hold in it."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping

from tests.harness.processes import PATIENCE, until
from tests.harness.stack import ROOT, Agent, Collector

#: What became of shipped readings that are not stored.
LOST = ("expired", "overflowed", "damaged", "refused", "refused_series_limit")


def ledger(collector: Collector, agent: str = "edge") -> dict[str, int]:
    """Return the counts of one agent by cause, over REST."""
    return {row["cause"]: row["count"] for row in collector.get("/api/v1/loss", agent=agent)["loss"]}


def printed(collector: Collector, agent: str = "edge") -> dict[str, int]:
    """Return the same from `telemetryx loss --json`."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "telemetryx", "loss", "--json", "--agent", agent),
            *("--url", f"http://127.0.0.1:{collector.http}"),
        ],
        env={**os.environ, "PYTHONPATH": str(ROOT / "collector/src")},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    return {row["cause"]: row["count"] for row in json.loads(done.stdout)["loss"]}


def total(counts: Mapping[str, int], kind: str) -> int:
    """Add up the causes of a kind, such as `rejected`."""
    return sum(count for cause, count in counts.items() if cause == kind or cause.startswith(f"{kind}_"))


def sums(counts: Mapping[str, int]) -> tuple[int, int]:
    """Return by how much each sum is off: what came in against what was shipped, and shipped against stored and lost."""
    left = sum(total(counts, kind) for kind in ("rejected", "deduplicated", "reduced", "shipped"))
    return (
        counts.get("received", 0) + counts.get("derived", 0) - left,
        counts.get("shipped", 0) - counts.get("stored", 0) - sum(counts.get(cause, 0) for cause in LOST),
    )


def settled(collector: Collector, agent: Agent, received: int) -> dict[str, int]:
    """Wait until so many received readings are accounted for and nothing is in flight; both sums must hold then."""
    agent.wait_drained()
    until(
        f"{received} readings in the ledger",
        lambda: ledger(collector, agent.name).get("received", 0) >= received,
    )
    agent.wait_drained()
    counts = ledger(collector, agent.name)
    assert sums(counts) == (0, 0), counts
    assert printed(collector, agent.name) == counts
    return counts
