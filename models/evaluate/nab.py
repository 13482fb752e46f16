"""Measures the model family on NAB: `python models/evaluate/nab.py FOLDER` (with realKnownCause/ and combined_windows.json).

For each series: trained on the first 15 % (NAB's own probation), then how many labelled windows hold an alarm, and how
often it alarms outside them. The data is given by the caller and none of it is kept here.
"""

import argparse
import csv
import json
import sys
from datetime import datetime
from pathlib import Path

import numpy as np
from telemetryx.training.train import Options

from lags import distances, lagged, runs

LAGS = 12
OPTIONS = Options(min_rows=200)


def read(path: Path) -> tuple[list[datetime], np.ndarray]:
    """Return times and values of one series."""
    with path.open() as file:
        rows = list(csv.DictReader(file))
    return [datetime.fromisoformat(row["timestamp"]) for row in rows], np.asarray(
        [float(r["value"]) for r in rows]
    )


def main() -> int:
    """Print one line a series, and the sum."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    windows = json.loads((folder / "combined_windows.json").read_text())
    found_all = labelled_all = false_all = 0
    print(f"{'series':<48} {'windows found':>14} {'false alarms':>13} {'a 1,000 points':>15}")
    for path in sorted((folder / "realKnownCause").glob("*.csv")):
        times, values = read(path)
        rows = lagged(values, LAGS)
        calm = int(0.15 * len(values))
        scores = np.concatenate([np.zeros(LAGS - 1), distances(rows[: calm - LAGS + 1], rows, OPTIONS)])
        scores[:calm] = 0.0
        above = scores > 1.0
        found, inside = 0, np.zeros(len(values), dtype=bool)
        labelled = windows[f"realKnownCause/{path.name}"]
        for first, last in labelled:
            span = np.asarray(
                [datetime.fromisoformat(first) <= t <= datetime.fromisoformat(last) for t in times]
            )
            inside |= span
            found += bool(np.any(above & span))
        false = sum(1 for start, stop in runs(above) if not inside[start:stop].any())
        print(
            f"{path.name:<48} {found:>7} of {len(labelled):>3} {false:>13} {1000 * false / len(values):>15.2f}"
        )
        found_all, labelled_all, false_all = (
            found_all + found,
            labelled_all + len(labelled),
            false_all + false,
        )
    print(f"{'all':<48} {found_all:>7} of {labelled_all:>3} {false_all:>13}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
