"""A report as CSV: one file a table, in columns that stay as they are; names are quoted by the format's own rules, and are never formulas."""

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Final

from telemetryx.api.times import format_time
from telemetryx.report.words import AnomalyRow, NoteRow, PeriodRow, Report, SeriesRow, SiteRow

_TABLES: Final[Mapping[str, type]] = {
    "sites": SiteRow,
    "periods": PeriodRow,
    "series": SeriesRow,
    "anomalies": AnomalyRow,
    "notes": NoteRow,
}
NAMES: Final = tuple(_TABLES)
#: A spreadsheet takes a cell that begins so for a formula.
_FORMULAS: Final = ("=", "+", "-", "@", "\t", "\r")


def write(report: Report, folder: Path) -> list[Path]:
    """Write sites.csv, periods.csv, series.csv, anomalies.csv and notes.csv into a folder, which is made; return their paths."""
    folder.mkdir(exist_ok=True)
    whole = {folder / f".{name}.csv.part": folder / f"{name}.csv" for name in _TABLES}
    try:
        for (name, kind), part in zip(_TABLES.items(), whole, strict=True):
            columns = [field.name for field in fields(kind)]
            with part.open("w", encoding="utf-8", newline="") as file:
                writer = csv.writer(file, lineterminator="\n")
                writer.writerow([column.removesuffix("_ns") for column in columns])
                writer.writerows(_cells(_rows(report, name), columns))
        # Together: tables of two reports don't stand side by side because the disk was full.
        for part, path in whole.items():
            part.replace(path)
    finally:
        for part in whole:
            part.unlink(missing_ok=True)
    return list(whole.values())


def _rows(report: Report, name: str) -> Iterable[Any]:
    """Return a table's rows; notes are what the report rests on, and what isn't in it."""
    if name == "notes":
        return [NoteRow(note) for note in (*report.notes, *report.left_out)]
    rows: Iterable[Any] = getattr(report, name)
    return rows


def _cells(rows: Iterable[Any], columns: Sequence[str]) -> Iterable[list[Any]]:
    for row in rows:
        values = asdict(row)
        yield [_cell(name, values[name]) for name in columns]


def _cell(name: str, value: Any) -> Any:  # noqa: ANN401  any cell
    if name.endswith("_ns"):
        return format_time(value)
    if isinstance(value, dict):
        return json.dumps(value, sort_keys=True, ensure_ascii=False)
    # What a device is called must not be computed by who opens the table: these are read in spreadsheets.
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULAS) else value


def document(report: Report) -> dict[str, Any]:
    """Return a report as JSON's own types."""
    return asdict(report)
