"""Computes a report with Polars from what was gathered: sites and periods are groups of series, their spans put together."""

from typing import Any, Final, TypeAlias

import numpy as np
import polars as pl

from telemetryx.api.times import format_time
from telemetryx.report.gather import Gathered, Heard
from telemetryx.report.words import AnomalyRow, PeriodRow, Report, SeriesRow, SiteRow
from telemetryx.types import Series

Frame: TypeAlias = Any
"""A Polars frame, untyped here."""
HOUR: Final = 3_600_000_000_000
DAY: Final = 24 * HOUR
MAX_SERIES: Final = 200
MAX_ANOMALIES: Final = 50
_NO_SITE: Final = ""


def period_of(span_ns: int) -> int:
    """Choose the length of a report's periods: hours, days or weeks, so that there are at most some sixty."""
    return HOUR if span_ns <= 2 * DAY else DAY if span_ns <= 62 * DAY else 7 * DAY


def measure(gathered: Gathered, end_ns: int, period_ns: int, top: int = MAX_ANOMALIES) -> Report:
    """Compute everything, from where something is kept."""
    start_ns, notes = gathered.start_ns, _notes(gathered, end_ns)
    if not gathered.heard:
        return Report(gathered.asked_ns, end_ns, period_ns, notes=notes)
    series = _series(gathered.heard, start_ns, end_ns)
    spans = _spans(gathered.heard, start_ns, end_ns)
    edges = [(at, min(at + period_ns, end_ns)) for at in range(start_ns, end_ns, period_ns)]
    periods = pl.DataFrame(
        {"period": range(len(edges)), "from": [one for one, _ in edges], "to": [two for _, two in edges]},
        schema={"period": pl.Int64, "from": pl.Int64, "to": pl.Int64},
    )
    rows = [_series_row(heard, told) for heard, told in zip(gathered.heard, series.to_dicts(), strict=True)]
    rows.sort(key=lambda row: (row.completeness is None, row.completeness or 0.0, row.site, row.name))
    left = (
        [f"{len(rows) - MAX_SERIES} more series are counted, but not listed"]
        if len(rows) > MAX_SERIES
        else []
    )
    if (found := len(gathered.anomalies)) > top:
        left.append(f"{found - top} more stretches with scores above 1 are counted, but not listed")
    untold = sum(row.completeness is None for row in rows)
    if untold:
        left.append(f"{untold} series have too few readings to tell how many are to be expected")
    sites, strips = (
        _sites(series, spans, gathered.anomalies, end_ns),
        _periods(gathered.heard, series, spans, periods, gathered.anomalies),
    )
    silent = _silent(gathered.silent, {row.site for row in sites})
    if gathered.silent:
        left.append(
            f"{len(gathered.silent)} series were there before and had no reading in this time: nothing tells how many were to be "
            "expected of them"
        )
    strips += [PeriodRow(row.site, *edge, 0, None, 0.0, 0) for row in silent for edge in edges]
    return Report(
        start_ns,
        end_ns,
        period_ns,
        sorted([*sites, *silent], key=lambda row: row.site),
        sorted(strips, key=lambda row: (row.site, row.start_ns)),
        rows[:MAX_SERIES],
        gathered.anomalies[:top],
        left,
        notes,
    )


def _notes(gathered: Gathered, end_ns: int) -> list[str]:
    """Say what a report rests on where that isn't raw data."""
    notes = []
    if gathered.asked_ns < gathered.start_ns:
        gone = format_time(gathered.start_ns)
        begins = f": the report begins there, not at {format_time(gathered.asked_ns)}"
        notes.append(
            f"nothing is kept any more of the time before {gone}{begins if gathered.start_ns < end_ns else ''}"
        )
    if gathered.start_ns < gathered.raw_ns:
        notes.append(
            f"raw data is past its retention: up to {format_time(gathered.raw_ns)} rollups by minutes stand for it, in which an "
            "outage within a minute doesn't show, and the readings of a window stand from its start on"
        )
    return notes


def _series(heard: list[Heard], start_ns: int, end_ns: int) -> Frame:
    """Make a row for each series: from when it counts, what is expected, and how long it was heard."""
    frame = pl.DataFrame(
        {
            "id": [one.series.id for one in heard],
            "site": [one.series.labels.get("site", _NO_SITE) for one in heard],
            "device": [f"{one.series.agent}\0{one.series.labels.get('device', '')}" for one in heard],
            "readings": [one.readings for one in heard],
            "interval": [one.interval_ns for one in heard],
            "begun": [start_ns if one.before else one.first_ns for one in heard],
        },
        schema={
            "id": pl.Int64,
            "site": pl.String,
            "device": pl.String,
            **dict.fromkeys(("readings", "interval", "begun"), pl.Int64),
        },
    )
    up = _covered(_spans(heard, start_ns, end_ns), ["id"])
    whole = (pl.lit(end_ns) - pl.col("begun")).cast(pl.Float64)
    return (
        frame.join(up, on="id", how="left", maintain_order="left")
        .with_columns(
            pl.when(pl.col("interval") > 0)
            .then((whole / pl.col("interval")).round().clip(lower_bound=1))
            .otherwise(None)
            .alias("expected"),
            pl.when(pl.col("interval") > 0).then(pl.col("up") / whole).otherwise(None).alias("availability"),
        )
        .with_columns((pl.col("readings") / pl.col("expected")).clip(upper_bound=1.0).alias("completeness"))
    )


def _spans(heard: list[Heard], start_ns: int, end_ns: int) -> Frame:
    """Make a row for each span in which a series was heard."""
    counts = [sum(map(len, one.starts)) for one in heard]
    columns = {
        "id": np.repeat(np.array([one.series.id for one in heard], np.int64), counts),
        "start": np.concatenate([part for one in heard for part in one.starts]),
        "end": np.concatenate([part for one in heard for part in one.ends]),
    }
    sites = [one.series.labels.get("site", _NO_SITE) for one in heard]
    return pl.DataFrame(columns).with_columns(
        pl.Series("site", np.repeat(np.array(sites, object), counts).tolist(), dtype=pl.String),
        pl.col("start").clip(start_ns, end_ns),
        pl.col("end").clip(start_ns, end_ns),
    )


def _covered(spans: Frame, keys: list[str]) -> Frame:
    """Measure the time that a group's spans cover together: what overlaps counts once."""
    return (
        spans.sort([*keys, "start"])
        .with_columns(pl.col("end").cum_max().over(keys).alias("reach"))
        .with_columns(pl.col("reach").shift(1).over(keys).fill_null(-(1 << 62)).alias("before"))
        .with_columns(
            (pl.col("reach") - pl.max_horizontal("start", pl.min_horizontal("before", "reach"))).alias("up")
        )
        .group_by(keys)
        .agg(pl.col("up").sum())
    )


def _sites(series: Frame, spans: Frame, anomalies: list[AnomalyRow], end_ns: int) -> list[SiteRow]:
    told = series.filter(pl.col("expected").is_not_null())
    frame = (
        series.group_by("site")
        .agg(
            pl.col("device").n_unique().alias("devices"),
            pl.len().alias("series"),
            pl.col("readings").sum(),
            pl.col("begun").min(),
        )
        .join(
            told.group_by("site").agg(
                (
                    pl.min_horizontal(pl.col("readings").cast(pl.Float64), "expected").sum()
                    / pl.col("expected").sum()
                ).alias("completeness")
            ),
            on="site",
            how="left",
        )
        .join(_covered(spans, ["site"]), on="site", how="left")
        .sort("site")
    )
    counted = _counted(anomalies)
    return [
        SiteRow(
            row["site"],
            row["devices"],
            row["series"],
            row["readings"],
            row["completeness"],
            None if row["completeness"] is None else min(1.0, row["up"] / (end_ns - row["begun"])),
            counted.get(row["site"], 0),
        )
        for row in frame.to_dicts()
    ]


def _silent(silent: list[Series], heard: set[str]) -> list[SiteRow]:
    """Make a row for each site of which nothing was heard: it was there before, and down all the time."""
    found: dict[str, list[Series]] = {}
    for one in silent:
        site = one.labels.get("site", _NO_SITE)
        if site not in heard:
            found.setdefault(site, []).append(one)
    return [
        SiteRow(
            site,
            len({(one.agent, one.labels.get("device", "")) for one in some}),
            len(some),
            0,
            None,
            0.0,
            0,
        )
        for site, some in found.items()
    ]


def _counted(anomalies: list[AnomalyRow]) -> dict[str, int]:
    out: dict[str, int] = {}
    for one in anomalies:
        out[one.site] = out.get(one.site, 0) + 1
    return out


def _periods(
    heard: list[Heard], series: Frame, spans: Frame, periods: Frame, anomalies: list[AnomalyRow]
) -> list[PeriodRow]:
    """Cut everything into periods."""
    read = pl.DataFrame(
        [(one.series.id, period, count) for one in heard for period, count in one.counts.items()],
        schema={"id": pl.Int64, "period": pl.Int64, "got": pl.Int64},
        orient="row",
    )
    each = (
        series.select("id", "site", "interval", "begun")
        .join(periods, how="cross")
        .join(read, on=["id", "period"], how="left")
        .with_columns(pl.col("got").fill_null(0))
        .with_columns(
            pl.when(pl.col("interval") > 0)
            .then(
                (pl.col("to") - pl.max_horizontal("begun", "from")).clip(lower_bound=0) / pl.col("interval")
            )
            .otherwise(0.0)
            .alias("due")
        )
        .group_by("site", "period", "from", "to")
        .agg(
            pl.col("got").sum(),
            pl.col("due").sum(),
            pl.col("begun").min(),
            pl.min_horizontal(pl.col("got").cast(pl.Float64), pl.col("due")).sum().alias("kept"),
        )
    )
    cut = (
        spans.join(periods, how="cross")
        .filter((pl.col("start") < pl.col("to")) & (pl.col("end") > pl.col("from")))
        .with_columns(
            pl.max_horizontal("start", "from").alias("start"), pl.min_horizontal("end", "to").alias("end")
        )
    )
    frame = each.join(_covered(cut, ["site", "period"]), on=["site", "period"], how="left").sort(
        "site", "from"
    )
    return [
        PeriodRow(
            row["site"],
            row["from"],
            row["to"],
            row["got"],
            min(1.0, row["kept"] / row["due"]) if row["due"] > 0 else None,
            min(1.0, (row["up"] or 0) / (row["to"] - max(row["from"], row["begun"])))
            if row["due"] > 0
            else None,
            sum(one.site == row["site"] and row["from"] <= one.start_ns < row["to"] for one in anomalies),
        )
        for row in frame.to_dicts()
    ]


def _series_row(one: Heard, told: dict[str, Any]) -> SeriesRow:
    labels = dict(one.series.labels)
    return SeriesRow(
        one.series.agent,
        labels.get("site", _NO_SITE),
        labels.get("device", ""),
        one.series.name,
        labels,
        one.readings,
        int(told["expected"] or 0),
        told["completeness"],
        None if told["availability"] is None else min(1.0, told["availability"]),
        one.interval_ns / 1e9 if one.interval_ns else None,
        one.longest_ns / 1e9,
    )
