"""Measures the model family on SKAB: `python models/evaluate/skab.py FOLDER` (with valve2/, other/ ...).

The protocol of SKAB's table: each file's first 400 rows are calm and trained on; F1, false alarm rate and missed alarm
rate by row over the rest of all files. Published there: PCA T²+Q 0.76, convolutional autoencoder 0.78, isolation
forest 0.29. The data (GPL-3.0) is given by the caller and none of it is kept here.
"""

import argparse
import csv
import sys
from pathlib import Path

import numpy as np
from telemetryx.training.train import Options

from lags import distances

CALM = 400
#: Chosen on ten of SKAB's files (development); 400 rows are too few for a quantile of 99.9 %.
OPTIONS = Options(min_rows=200, quantile=0.95, margin=2.0)
SMOOTH = 5


def read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the eight sensors and the labels of one file."""
    with path.open() as file:
        rows = list(csv.reader(file, delimiter=";"))
    names = rows[0]
    values = np.asarray([[float(cell) for cell in row[1:9]] for row in rows[1:]])
    at = names.index("anomaly") if "anomaly" in names else None
    labels = (
        np.asarray([float(row[at]) > 0 for row in rows[1:]])
        if at is not None
        else np.zeros(len(values), bool)
    )
    return values, labels


def smoothed(values: np.ndarray) -> np.ndarray:
    """Return the mean of each row and the ones before it."""
    sums = np.cumsum(np.concatenate([np.zeros((1, values.shape[1])), values]), axis=0)
    starts = np.maximum(np.arange(len(values)) + 1 - SMOOTH, 0)
    ends = np.arange(len(values)) + 1
    return (sums[ends] - sums[starts]) / (ends - starts)[:, None]


def main() -> int:
    """Print one line a file, and the sum."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    total = np.zeros(4)
    print(f"{'file':<20} {'F1':>6} {'FAR %':>7} {'MAR %':>7}")
    for path in sorted([*folder.glob("valve*/*.csv"), *folder.glob("other/*.csv")]):
        values, labels = read(path)
        rows = smoothed(values).astype(np.float32)
        above = distances(rows[:CALM], rows, OPTIONS)[CALM:] > 1.0
        truth = labels[CALM:]
        counts = np.asarray(
            [np.sum(above & truth), np.sum(above & ~truth), np.sum(~above & truth), np.sum(~above & ~truth)]
        )
        print(f"{path.parent.name + '/' + path.name:<20} {figures(counts)}")
        total += counts
    print(f"{'all':<20} {figures(total)}")
    return 0


def figures(counts: np.ndarray) -> str:
    """Return F1, false and missed alarm rate of (true, false, missed, calm) rows."""
    hit, false, missed, quiet = counts
    f1 = 2 * hit / max(2 * hit + false + missed, 1)
    return (
        f"{f1:>6.2f} {100 * false / max(false + quiet, 1):>7.1f} {100 * missed / max(hit + missed, 1):>7.1f}"
    )


if __name__ == "__main__":
    sys.exit(main())
