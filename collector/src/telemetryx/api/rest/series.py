"""/api/v1/series, /latest and /query_range: what was measured."""

import asyncio
import math
from collections.abc import Sequence
from typing import Any, Final

from telemetryx.api import models
from telemetryx.api.budget import POINT, SLICE
from telemetryx.api.errors import BadRequest
from telemetryx.api.rest import shapes
from telemetryx.api.rest.places import one_way
from telemetryx.api.route import Route, shown
from telemetryx.api.span import computed, span, whole
from telemetryx.api.times import NS, format_duration, format_time
from telemetryx.api.world import World
from telemetryx.store.accounts import Role
from telemetryx.store.interface import SeriesQuery
from telemetryx.store.selector import parse
from telemetryx.types import DEVICE, SITE, Latest, Matcher, RangeResult, Series

#: A step that `auto` may choose: round numbers, so that neighbouring charts share their steps.
NICE_STEPS: Final = tuple(
    seconds * NS
    for seconds in (
        *(1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 10_800, 21_600, 43_200, 86_400),
        *(172_800, 604_800),
    )
)
#: Series that a warning names.
NAMED: Final = 10
FINEST_STEPS: Final = (1_000_000, 10_000_000, 100_000_000, 200_000_000, 500_000_000)


async def series(world: World, params: models.SeriesParams) -> dict[str, Any]:
    """Return a page of series with their newest values."""
    one_way(params)
    matchers = _matchers(params.match, (SITE, params.site), (DEVICE, params.device))
    page = await world.store.series_page(
        SeriesQuery(matchers, params.agent, params.limit, params.offset, params.after, params.before)
    )
    latest = await _newest(world, page.series)
    return {
        "series": [shapes.series(row, latest) for row in page.series],
        "total": page.total,
        "skipped": page.skipped,
        "next": page.series[-1].id if page.more else None,
        "previous": page.series[0].id if page.series and page.skipped else None,
    }


async def latest(world: World, params: models.LatestParams) -> dict[str, Any]:
    """Return newest samples."""
    rows = await world.store.series(_matchers(params.match), agent=params.agent, limit=params.limit + 1)
    shown = rows[: params.limit]
    newest = await _newest(world, shown)
    return {"series": [shapes.series(row, newest) for row in shown], "truncated": len(rows) > len(shown)}


async def _newest(world: World, rows: Sequence[Series]) -> dict[int, Latest]:
    """Return newest values by event time: the store's, or what the hot view has that is newer."""
    ids = [row.id for row in rows]
    stored, hot = await asyncio.gather(world.store.latest(ids), world.newest(ids))
    newer = {
        series: value
        for series, value in hot.items()
        if series not in stored or value.time_ns > stored[series].time_ns
    }
    return {**stored, **newer}


async def query_range(world: World, params: models.RangeParams) -> dict[str, Any]:
    """Return the lines of a chart, cut to the limits and saying so."""
    start, end = span(params.start, params.end, world.clock.now_ns())
    computed(start, end)
    warnings: list[str] = []
    changed: list[str] = []
    raw = params.agg == "raw"
    if raw and params.step != "auto":
        raise BadRequest("agg=raw has no `step`: readings are given as they are", "leave `step` out")
    rows = await _wanted(world, params, warnings)
    step = 0 if raw else _step(params, end - start, len(rows), world.limits.max_points, changed)
    if not raw:
        start, _ = whole(start, end, step)
        rows = _fitting(rows, math.ceil((end - start) / step), world.limits.max_points, warnings)
    most = (
        min(world.limits.max_points, params.max_points * max(1, len(rows)))
        if raw
        else world.limits.max_points
    )
    points = most if raw else len(rows) * math.ceil((end - start) / step)
    reading = world.store.range(
        [row.id for row in rows],
        start,
        end,
        step,
        params.agg,
        max_points=most,
        seconds=world.limits.reading_s,
    )
    result = await world.budget.run(SLICE + POINT * points, reading)
    warnings += _left_out(result, start) if raw else []
    if params.step not in ("auto", result.step_ns):
        changed.append(widened(step, result.step_ns, result.raw_from_ns))
    if not rows and params.match is not None:
        changed.append(none_match(params.match))
    heads = {row.id: row for row in rows}
    return {
        "start_ns": result.start_ns,
        "end_ns": result.end_ns,
        "step_ns": result.step_ns,
        "level": result.level,
        "series": [shapes.line(heads[item.id], item, raw=raw) for item in result.series],
        "truncated": bool(warnings),
        "warnings": warnings + changed,
    }


def none_match(selector: str) -> str:
    """Say that there is nothing to show."""
    return f"no series matches {shown(selector)}: /api/v1/series lists what there is"


def widened(asked_ns: int, step_ns: int, raw_from_ns: int) -> str:
    """Say that the step isn't the one that was asked for."""
    return (
        f"from before {format_time(raw_from_ns)} only rollups are kept: a step of {format_duration(asked_ns)} "
        f"became {format_duration(step_ns)}"
    )


def _left_out(found: RangeResult, start_ns: int) -> list[str]:
    """Say what isn't among the raw readings of an answer."""
    said: list[str] = []
    if start_ns < found.raw_from_ns:
        said.append(
            f"raw readings from before {format_time(found.raw_from_ns)} are deleted: ask for steps (agg=avg), rollups "
            "reach further back"
        )
    if found.cut:
        most = max(len(one.times) for one in found.series)
        said.append(
            f"cut at {most} points a series, of {_ids(found.cut)}: ask for a shorter range, fewer series or steps"
        )
    if found.unshown:
        said.append(
            f"windows of {_ids(found.unshown)} are left out, for there are raw readings too: ask for steps "
            "(agg=avg), which count both"
        )
    return said


def _ids(ids: Sequence[int]) -> str:
    """Name series by id, the first ten of them."""
    named = ", ".join(str(one) for one in ids[:NAMED])
    return f"series {named}" + (f" and {len(ids) - NAMED} more" if len(ids) > NAMED else "")


def _matchers(selector: str | None, *labels: tuple[str, str | None]) -> list[Matcher]:
    matchers = list(parse(selector)) if selector else []
    return matchers + [Matcher(name, "=", value) for name, value in labels if value is not None]


async def _wanted(world: World, params: models.RangeParams, warnings: list[str]) -> list[Series]:
    """Find the series asked for, by selector or by id, at most as many as one query may have."""
    most = world.limits.max_series
    if params.series and params.match is not None:
        raise BadRequest("both `match` and `series` are given", "give one of them")
    if params.series:
        wanted = list(dict.fromkeys(params.series))
        known = await world.store.series_by_id(wanted[:most])
        if len(wanted) > most:
            warnings.append(f"{len(wanted)} series were asked for: the first {most} are shown")
        if missing := [str(item) for item in wanted[:most] if item not in known]:
            warnings.append(f"no series has the id {', '.join(missing[:10])}")
        return [known[item] for item in wanted[:most] if item in known]
    if params.match is None:
        raise BadRequest(
            "neither `match` nor `series` is given", 'say which series, e.g. match=temperature{site="plant1"}'
        )
    rows = await world.store.series(_matchers(params.match), limit=most + 1)
    if len(rows) > most:
        warnings.append(f"more than {most} series match: the first {most} are shown")
    return rows[:most]


def _step(params: models.RangeParams, length: int, lines: int, most: int, warnings: list[str]) -> int:
    """Choose the step, or check the given one against max_points."""
    fair = max(1, min(params.max_points, most // max(1, lines)))
    if params.step != "auto":
        if params.step * most < length:
            raise BadRequest(
                f"step {format_duration(params.step)} gives {math.ceil(length / params.step)} points a series",
                f"at most {most} are possible: use a wider step or step=auto",
            )
        return params.step
    if fair < params.max_points:
        warnings.append(f"{lines} series share {most} points: {fair} for each")
    least = math.ceil(length / fair)
    for step in (*FINEST_STEPS, *NICE_STEPS):
        # One more point than fits would appear where the first step is only partly in the range.
        if step >= least:
            return step
    return least + -least % NICE_STEPS[-1]


def _fitting(rows: Sequence[Series], points: int, most: int, warnings: list[str]) -> list[Series]:
    """Leave out lines that would exceed the answer's points."""
    fit = max(1, most // points)
    if len(rows) > fit:
        warnings.append(
            f"{len(rows)} series with {points} points each exceed {most}: the first {fit} are shown"
        )
    return list(rows[:fit])


ROUTES = (
    Route(
        "GET",
        "/api/v1/series",
        series,
        models.SeriesAnswer,
        "List series",
        "data",
        Role.VIEWER,
        models.SeriesParams,
    ),
    Route(
        "GET",
        "/api/v1/latest",
        latest,
        models.LatestAnswer,
        "Newest samples",
        "data",
        Role.VIEWER,
        models.LatestParams,
    ),
    Route(
        "GET",
        "/api/v1/query_range",
        query_range,
        models.RangeAnswer,
        "Samples over time",
        "data",
        Role.VIEWER,
        models.RangeParams,
    ),
)
