"""Times at the ends of what int64 nanoseconds hold, steps of decades and spans of centuries: an answer or a sentence, never a failure.

Whole steps, minutes and hours around such times used to leave 64 bits: 500 without a word, and exports that broke off. And the
percentile of one value since 1970 was read in slices of four hours, 100,000 of them, until its time was over.
"""

from typing import Any

import numpy as np
import pytest

from running import T0, Running, S, key
from telemetryx.api import percentile, world
from telemetryx.api.rest import aggregate
from telemetryx.api.times import FARTHEST_NS, TimeError, parse_time
from telemetryx.wire.limits import MAX_TIME

FIRST, LAST = "1678-06-19", "2261-07-15"
SPANS = ((FIRST, LAST), (FIRST, "1679-01-01"), ("2261-07-01", LAST), ("1700-01-01", "now"), ("0", "now"))
STEPS = ("auto", "1m", "1h", "7s", "1w", "300d", "36525d")


def test_times_are_asked_for_where_data_can_be() -> None:
    """What the wire takes can be asked for, and nothing beyond."""
    assert FARTHEST_NS == MAX_TIME
    for text in (FIRST, LAST, "9200000000", "-9200000000"):
        assert abs(parse_time(text, 0)) <= FARTHEST_NS
    for text in ("1678-06-18", "2261-07-16", "9200000001"):
        with pytest.raises(TimeError, match="between 1678-06-19 and 2261-07-15"):
            parse_time(text, 0)


@pytest.mark.parametrize("span", SPANS)
@pytest.mark.parametrize("path", ["query_range", "aggregate"])
async def test_no_step_and_no_span_makes_a_query_fail(api: Running, path: str, span: tuple[str, str]) -> None:
    """400 names what to change; 200 has the reading."""
    await api.field.send({key("temp"): [(T0 - S, 1.0)]})
    for step in (*STEPS, None):
        asked = {"match": "temp", "agg": "count", "start": span[0], "end": span[1]}
        asked |= {} if step is None else {"step": step}
        async with api.client.get(f"/api/v1/{path}", params=asked) as answer:
            found = await answer.json()
        assert answer.status in {200, 400}, (step, found)
        if answer.status == 400:
            assert found["error"]["message"], step
            assert found["error"]["hint"], step
        elif span == ("0", "now"):
            (line,) = found["series"] if path == "query_range" else found["groups"]
            assert sum(value or 0 for value in line["values"]) == 1


@pytest.mark.parametrize("kind", ["samples", "windows", "rollups", "events"])
@pytest.mark.parametrize("span", SPANS)
async def test_an_export_of_all_times_is_whole(api: Running, kind: str, span: tuple[str, str]) -> None:
    """It ends with its last row, not with a broken connection."""
    await api.field.send({key("temp"): [(T0 - S, 1.0)]}, events=[(T0 - S, 9, "plc", "on", {})])
    asked = {"start": span[0], "end": span[1], "level": "1h"}
    if kind != "rollups":
        del asked["level"]
    async with api.client.get(f"/api/v1/export/{kind}", params=asked) as answer:
        lines = (await answer.text()).splitlines()
    assert answer.status == 200
    within = parse_time(span[0], T0) <= T0 - S < parse_time(span[1], T0)
    assert len(lines) == 1 + (within and kind != "windows")


async def test_a_percentile_since_1970_passes_the_years_without_a_reading(api: Running) -> None:
    """In strides that double, so that a few reads find the few readings, whichever decades they lie in."""
    points = [(S, 1.0), (T0 // 2, 3.0), (T0 - 10 * S, 2.0)]
    for point in points:
        await api.field.send({key("temp"): [point]})
    asked: list[tuple[int, int]] = []
    store: Any = api.world.store
    read = store.samples

    async def counted(ids: Any, start: int, end: int, **more: Any) -> Any:
        asked.append((start, end))
        return await read(ids, start, end, **more)

    store.samples = counted
    try:
        found = await api.get("/aggregate", match="temp", agg="quantile", q=0.5, start="0")
    finally:
        store.samples = read
    assert found["groups"][0]["values"] == [2.0]
    assert len(asked) < 100
    # Nothing twice, nothing left out.
    assert [start for start, _ in asked[1:]] == [end for _, end in asked[:-1]]


@pytest.mark.parametrize("agg", ["quantile", "avg", "min", "max", "sum", "count"])
async def test_hourly_steps_since_1970_pass_the_years_without_a_reading(api: Running, agg: str) -> None:
    """Half a million hours with data in four of them: an answer within some reads, be it a percentile or not."""
    series = [key("temp", device="1"), key("temp", device="2")]
    points = [(S, 1.0), (T0 // 2, 3.0), (T0 // 2 + 3_600 * S, 5.0), (T0 - 10 * S, 2.0)]
    for point in points:
        await api.field.send({one: [point] for one in series})
    reads = 0
    store: Any = api.world.store
    read = store.samples

    async def counted(*asked: Any, **more: Any) -> Any:
        nonlocal reads
        reads += 1
        return await read(*asked, **more)

    store.samples = counted
    try:
        found = await api.get("/aggregate", match="temp", agg=agg, start="0", step="1h")
    finally:
        store.samples = read
    (line,) = found["groups"]
    seen = {
        time: value for time, value in zip(line["times_ns"], line["values"], strict=True) if value is not None
    }
    many = {"sum": 2.0, "count": 2.0}.get(agg, 1.0)
    assert seen == {
        time - time % (3_600 * S): many * (1.0 if agg == "count" else value) for time, value in points
    }
    assert reads < 100


async def test_a_percentile_reads_dense_steps_behind_empty_decades_as_if_they_were_alone(
    api: Running,
) -> None:
    """Exactly, though the stretches that were read before had become long: what is too much at once is read in shorter ones."""
    hours = 40
    values = [float(n * 7 % 1_009) for n in range(hours * 360)]
    await api.field.send({key("temp"): [(S, 1.0)]})
    begun = T0 - hours * 3_600 * S
    for at in range(0, len(values), 3_600):
        some = [(begun + 10 * S * (at + n), value) for n, value in enumerate(values[at : at + 3_600])]
        await api.field.send({key("temp"): some})
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(aggregate, "AT_ONCE", 1_000)
        patched.setattr(percentile, "EXACT", 1_500)
        long = await api.get("/aggregate", match="temp", agg="quantile", start="0", step="1h")
    own = await api.get("/aggregate", match="temp", agg="quantile", start=begun // S, step="1h")
    assert (long["method"], own["method"]) == ("exact", "exact")
    assert long["groups"][0]["values"][-hours:] == own["groups"][0]["values"][-hours:]
    assert long["groups"][0]["values"][-1] == pytest.approx(np.quantile(values[-360:], 0.99))
    assert sum(value is not None for value in long["groups"][0]["values"]) == hours + 1


async def test_a_percentile_that_takes_too_long_is_refused_with_what_to_ask_instead(api: Running) -> None:
    """400, since the same question again would take as long."""
    await api.field.send({key("temp"): [(T0 - S, 1.0)]})
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(world.Limits, "reading_s", -1.0)
        error = (await api.get("/aggregate", 400, match="temp", agg="quantile"))["error"]
    assert "ask for a shorter time or fewer series" in error["message"]
