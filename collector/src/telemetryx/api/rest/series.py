"""/api/v1/series, /latest and /query_range: what was measured."""

import math
from collections.abc import Sequence
from typing import Any, Final

from telemetryx.api import models
from telemetryx.api.errors import BadRequest
from telemetryx.api.rest import shapes
from telemetryx.api.route import Route
from telemetryx.api.times import NS, format_duration
from telemetryx.api.world import World
from telemetryx.store.selector import parse
from telemetryx.types import DEVICE, SITE, Matcher, Series

HOUR_NS: Final = 3_600 * NS
#: A step that `auto` may choose: round numbers, so that neighbouring charts share their steps.
NICE_STEPS: Final = tuple(
    seconds * NS
    for seconds in (
        *(1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 10_800, 21_600, 43_200, 86_400),
        *(172_800, 604_800),
    )
)
FINEST_STEPS: Final = (1_000_000, 10_000_000, 100_000_000, 200_000_000, 500_000_000)


async def series(world: World, params: models.SeriesParams) -> dict[str, Any]:
    """Return a page of series with their newest values."""
    matchers = _matchers(params.match, (SITE, params.site), (DEVICE, params.device))
    rows = await world.store.series(matchers, agent=params.agent, limit=params.limit, offset=params.offset)
    total = await world.store.count_series(matchers, agent=params.agent)
    latest = await world.store.latest([row.id for row in rows])
    return {"series": [shapes.series(row, latest) for row in rows], "total": total}


async def latest(world: World, params: models.LatestParams) -> dict[str, Any]:
    """Return newest samples."""
    rows = await world.store.series(_matchers(params.match), agent=params.agent, limit=params.limit + 1)
    shown = rows[: params.limit]
    newest = await world.store.latest([row.id for row in shown])
    return {"series": [shapes.series(row, newest) for row in shown], "truncated": len(rows) > len(shown)}


async def query_range(world: World, params: models.RangeParams) -> dict[str, Any]:
    """Return the lines of a chart, cut to the limits and saying so."""
    end = params.end if params.end is not None else world.clock.now_ns()
    start = params.start if params.start is not None else end - HOUR_NS
    if start >= end:
        raise BadRequest("start is not before end", "give a start that lies before the end")
    warnings: list[str] = []
    rows = await _wanted(world, params, warnings)
    raw = params.agg == "raw"
    step = 0 if raw else _step(params, end - start, len(rows), world.limits.max_points, warnings)
    if not raw:
        start -= start % step
        rows = _fitting(rows, math.ceil((end - start) / step), world.limits.max_points, warnings)
    most = (
        min(world.limits.max_points, params.max_points * max(1, len(rows)))
        if raw
        else world.limits.max_points
    )
    result = await world.store.range([row.id for row in rows], start, end, step, params.agg, max_points=most)
    if result.truncated:
        warnings.append(f"cut at {most} points: ask for a shorter range, fewer series or a wider step")
    heads = {row.id: row for row in rows}
    return {
        "start_ns": result.start_ns,
        "end_ns": result.end_ns,
        "step_ns": step,
        "level": result.level,
        "series": [shapes.line(heads[item.id], item, raw=raw) for item in result.series],
        "truncated": bool(warnings),
        "warnings": warnings,
    }


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


def _step(params: models.RangeParams, span: int, lines: int, most: int, warnings: list[str]) -> int:
    """Choose the step, or check the given one against max_points."""
    fair = max(1, min(params.max_points, most // max(1, lines)))
    if params.step != "auto":
        if params.step * most < span:
            raise BadRequest(
                f"step {format_duration(params.step)} gives {math.ceil(span / params.step)} points a series",
                f"at most {most} are possible: use a wider step or step=auto",
            )
        return params.step
    if fair < params.max_points:
        warnings.append(f"{lines} series share {most} points: {fair} for each")
    least = math.ceil(span / fair)
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
    Route("GET", "/api/v1/series", series, models.SeriesAnswer, "List series", "data", models.SeriesParams),
    Route(
        "GET", "/api/v1/latest", latest, models.LatestAnswer, "Newest samples", "data", models.LatestParams
    ),
    Route(
        "GET",
        "/api/v1/query_range",
        query_range,
        models.RangeAnswer,
        "Samples over time",
        "data",
        models.RangeParams,
    ),
)
