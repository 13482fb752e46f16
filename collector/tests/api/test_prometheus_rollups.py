"""The Prometheus API where rollups or windows stand for readings."""

import math
from typing import Any

import numpy as np
import pytest

from prometheus_asking import ask
from reference_agent import decoded, defined, merged, window
from running import T0, Running, S, key
from telemetryx import _native
from telemetryx.api.times import format_time
from telemetryx.store.interface import Retention
from telemetryx.types import BatchKey, SketchBlock, Stored
from telemetryx.wire.payload import Payload

START = T0 // S


async def test_long_queries_are_answered_from_rollups_with_the_same_newest_values(api: Running) -> None:
    """At whole hours the newest value of a rollup is the newest sample, also one exactly on the hour."""
    day = 86_400
    points = [(T0 - 8 * day * S + 60 * S * n, float(n)) for n in range(8 * 1_440 + 1)]
    await api.field.send({key("level", device="d"): points})
    while (await api.world.store.compact(everything=True)).more:
        pass
    asked = {"query": "level", "start": START - 8 * day, "end": START, "step": 3_600}
    (line,) = (await ask(api, "query_range", **asked))["data"]["result"]
    assert [float(value) for _, value in line["values"]] == [60.0 * n for n in range(8 * 24 + 1)]
    assert "infos" not in await ask(api, "query_range", **asked)
    found = await ask(api, "query_range", **{**asked, "query": "max_over_time(level[1d])"})
    assert "rollups of 1h" in found["infos"][0]
    assert float(found["data"]["result"][0]["values"][-1][1]) == pytest.approx(8 * 1_440, abs=1)


@pytest.mark.parametrize("compacted", [False, True])
async def test_aggregates_of_readings_that_share_a_time_do_not_depend_on_when_they_are_asked(
    api: Running, *, compacted: bool
) -> None:
    """At a whole minute (rollups) and at any second (readings), compacted or not: aggregates take all three readings of a time."""
    times = [T0 - 7_000 * S + 60 * S * n for n in range(100)]
    for value in (1.0, 2.0, 6.0):
        await api.field.send({key("dup", device="d"): [(time, value) for time in times]})
    while compacted and (await api.world.store.compact(everything=True)).more:
        pass
    expected = {
        "count_over_time(dup[8h])": 300.0, "sum_over_time(dup[8h])": 900.0, "avg_over_time(dup[8h])": 3.0,
        "min_over_time(dup[8h])": 1.0, "max_over_time(dup[8h])": 6.0, "last_over_time(dup[8h])": 6.0,
        "stdvar_over_time(dup[8h])": 14 / 3, "quantile_over_time(0.5, dup[8h])": 2.0,
        "dup": 6.0, "changes(dup[8h])": 0.0, "rate(dup[8h])": 0.0,
    }  # fmt: skip
    whole = START // 60 * 60
    for text, value in expected.items():
        for at in (whole - 960, whole - 959, whole - 929.5):
            (row,) = (await ask(api, "query", query=text, time=at))["data"]["result"]
            assert float(row["value"][1]) == pytest.approx(value), (text, at)
    (row,) = (await ask(api, "query", query="dup[8h]", time=whole))["data"]["result"]
    assert len(row["values"]) == 100, "a range as it is has one sample a time, as Prometheus' has"


@pytest.mark.parametrize("q", [0.0, 0.1, 0.5, 0.99, 1.0])
async def test_a_quantile_over_a_time_whose_raw_data_is_gone_is_of_all_of_its_readings(
    api: Running, q: float
) -> None:
    """Within the sketch's error, across the raw horizon, of readings as of windows; and the answer says what it is of."""
    day = 86_400
    begun = (T0 - 31 * day * S) // (60 * S) * (60 * S)
    chance = np.random.default_rng(2)
    values = np.exp(chance.normal(2, 2, 3_600)) - 5
    await api.field.send(
        {key("delay", device="d"): [(begun + n * S, float(v)) for n, v in enumerate(values)]}
    )
    built = _native.sketch_build(values[:500])
    pane = window(1, begun, values[:500].tolist())
    pane.sketch = SketchBlock(*built)
    batch = decoded(BatchKey("other", b"w" * 16, 1), Payload(windows=pane), defined("pane", device="d"))
    (outcome,) = await api.world.store.commit([batch])
    assert isinstance(outcome, Stored)
    while (report := await api.world.store.compact(everything=True)).more or report.batches:
        pass

    async def check(text: str, at: int, some: np.ndarray) -> list[str]:
        found = await ask(api, "query", query=f"quantile_over_time({q}, {text})", time=at // S)
        (row,) = found["data"]["result"]
        known = np.sort(some)
        low, high = known[math.floor(q * (len(known) - 1))], known[math.ceil(q * (len(known) - 1))]
        assert low - 0.0101 * abs(low) <= float(row["value"][1]) <= high + 0.0101 * abs(high)
        return list(found.get("infos", []))

    assert await check("delay[1h]", begun + 3_599 * S, values) == []
    assert await check("pane[1h]", begun + 3_599 * S, values[:500]) == []
    keep = Retention(
        raw_ns=day * S, windows_ns=day * S, rollup_1m_ns=900 * day * S, rollup_1h_ns=900 * day * S
    )
    await api.world.store.apply_retention(keep, begun + 1_800 * S + day * S)
    for text, end, some in (
        ("delay[1h]", 3_599, values),
        ("delay[10m]", 599, values[:600]),
        ("delay[10m]", 1_799 + 300, values[1_500:2_100]),
        ("pane[1h]", 3_599, values[:500]),
    ):
        (said,) = await check(text, begun + end * S, some)
        assert "sketches of rollups of 1m" in said
    assert await check("delay[10m]", begun + 2_999 * S, values[2_400:3_000]) == []


async def test_a_quantile_says_of_how_many_readings_no_sketch_knows(api: Running) -> None:
    """Windows without one."""
    payload = Payload(windows=window(1, T0 - 60 * S, [1.0, 2.0, 6.0]))
    batch = decoded(BatchKey("edge", b"w" * 16, 1), payload, defined("power"))
    (outcome,) = await api.world.store.commit([batch])
    assert isinstance(outcome, Stored)
    found = await ask(api, "query", query="quantile_over_time(0.5, power[5m])", time=START)
    assert found["data"]["result"] == []
    assert "3 readings stand in windows or rollups without a sketch" in found["infos"][0]


async def test_a_series_shipped_as_windows_is_asked_like_any_other(api: Running) -> None:
    """Its value is the last of each window; averages, sums, counts and extremes are those of the readings inside."""
    defs = defined("power", site="north", device="p7")
    for n, values in enumerate(([1.0, 2.0, 6.0], [4.0, 4.0])):
        payload = Payload(windows=window(1, T0 - 60 * S + n * 10 * S, values))
        (outcome,) = await api.world.store.commit(
            [decoded(BatchKey("edge", b"w" * 16, n + 1), payload, defs)]
        )
        assert isinstance(outcome, Stored)
    expected = {
        "power": 4.0, "avg_over_time(power[5m])": 3.4, "sum_over_time(power[5m])": 17.0, "count_over_time(power[5m])": 5.0,
        "min_over_time(power[5m])": 1.0, "max_over_time(power[5m])": 6.0, "last_over_time(power[5m])": 4.0,
    }  # fmt: skip
    for text, value in expected.items():
        (row,) = (await ask(api, "query", query=text, time=START))["data"]["result"]
        assert float(row["value"][1]) == pytest.approx(value), text


async def test_a_long_query_shows_windows_at_the_same_times_as_a_short_one(api: Running) -> None:
    """Five-minute windows: at no time a value that was measured later; windows of two hours are seen at their last reading."""
    five = [
        window(1, T0 + n * 300 * S, [1_000.0 * n + one for one in range(300)], 300 * S) for n in range(12)
    ]
    two = window(2, T0, [float(one) for one in range(7_200)], 7_200 * S)
    defs = defined("level", "slow", site="north", device="p7")
    content = Payload(windows=merged([*five, two]))
    (outcome,) = await api.world.store.commit([decoded(BatchKey("edge", b"w" * 16, 1), content, defs)])
    assert isinstance(outcome, Stored)
    for _ in range(2):
        at = {}
        for hours in (1, 7):
            found = await ask(
                api, "query_range", query="level", step=60, start=START, end=START + hours * 3_600
            )
            at[hours] = {
                time: value for time, value in found["data"]["result"][0]["values"] if time <= START + 3_600
            }
        assert at[1] == at[7]
        assert (at[7].get(START), at[7][START + 300], at[7][START + 600]) == (None, "299", "1299")
        (row,) = (await ask(api, "query", query="slow", time=START + 7_200))["data"]["result"]
        assert row["value"][1] == "7199"
        counted = (await ask(api, "query", query="count_over_time(slow[1h])", time=START + 7_200))["data"]
        assert counted["result"][0]["value"][1] == "7200"
        while (await api.world.store.compact(everything=True)).more:
            pass


async def expired(api: Running, points: dict[Any, list[tuple[int, float]]]) -> None:
    """Two days of which the older one's raw data is gone."""
    await api.field.send(points)
    while (report := await api.world.store.compact(everything=True)).more or report.batches:
        pass
    await api.world.store.apply_retention(Retention(raw_ns=86_400 * S, windows_ns=86_400 * S), T0)


def sentences(found: dict[str, Any]) -> str:
    """What an answer says beside its values."""
    return " ".join([*found.get("warnings", ()), *found.get("infos", ())])


async def test_windows_with_an_edge_before_the_raw_horizon_say_what_counts(api: Running) -> None:
    """Each aggregate, where an edge lies within a minute: whole minutes count; with edges on minutes it is exact."""
    begun = (START - 2 * 86_400) // 60 * 60
    await expired(api, {key("level", device="d"): [((begun + n) * S, float(n)) for n in range(7_200)]})
    for name in ("count", "sum", "avg", "min", "max", "last", "present"):
        found = await ask(api, "query", query=f"{name}_over_time(level[90s])", time=begun + 3_630)
        assert f"before {format_time(T0 - 86_400 * S)}, where" in sentences(found), name
        assert "of a minute that a window's edge lies in all readings count, or none" in sentences(found), (
            name
        )
    counted = await ask(api, "query", query="count_over_time(level[90s])", time=begun + 3_630)
    assert counted["data"]["result"][0]["value"][1] == "60", (
        "as it says: the minute in which it begins, not that in which it ends"
    )
    found = await ask(api, "query", query="count_over_time(level[2m])", time=begun + 3_599)
    assert found["data"]["result"][0]["value"][1] == "120"
    found = await ask(api, "query", query="quantile_over_time(0.5, level[90s])", time=begun + 3_630)
    assert "of a minute that a window's edge lies in" in sentences(found)
    found = await ask(api, "query", query="level", time=begun + 3_630)
    assert "of each minute only the first and last reading are known" in sentences(found)
    found = await ask(api, "query", query="count_over_time(level[1h])", time=START)
    assert not sentences(found), "nothing of it is before the horizon"


@pytest.mark.parametrize(
    "function",
    ["stddev_over_time", "stdvar_over_time", "changes", "resets", "rate", "increase", "delta", "deriv"],
)
async def test_functions_that_need_every_reading_warn_where_they_have_not_all_of_them(
    api: Running, function: str
) -> None:
    """Before the raw horizon; not where a minute has no more than two, of which nothing is missing."""
    begun = (START - 2 * 86_400) // 60 * 60
    dense = [((begun + n) * S, float(n % 7)) for n in range(3_600)]
    sparse = [((begun + 30 * n) * S, float(n % 7)) for n in range(120)]
    await expired(api, {key("dense", device="d"): dense, key("sparse", device="d"): sparse})
    found = await ask(api, "query", query=f"{function}(dense[30m])", time=begun + 3_600)
    (warning,) = found["warnings"]
    assert warning.startswith(f"PromQL warning: before {format_time(T0 - 86_400 * S)}, where")
    assert "the first and last reading of each minute alone: an approximation" in warning
    if function in {"stddev_over_time", "stdvar_over_time"}:
        assert "stddev_over_time and stdvar_over_time" in warning
    found = await ask(api, "query", query=f"{function}(sparse[30m])", time=begun + 3_600)
    assert "warnings" not in found


async def test_a_deviation_of_windows_says_that_it_is_of_their_last_readings(api: Running) -> None:
    """Whose readings nobody has: the agent shipped windows."""
    panes = merged([window(1, T0 - (20 - n) * 60 * S, [1.0, 5.0, 3.0]) for n in range(10)])
    batch = decoded(BatchKey("other", b"w" * 16, 1), Payload(windows=panes), defined("pane", device="d"))
    await api.world.store.commit([batch])
    found = await ask(api, "query", query="stddev_over_time(pane[30m])", time=START)
    assert "the last reading alone of each window" in sentences(found)
    assert "warnings" not in await ask(api, "query", query="avg_over_time(pane[30m])", time=START)


async def test_a_damaged_sketch_is_named_and_costs_its_own_readings_alone(api: Running) -> None:
    """By PromQL as by `/aggregate`: of which series and time, and what was done."""
    begun = (START - 2 * 86_400) // 3_600 * 3_600
    line = [((begun + n) * S, float(n * 37 % 101)) for n in range(3_600)]
    await expired(api, {key("level", device="d"): line})
    await api.world.store.write(
        lambda db: db.execute("UPDATE rollup_1h SET sketch = ? WHERE sketch IS NOT NULL", (b"\x01\x02",))
    )
    asked = {"match": "level", "agg": "quantile", "q": "0.5", "start": str(begun), "end": str(begun + 3_600)}
    body = await api.get("/aggregate", **asked)
    assert body["groups"][0]["values"] == [pytest.approx(50, rel=0.011)]
    (said,) = body["warnings"]
    assert said == (
        f'the sketch of series 1 (level{{device="d"}}) of the hour {format_time(begun * S)} is damaged: its minutes are read in its place; '
        "`telemetryx store verify` names all"
    )
    await api.world.store.write(
        lambda db: db.execute("UPDATE rollup_1m SET sketch = ? WHERE t0_ns = ?", (b"\x01\x02", begun * S))
    )
    found = await ask(api, "query", query="quantile_over_time(0.5, level[1h])", time=begun + 3_600)
    assert float(found["data"]["result"][0]["value"][1]) == pytest.approx(50, rel=0.05)
    (warning,) = found["warnings"]
    assert "of the minute" in warning
    assert "its readings are left out" in warning
