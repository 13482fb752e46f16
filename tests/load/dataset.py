"""Readings to measure with: a folder of CSV files (SKAB's and NAB's, as the repository's figures use), or made up here.

The made-up set has the folder layout and the shape of the public one: 11 files of 8 columns, as a test bench with pump, valve and motor
writes them once a second with six digits, and 7 files of one column. Its values wander around a level, with noise as
sensors have it; some stand still for minutes. Figures of bytes from it are near those of real data and are no claim.
"""

import csv
from pathlib import Path

import numpy as np
import numpy.typing as npt

Columns = list[npt.NDArray[np.float64]]

DESCRIPTION = "95 generated series: a level that wanders, sensor noise, six significant digits, a fifth of them still for minutes"
_SAMPLES = 4_000
_SEED = 20_240_301


def columns(folder: Path) -> Columns:
    """Read every numeric column of the CSV files, times and labels left out."""
    out: Columns = []
    for path in sorted(folder.rglob("*.csv")):
        with path.open(encoding="utf-8") as file:
            delimiter = ";" if ";" in file.readline() else ","
            file.seek(0)
            rows = list(csv.DictReader(file, delimiter=delimiter))
        for name in rows[0]:
            if name.lower() not in {"datetime", "timestamp", "anomaly", "changepoint"}:
                out.append(np.array([float(row[name]) for row in rows]))
    if not out:
        raise SystemExit(
            f"{folder} holds no CSV files with readings; give the folder that has skab/ and nab/"
        )
    return out


def wandering(series: int, samples: int) -> Columns:
    """Make up readings."""
    draw = np.random.default_rng(_SEED)
    out: Columns = []
    for number in range(series):
        level = 10.0 ** draw.uniform(-1, 2.5)
        drift = np.cumsum(draw.normal(0, level * 1e-4, samples))
        noise = draw.normal(0, level * draw.choice([1e-3, 5e-3, 2e-2]), samples)
        values = level + drift + noise
        if number % 5 == 0:  # a thermocouple: coarse steps, long still
            values = np.round((level + drift * 3) * 20 / level) * level / 20
        digits = 5 - int(np.floor(np.log10(level)))
        out.append(np.round(values, max(0, min(digits, 7))))
    return out


def folder(given: Path | None, place: Path) -> Path:
    """Return the folder that was given, or one with made-up files in the same layout."""
    if given is not None:
        return given
    made = wandering(95, _SAMPLES)
    for number in range(11):
        where = ("anomaly-free", *["other"] * 6, *["valve2"] * 4)[number]
        _write(place / "skab" / where / f"{number}.csv", made[number * 8 : number * 8 + 8], ";")
    for number in range(7):
        _write(place / "nab/realKnownCause" / f"{number}.csv", made[88 + number : 89 + number], ",")
    return place


def _write(path: Path, table: Columns, separator: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    names = [f"c{number}" for number in range(len(table))]
    lines = [separator.join(["datetime", *names])]
    lines += [
        separator.join(
            [
                f"2024-03-01 {second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}",
                *map(repr, map(float, row)),
            ]
        )
        for second, row in enumerate(zip(*table, strict=True))
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
