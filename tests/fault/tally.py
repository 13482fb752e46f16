"""Counts that add up over several runs, kept in a file: what a thousand rounds came to need not be found in one sitting.

Each run is entered by itself, with its seed and the program it was about, so that a sum can be told from what it hides.
"""

import argparse
import json
import subprocess
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from tests.harness.processes import PATIENCE
from tests.harness.stack import AGENT, ROOT

#: What must be 0 for a run to be good, whatever else it counted.
MUST_BE_ZERO = (
    "acknowledged_and_lost",
    "stored_twice",
    "failures_to_start",
    "books_off",
    "died",
    "stuck",
    "other_answers",
)


class Tally:
    """The runs of one kind of fault; `add` writes at once."""

    def __init__(self, path: Path, *, fresh: bool = False) -> None:
        """Read what earlier runs left, or forget it."""
        self._path = path
        self.runs: list[dict[str, object]] = []
        if path.exists() and not fresh:
            self.runs = json.loads(path.read_text())["runs"]
        self._first = len(self.runs)

    def add(self, seed: int, counts: Mapping[str, int]) -> None:
        """Enter a run."""
        self.runs.append({"seed": seed, "agent": version(), "counts": dict(counts)})
        self._path.parent.mkdir(parents=True, exist_ok=True)
        new = self._path.with_suffix(".new")
        new.write_text(json.dumps({"runs": self.runs}, indent=1) + "\n")
        new.rename(self._path)

    def now(self) -> Counter[str]:
        """Return the sums of what was added since the start."""
        return _sums(self.runs[self._first :])

    def total(self) -> Counter[str]:
        """Return the sums of all runs."""
        return _sums(self.runs)

    def show(self, *, as_json: bool) -> None:
        """Print this run and all runs beside each other."""
        now, total = self.now(), self.total()
        if as_json:
            print(json.dumps({"run": now, "total": total, "state": str(self._path)}))
            return
        print(f"{'':28}{'this run':>14}{'all runs':>14}")
        for name in total:
            print(f"{name.replace('_', ' '):28}{now[name]:>14,}{total[name]:>14,}")
        print(f"kept in {self._path}; --fresh forgets earlier runs")

    def verdict(self) -> int:
        """Return the exit code: 0 unless something that must be 0 isn't, in any of the runs."""
        total = self.total()
        return int(any(total[name] for name in MUST_BE_ZERO))


def _sums(runs: list[dict[str, object]]) -> Counter[str]:
    found: Counter[str] = Counter()
    for run in runs:
        counts = run["counts"]
        assert isinstance(counts, dict)
        # Counter.update would be right too, but this keeps names whose count is 0, and their order.
        for name, count in counts.items():
            found[name] += count
    return found


def version() -> str:
    """Name the agent that is tried."""
    done = subprocess.run([AGENT, "--version"], capture_output=True, text=True, timeout=PATIENCE, check=False)
    return done.stdout.strip()


def options(kind: str, doc: str | None) -> argparse.ArgumentParser:
    """Give the options that every kind with rounds has."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20, help="how often (20)")
    parser.add_argument("--seed", type=int, help="of every random choice; by default another each time")
    state = ROOT / f".cache/fault/{kind}.json"
    parser.add_argument("--state", type=Path, default=state, help=f"where counts add up ({state})")
    parser.add_argument("--fresh", action="store_true", help="forget what earlier runs counted")
    parser.add_argument("--json", action="store_true", help="print the counts as JSON")
    return parser
