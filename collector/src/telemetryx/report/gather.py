"""Reads a time piece by piece, and keeps of each series only what a report needs.

That is counts by period, and when it was heard, as spans without a pause of more than three intervals. So memory grows with
series and outages, not with readings.

What is read are rows that stand for readings: one each of raw samples (two of one time are one row that counts two), one a
window that agents shipped, and, of the time whose raw data is past its retention, one a minute out of the rollups. A row's readings
are taken as evenly spread from its first to its last, so that the same readings give the same report whichever rows hold them.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from telemetryx.errors import QueryRefused
from telemetryx.export.rows import MAX_ROWS, Piece, Read, Span, matching, pieces_of, windows
from telemetryx.export.wanted import Wanted
from telemetryx.report import beside
from telemetryx.report.words import AnomalyRow
from telemetryx.store.tables import points, ranges, rollup
from telemetryx.store.tables.database import Database
from telemetryx.store.tables.numbers import Numbers
from telemetryx.types import F64, I64, Matcher, Series

SCORE: Final = "telemetryx.anomaly.score"
ANOMALOUS: Final = 1.0
#: A pause of more intervals than these is an outage.
PAUSE: Final = 3
MIN_READINGS: Final = 3
#: Windows are at most so long: what begins so long before a time may reach into it.
LONGEST: Final = 24 * rollup.HOUR
#: Rollups are read up to so long after the raw horizon: it moves while a long report is read.
_MARGIN: Final = rollup.HOUR
#: What rounding may leave of a whole number of readings.
_ROUNDING: Final = 1e-6


@dataclass(slots=True)
class Heard:
    """What is kept of one series."""

    series: Series
    interval_ns: int = 0
    readings: int = 0
    longest_ns: int = 0
    first_ns: int | None = None
    counts: dict[int, int] = field(default_factory=dict)
    """Readings by period."""
    starts: list[I64] = field(default_factory=list)
    """Of the spans: the first reading of each, and the last one's interval's end."""
    ends: list[I64] = field(default_factory=list)
    before: bool = False
    """Whether it was there before the report's time."""
    waiting: list["Rows"] = field(default_factory=list)
    """What came while too few readings told no interval yet."""


@dataclass(slots=True)
class Gathered:
    """All series with a reading, and the stretches with high scores."""

    heard: list[Heard]
    anomalies: list[AnomalyRow]
    asked_ns: int
    start_ns: int
    """Later than was asked where nothing is kept any more of the time before it."""
    raw_ns: int
    """Up to here minutes out of the rollups stand for readings; `start_ns` where none do."""
    silent: list[Series] = field(default_factory=list)
    """Series that were there before the report's time, and not heard in it."""


@dataclass(slots=True)
class Rows:
    """Rows of one series, ascending by their first readings; columns of equal length."""

    firsts: I64
    lasts: I64
    counts: I64
    values: F64
    """The highest of each."""

    def __len__(self) -> int:
        """Count them."""
        return len(self.firsts)

    def before(self, edges: I64 | int) -> I64:
        """Count each row's readings before a time."""
        width = (self.lasts - self.firsts).astype(np.float64)
        with np.errstate(divide="ignore", invalid="ignore"):
            spread = np.ceil((edges - self.firsts) * (self.counts - 1.0) / width - _ROUNDING)
        single = np.where(self.firsts < edges, self.counts, 0)
        found = np.where(width > 0, np.clip(np.nan_to_num(spread), 0, self.counts), single)
        # The last reading lies at its own time, whatever the division gave.
        return np.where(self.lasts < edges, self.counts, found).astype(np.int64)

    def within(self, start_ns: int, end_ns: int) -> "Rows":
        """Keep the readings in [start, end)."""
        low, high = self.before(start_ns), self.before(end_ns)
        step = (self.lasts - self.firsts) / np.maximum(self.counts - 1, 1)
        firsts = np.where(low > 0, self.firsts + (low * step).astype(np.int64), self.firsts)
        lasts = np.where(high < self.counts, self.firsts + ((high - 1) * step).astype(np.int64), self.lasts)
        some = high > low
        return Rows(np.maximum(firsts, start_ns)[some], lasts[some], (high - low)[some], self.values[some])

    def take(self, rows: I64) -> "Rows":
        """Pick rows."""
        return Rows(self.firsts[rows], self.lasts[rows], self.counts[rows], self.values[rows])


def gather(
    database: Database, start_ns: int, end_ns: int, matchers: Sequence[Matcher], period_ns: int
) -> Gathered:
    """Read everything in [start, end) that is kept. `database` is on a snapshot."""
    start, horizon = max(start_ns, rollup.expiry(database)), rollup.raw_horizon(database)
    if start >= end_ns:
        return Gathered([], [], start_ns, start, start)
    raw = min(horizon + _MARGIN, end_ns) if start < horizon else start
    known: dict[int, Heard] = {}
    runs: list[AnomalyRow] = []
    wanted = Wanted("samples", start, end_ns, tuple(matchers))
    rows = matching(database, wanted)
    for piece, rolled in _pieces(database, rows, wanted, raw):
        for series, some in _by_series(piece):
            one = known.setdefault(series.id, Heard(series))
            _tell_interval(one, some)
            if rolled:
                some.lasts = _filled(one, some)
            inside = some.within(start, end_ns)
            if not len(inside):
                continue
            if series.name == SCORE:
                runs += _high(one, inside)
            _hear(one, inside, start, period_ns)
    found = {series: one for series, one in known.items() if one.readings}
    before = beside.known_before(database, rows, start)
    for number in found.keys() & before:
        found[number].before = True
    _beside(database, found, (start, end_ns), horizon)
    for one in found.values():
        _join_spans(one, start, end_ns)
    silent = [row for row in rows if row.id in before and row.id not in found]
    return Gathered(list(found.values()), _joined(runs, found), start_ns, start, raw, silent)


def _pieces(
    database: Database, rows: Sequence[Series], wanted: Wanted, raw_ns: int
) -> Iterator[tuple[Piece, bool]]:
    """Yield minutes out of the rollups, then raw samples, then windows: each reading once, by where its row begins; and whether it is minutes."""
    start, end = wanted.start_ns, wanted.end_ns
    if start < raw_ns:
        asked = replace(wanted, start_ns=max(start - LONGEST, rollup.expiry(database)), end_ns=raw_ns)
        yield from ((piece, True) for piece in pieces_of(database, asked, rows, read=_minutes))
    if raw_ns < end:
        asked = replace(wanted, start_ns=raw_ns)
        yield from ((piece, False) for piece in pieces_of(database, asked, rows))
        # Those that begin before the report count only with what of them lies in it.
        begun = raw_ns if start < raw_ns else _reaching(database, rows, start)
        asked = replace(wanted, start_ns=begun)
        yield from ((piece, False) for piece in pieces_of(database, asked, rows, read=_windows))


def _reaching(database: Database, rows: Sequence[Series], start_ns: int) -> int:
    """Return when the first of the windows began that reach into the report's time: at most one a series, its newest before it."""
    newest = points.newest_windows(database, [row.id for row in rows], start_ns)
    return min((begun for _, begun, length in newest if begun + length > start_ns), default=start_ns)


def _beside(database: Database, found: dict[int, Heard], span: Span, horizon_ns: int) -> None:
    """Take the readings next to the report's two ends into the spans: a pause that an end cuts is as long as it is."""
    start, end = span
    reach = {series: PAUSE * one.interval_ns for series, one in found.items()}
    for number, begun, length in points.newest_windows(database, list(found), start):
        # A window's last reading may be near, though it began long before.
        if begun + length + reach[number] > start:
            reach[number] = max(reach[number], start - begun)

    def reads(part: Span) -> Sequence[Read | None]:
        return [_minutes] if part[0] < horizon_ns else [None, _windows]

    for piece, before in beside.nearest(database, reach, [one.series for one in found.values()], span, reads):
        for series, rows in _by_series(piece):
            one = found[series.id]
            if before:
                near = rows.within(int(rows.firsts[0]), start).lasts
                at = near.max() if len(near) else None
            else:
                near = rows.within(end, int(rows.lasts.max()) + 1).firsts
                at = near.min() if len(near) else None
            if at is not None:
                one.starts.append(np.array([at], np.int64))
                one.ends.append(np.array([at], np.int64))


def _minutes(database: Database, numbers: Numbers, rows: Sequence[Series], span: Span) -> Piece:
    """Read minutes that begin in a span: each has when its first and last reading were, to the millisecond."""
    unit = rollup.MINUTE
    whole = (-(-span[0] // unit) * unit, -(-span[1] // unit) * unit)
    if (whole[1] - whole[0]) // unit * len(rows) > MAX_ROWS and whole[1] - whole[0] > unit:
        raise QueryRefused(f"more than {MAX_ROWS} minutes")
    ids = [row.id for row in rows]
    series, found = rollup.reduce_many(*ranges.parts(database, numbers, ids, whole, "1m"), unit)
    some = found.counts > 0
    found = found.take(some)
    columns = {"first": found.first_at, "last": found.last_at, "count": found.counts, "value": found.maxs}
    return Piece(rows, np.searchsorted(ids, series[some]), columns)


def _windows(database: Database, numbers: Numbers, rows: Sequence[Series], span: Span) -> Piece:
    """Read windows that begin in a span."""
    del numbers
    block = windows(database, rows, span)
    columns = {
        "first": block.first_time,
        "last": block.last_time,
        "count": block.count.astype(np.int64),
        "value": block.max,
    }
    return Piece(rows, np.searchsorted([row.id for row in rows], block.series), columns)


def _by_series(piece: Piece) -> Iterable[tuple[Series, Rows]]:
    columns = piece.columns
    if "time" in columns:
        ones = np.ones(len(piece), np.int64)
        whole = Rows(columns["time"], columns["time"], ones, columns["value"])
    else:
        whole = Rows(columns["first"], columns["last"], columns["count"], columns["value"])
    owners, starts = np.unique(piece.index, return_index=True)
    for owner, begun, ended in zip(owners.tolist(), starts, [*starts[1:], len(piece.index)], strict=True):
        yield piece.series[owner], _ascending(whole.take(np.arange(begun, ended)))


def _ascending(rows: Rows) -> Rows:
    """Sort, and make one row of those that are one moment: two readings of one time are two."""
    if (rows.firsts[1:] < rows.firsts[:-1]).any():
        rows = rows.take(np.argsort(rows.firsts, kind="stable"))
    same = (rows.firsts[1:] == rows.firsts[:-1]) & (rows.lasts[1:] == rows.lasts[:-1])
    if not same.any():
        return rows
    edges = np.concatenate(([0], np.flatnonzero(~same) + 1))
    return Rows(
        rows.firsts[edges],
        rows.lasts[edges],
        np.add.reduceat(rows.counts, edges),
        np.fmax.reduceat(rows.values, edges),
    )


def _tell_interval(one: Heard, rows: Rows) -> None:
    """Tell a series' interval once enough is known: the median pause between two readings."""
    if one.interval_ns or not len(rows):
        return
    one.waiting.append(rows)
    firsts, lasts, counts = (
        np.concatenate([getattr(part, name) for part in one.waiting])
        for name in ("firsts", "lasts", "counts")
    )
    if counts.sum() < MIN_READINGS:
        return
    order = np.argsort(firsts, kind="stable")
    firsts, lasts, counts = firsts[order], lasts[order], counts[order]
    if len(firsts) > 1:
        # From first to first: right for windows too, whose minute in the rollups holds where they begin.
        pauses, weights = np.diff(firsts) / counts[:-1], counts[:-1]
    else:
        pauses, weights = (lasts - firsts) / np.maximum(counts - 1, 1), counts
    one.interval_ns = round(_median(pauses[pauses > 0], weights[pauses > 0]))
    if one.interval_ns:
        one.waiting.clear()


def _median(values: F64, weights: I64) -> float:
    """Find the middle one, each as often as its weight says; between two that are both in the middle, their mean. 0 of none."""
    if not len(values):
        return 0.0
    order = np.argsort(values)
    upto = np.cumsum(weights[order])
    low, high = np.searchsorted(upto, [(upto[-1] + 1) // 2, upto[-1] // 2 + 1])
    return float(values[order[low]] + values[order[high]]) / 2


def _filled(one: Heard, rows: Rows) -> I64:
    """Say when a minute's readings ended: where windows lie in it, it holds their starts, but also what they count."""
    length = np.minimum((rows.counts - 1) * float(one.interval_ns), LONGEST)
    return np.asarray(np.maximum(rows.lasts, rows.firsts + length.astype(np.int64)), np.int64)


def _hear(one: Heard, rows: Rows, start_ns: int, period_ns: int) -> None:
    """Take rows that lie in the report's time."""
    one.readings += int(rows.counts.sum())
    _count(one, rows, start_ns, period_ns)
    reach = np.maximum.accumulate(rows.lasts)
    pauses = rows.firsts[1:] - reach[:-1]
    short = pauses <= PAUSE * one.interval_ns
    if short.any():
        one.longest_ns = max(one.longest_ns, int(pauses[short].max()))
    broken = np.flatnonzero(~short)
    one.starts.append(rows.firsts[np.concatenate(([0], broken + 1))])
    one.ends.append(reach[np.concatenate((broken, [len(rows) - 1]))])
    # Windows come after samples, and may lie before them.
    begun = int(rows.firsts[0])
    one.first_ns = begun if one.first_ns is None else min(one.first_ns, begun)


def _count(one: Heard, rows: Rows, start_ns: int, period_ns: int) -> None:
    """Count readings by period: those of a row that reaches across an edge, on both sides of it."""
    begun, ended = (rows.firsts - start_ns) // period_ns, (rows.lasts - start_ns) // period_ns
    periods, counts = begun, rows.counts
    if (begun != ended).any():
        parts = ended - begun + 1
        owner = np.repeat(np.arange(len(rows)), parts)
        periods = begun[owner] + np.arange(len(owner)) - np.repeat(np.cumsum(parts) - parts, parts)
        spread = rows.take(owner)
        edges = start_ns + periods * period_ns
        counts = spread.before(edges + period_ns) - spread.before(edges)
    some, places = np.unique(periods, return_inverse=True)
    summed = np.bincount(places, counts).astype(np.int64)
    for period, count in zip(some.tolist(), summed.tolist(), strict=True):
        one.counts[period] = one.counts.get(period, 0) + count


def _join_spans(one: Heard, start_ns: int, end_ns: int) -> None:
    """Put spans of samples and of windows together, as one sequence; what is left between them are outages."""
    starts, ends = np.concatenate(one.starts), np.concatenate(one.ends)
    order = np.argsort(starts, kind="stable")
    starts, ends = starts[order], np.maximum.accumulate(ends[order])
    pauses = starts[1:] - ends[:-1]
    # What lies of them in the report, from its begin on for who was there before, and up to its end.
    since = start_ns if one.before else int(starts[0])
    begun, over = np.append(since, np.maximum(ends, since)), np.append(np.minimum(starts, end_ns), end_ns)
    one.longest_ns = max(one.longest_ns, int((over - begun).max()))
    broken = np.flatnonzero(pauses > PAUSE * one.interval_ns) if one.interval_ns else np.arange(len(pauses))
    one.starts = [starts[np.concatenate(([0], broken + 1))]]
    # A reading speaks for one interval; within a span the pauses are short.
    one.ends = [ends[np.concatenate((broken, [len(ends) - 1]))] + one.interval_ns]
    one.waiting.clear()


def _high(one: Heard, rows: Rows) -> list[AnomalyRow]:
    """Find the stretches of readings above the threshold."""
    with np.errstate(invalid="ignore"):
        high = rows.values > ANOMALOUS
    if not high.any():
        return []
    edges = np.flatnonzero(np.diff(np.concatenate(([0], high.astype(np.int8), [0]))))
    labels = one.series.labels
    out = []
    for first, after in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        peak = first + int(np.argmax(rows.values[first:after]))
        out.append(
            AnomalyRow(
                labels.get("site", ""),
                labels.get("device", ""),
                one.series.agent,
                int(rows.firsts[first]),
                int(rows.lasts[after - 1]),
                float(rows.values[peak]),
                int(rows.firsts[peak]),
            )
        )
    return out


def _joined(runs: Iterable[AnomalyRow], found: dict[int, Heard]) -> list[AnomalyRow]:
    """Join stretches of one device with a pause of at most a minute, or three of its intervals, between them; highest first."""
    longest = max((one.interval_ns for one in found.values() if one.series.name == SCORE), default=0)
    pause = max(60_000_000_000, PAUSE * longest)
    out: list[AnomalyRow] = []
    for run in sorted(runs, key=lambda row: (row.site, row.device, row.agent, row.start_ns)):
        last = out[-1] if out else None
        same = last is not None and (last.site, last.device, last.agent) == (run.site, run.device, run.agent)
        if last is not None and same and run.start_ns - last.end_ns <= pause:
            top = last if last.peak >= run.peak else run
            out[-1] = replace(last, end_ns=max(last.end_ns, run.end_ns), peak=top.peak, peak_ns=top.peak_ns)
        else:
            out.append(run)
    return sorted(out, key=lambda row: -row.peak)
