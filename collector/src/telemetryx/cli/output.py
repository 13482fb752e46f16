"""How answers are printed: a table for people, CSV, JSON or NDJSON for programs. Text from the field stays text."""

import csv
import json
import math
import re
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import StrEnum
from functools import partial
from typing import Any, Final

from telemetryx.api.times import NS, format_duration, format_time
from telemetryx.cli.text import printable

_BARS: Final = "▁▂▃▄▅▆▇█"
#: What a selector takes without quotes (store/selector.py).
_WORD: Final = re.compile(r"[^\s{},=!~\"'()\[\]]+")
MINUTE_S: Final = 60
HOUR_S: Final = 3_600
DAY_S: Final = 86_400


class Format(StrEnum):
    """What is printed."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    NDJSON = "ndjson"


def show(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], how: Format, title: str = "") -> None:
    """Print rows in the format."""
    if how is Format.TABLE:
        table(rows, columns, title)
    elif how is Format.CSV:
        write_csv(([row.get(name) for name in columns] for row in rows), columns)
    elif how is Format.NDJSON:
        write_ndjson(rows)
    else:
        write_json(rows)


def listed(
    answer: Mapping[str, Any],
    rows: Sequence[dict[str, Any]],
    how: Format,
    shown: Callable[[dict[str, Any]], Mapping[str, Any]],
    *,
    title: str = "",
    none: str,
    most: int = 1_000,
) -> None:
    """Print an answer's rows: JSON is the whole answer, a table is made of the rows as `shown`, `none` is said when there are none."""
    if how is Format.JSON:
        write_json(answer)
    elif how is not Format.TABLE:
        show(rows, list(rows[0]) if rows else [], how)
    elif rows:
        lines = [shown(row) for row in rows]
        table(lines, list(lines[0]), title)
    else:
        nothing(none)
    more(answer, len(rows), how, most)


def more(answer: Mapping[str, Any], shown: int, how: Format, most: int = 1_000) -> None:
    """Say on stderr when an answer's rows aren't all there are; its JSON says so itself."""
    total = answer.get("total")
    cut = answer.get("truncated") or answer.get("next") is not None or (total or 0) > shown
    if cut and how is not Format.JSON:
        of = "there are more" if total is None else f"there are {total:,}"
        nothing(f"{of}, {shown:,} are shown: narrow the question, or show more with --limit (up to {most})")


def said(answer: Mapping[str, Any], sentence: str, *, as_json: bool) -> None:
    """Print what came of something: the answer for programs, a sentence for people."""
    if as_json:
        write_json(answer)
    else:
        print(sentence)


def write_json(value: object) -> None:
    """Print one JSON document. Control characters are escaped by JSON itself."""
    sys.stdout.write(_json(value, 2 if sys.stdout.isatty() else None) + "\n")


def write_ndjson(rows: Iterable[Mapping[str, Any]]) -> None:
    """Print one JSON object a line."""
    for row in rows:
        sys.stdout.write(_json(row) + "\n")


def _json(value: object, indent: int | None = None) -> str:
    encode = partial(
        json.dumps, indent=indent, ensure_ascii=sys.stdout.isatty(), default=str, allow_nan=False
    )
    try:
        return encode(value)
    except ValueError:
        # JSON has no numbers for NaN and infinities: they are words, as in exports.
        return encode(_worded(value))


def _worded(value: object) -> object:
    if isinstance(value, Mapping):
        return {key: _worded(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_worded(one) for one in value]
    return _word(value) if isinstance(value, float) and not math.isfinite(value) else value


def _word(value: float) -> str:
    return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"


def write_csv(rows: Iterable[Sequence[Any]], columns: Sequence[str]) -> None:
    """Print CSV: on a terminal with escapes shown, in a file byte for byte."""
    terminal = sys.stdout.isatty()
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        cells = [_cell(cell) for cell in row]
        writer.writerow([printable(cell) if terminal and isinstance(cell, str) else cell for cell in cells])


def _cell(value: object) -> object:
    if isinstance(value, dict | list):
        return _json(value)
    return _word(value) if isinstance(value, float) and not math.isfinite(value) else value


def table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], title: str = "") -> None:
    """Print a table; a cell is text and never markup."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shown = Table(
        box=box.SIMPLE_HEAD, title=title or None, title_justify="left", pad_edge=False, expand=False
    )
    for name in columns:
        numeric = any(isinstance(row.get(name), int | float) for row in rows)
        shown.add_column(
            Text(name.replace("_", " ")), justify="right" if numeric else "left", overflow="fold"
        )
    for row in rows:
        shown.add_row(*(Text(printable(cell(row.get(name)))) for name in columns))
    terminal = sys.stdout.isatty()
    Console(width=None if terminal else 200, highlight=False, markup=False, emoji=False).print(shown)


def cell(value: object) -> str:
    """Write one value for a person."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return number(value)
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, Mapping):
        return " ".join(f"{name}={item}" for name, item in value.items())
    return str(value)


def number(value: float) -> str:
    """Write a number with six significant digits; what is none as a word."""
    if not math.isfinite(value):
        return _word(value)
    return f"{value:,.6g}" if abs(value) < 1e6 else f"{value:.6g}"  # noqa: PLR2004


def count(amount: int, one: str, many: str | None = None) -> str:
    """Write a number of things with their noun: 1 batch, 2 batches. The plural is the noun with an s when left out."""
    return f"{amount:,} {one if amount == 1 else many or one + 's'}"


def size(count: int) -> str:
    """Write bytes in the unit that fits."""
    amount = float(count)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if amount < 1_024 or unit == "TiB":  # noqa: PLR2004
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1_024
    return f"{count} B"


def ago(time_ns: int | None) -> str:
    """Write a time as its distance from now: what a person wants to know first."""
    if time_ns is None:
        return "never"
    seconds = (time.time_ns() - time_ns) / NS
    if seconds < 0:
        return f"in {format_duration(max(1, round(-seconds)) * NS)}"
    if seconds < MINUTE_S:
        return f"{seconds:.1f} s ago"
    if seconds < HOUR_S:
        return f"{seconds / MINUTE_S:.0f} min ago"
    return f"{seconds / HOUR_S:.1f} h ago" if seconds < 2 * DAY_S else f"{seconds / DAY_S:.1f} d ago"


def moment(time_ns: int | None) -> str:
    """Write a time in UTC, to the millisecond."""
    if time_ns is None:
        return "-"
    return format_time(time_ns - time_ns % 1_000_000)


def series(name: str, labels: Mapping[str, str]) -> str:
    """Write a series as the selector that finds it: names that aren't one word stand in quotes."""
    inner = [
        f"{label if _WORD.fullmatch(label) else _quoted(label)}={_quoted(value)}"
        for label, value in sorted(labels.items())
    ]
    if not _WORD.fullmatch(name):
        return f"{{{', '.join([_quoted(name), *inner])}}}"
    return f"{name}{{{','.join(inner)}}}" if inner else name


def _quoted(text: str) -> str:
    # Control characters stay as they are: who prints it shows them (text.py), and a selector takes them.
    for plain, written in (("\\", "\\\\"), ('"', '\\"'), ("\n", "\\n"), ("\t", "\\t"), ("\r", "\\r")):
        text = text.replace(plain, written)
    return f'"{text}"'


def sparkline(values: Sequence[float | None], width: int = 32) -> str:
    """Draw values as one line of bars: the largest of each piece, a space where there is no data."""
    if not values:
        return ""
    pieces = min(width, len(values))
    tops: list[float | None] = []
    for piece in range(pieces):
        part = [
            value
            for value in values[piece * len(values) // pieces : (piece + 1) * len(values) // pieces]
            if value is not None and math.isfinite(value)
        ]
        tops.append(max(part) if part else None)
    known = [value for value in tops if value is not None]
    if not known:
        return " " * pieces
    low, high = min(known), max(known)
    span = high - low
    last = len(_BARS) - 1
    return "".join(
        " " if value is None else _BARS[last // 2 if span == 0 else round((value - low) / span * last)]
        for value in tops
    )


def nothing(sentence: str) -> None:
    """Say on stderr that there is nothing, so that stdout stays data."""
    sys.stderr.write(f"telemetryx: {sentence}\n")
