"""What was measured: one row a figure, printed as a table when it is known and written as JSON at the end."""

import json
import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Row:
    """One figure. `just bench --only <bench>` prints it again."""

    bench: str
    name: str
    value: float
    unit: str
    target: float | None = None
    at_most: bool = False
    """Whether the target is a ceiling."""
    peer: str | None = None
    peer_value: float | None = None

    @property
    def ratio(self) -> float | None:
        """The figure over the peer's."""
        return self.value / self.peer_value if self.peer_value else None

    def verdict(self) -> str:
        """Return "met", or how far the target is away as a factor, 1 being there."""
        if self.target is None:
            return ""
        share = self.value / self.target
        if (share <= 1) if self.at_most else (share >= 1):
            return "met"
        return f"{share:.2f} x"

    def cells(self) -> tuple[str, ...]:
        """Return what the table shows."""
        target = "" if self.target is None else ("<= " if self.at_most else ">= ") + amount(self.target)
        peer = ""
        if self.peer is not None and self.peer_value is not None and self.ratio is not None:
            peer = f"{self.peer} {amount(self.peer_value)}: {self.ratio:.1f} x"
        return self.name, amount(self.value), self.unit, target, self.verdict(), peer


def amount(value: float) -> str:
    """Write a number with the digits that mean something."""
    size = abs(value)
    if size >= 100 or value == int(value):  # noqa: PLR2004 - three digits are what a bench repeats
        return f"{value:,.0f}"
    return f"{value:,.2f}" if size >= 1 else f"{value:.4g}"


class Report:
    """Rows in the order of measuring."""

    def __init__(self) -> None:
        """Begin with none."""
        self.rows: list[Row] = []
        self.notes: list[str] = []
        self._shown = 0

    def add(self, row: Row) -> None:
        """Keep a figure."""
        self.rows.append(row)

    def note(self, text: str) -> None:
        """Say something that a reader of the figures must know."""
        self.notes.append(text)
        print(f"  {text}", flush=True)

    def show(self) -> None:
        """Print the rows that were not printed yet, aligned."""
        fresh = [row.cells() for row in self.rows[self._shown :]]
        self._shown = len(self.rows)
        if not fresh:
            return
        widths = [max(len(cells[at]) for cells in fresh) for at in range(6)]
        for cells in fresh:
            name, value, unit, target, verdict, peer = cells
            line = f"  {name:{widths[0]}}  {value:>{widths[1]}} {unit:{widths[2]}}  {target:>{widths[3]}}  {verdict:{widths[4]}}  {peer}"
            print(line.rstrip(), flush=True)

    def write(self, path: Path) -> None:
        """Write the rows as JSON."""
        rows = [
            {
                "bench": row.bench,
                "name": row.name,
                "value": row.value,
                "unit": row.unit,
                "target": row.target,
                "peer": row.peer,
                "peer_value": row.peer_value,
                "ratio": row.ratio,
            }
            for row in self.rows
        ]
        path.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def machine() -> str:
    """Describe where this runs: cores, processor, memory, load."""
    processor = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            processor = line.split(":", 1)[1].strip()
            break
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    load = os.getloadavg()[0]
    return f"{os.cpu_count()} cores ({processor}), {pages / 2**30:.0f} GB, load {load:.1f} before the start"
