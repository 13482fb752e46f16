"""What an answer says of itself (span, step, warnings, what was cut) is what was read: also where raw data is deleted, and at both ends."""

import itertools
from typing import Any

import pytest

from reference_agent import decoded, defined, window
from running import T0, Running, S, key
from telemetryx.store.interface import Retention
from telemetryx.types import BatchKey, Stored
from telemetryx.wire.payload import Payload

MINUTE, HOUR, DAY = 60 * S, 3_600 * S, 86_400 * S
TEMP = key("temp")
HORIZON = (T0 - 30 * DAY) // MINUTE * MINUTE


def at(time_ns: int) -> str:
    """Write a time so that no digit is lost."""
    return f"{time_ns // S}.{time_ns % S:09d}"


async def past(api: Running, begun: int, values: int, pace: int = 10 * S) -> None:
    """Send a line of readings, and let what is older than thirty days become rollups alone."""
    await api.field.send({TEMP: [(begun + n * pace, float(n)) for n in range(values)]})
    while (report := await api.world.store.compact(everything=True)).more or report.batches:
        pass
    keep = Retention(raw_ns=30 * DAY, windows_ns=30 * DAY, rollup_1m_ns=730 * DAY, rollup_1h_ns=730 * DAY)
    await api.world.store.apply_retention(keep, T0)


@pytest.mark.parametrize(("step", "read"), [("10s", MINUTE), ("45s", MINUTE), ("90s", 2 * MINUTE)])
async def test_an_aggregate_of_past_raw_data_has_the_times_of_what_it_read(
    api: Running, step: str, read: int
) -> None:
    """Before the raw horizon steps are whole minutes: no curve is squeezed into less time than it took."""
    begun = (T0 - 36 * DAY) // HOUR * HOUR
    await past(api, begun, 360)
    found = await api.get(
        "/aggregate", match="temp", agg="count", step=step, start=at(begun), end=at(begun + HOUR)
    )
    (group,) = found["groups"]
    assert found["step_ns"] == read
    assert group["times_ns"] == list(range(found["start_ns"], found["end_ns"], read))
    inside = [value for moment, value in zip(group["times_ns"], group["values"], strict=True) if value]
    assert inside == [read / (10 * S)] * (HOUR // read)
    assert f"a step of {step} became" in found["warnings"][0].replace("1m30s", "90s")


async def test_an_aggregate_across_the_raw_horizon_ends_where_it_says(api: Running) -> None:
    """Its recent half too."""
    begun = HORIZON - HOUR
    await past(api, begun, 720)
    found = await api.get(
        "/aggregate", match="temp", agg="count", step="45s", start=at(begun), end=at(HORIZON + HOUR)
    )
    (group,) = found["groups"]
    assert found["step_ns"] == MINUTE
    assert (group["times_ns"][0], group["times_ns"][-1] + MINUTE) == (found["start_ns"], found["end_ns"])
    assert sum(value or 0 for value in group["values"]) == 720
    auto = await api.get(
        "/aggregate", match="temp", agg="count", step="auto", start=at(begun), end=at(begun + HOUR)
    )
    assert auto["step_ns"] == MINUTE
    assert auto["groups"][0]["times_ns"][-1] == begun + HOUR - MINUTE
    assert auto["warnings"] == []


@pytest.mark.parametrize("pieces", ["compacted", "as shipped"])
@pytest.mark.parametrize(
    ("after", "until"),
    [
        (0, 3 * DAY),
        (7 * S, 2 * DAY + 3 * HOUR + 30 * MINUTE + 30 * S),
        (90 * S, 2 * HOUR + 30 * S),
        (59 * MINUTE + 30 * S, 1 * HOUR + 59 * MINUTE + 30 * S),
        (30 * S + 1, 30 * S + 2),
        (MINUTE, MINUTE + 1),
        (5 * S, 50 * S),
    ],
)
async def test_the_whole_time_counts_what_lies_in_it_and_nothing_else(
    api: Running, after: int, until: int, pieces: str
) -> None:
    """`start` is in it, `end` isn't, however long it is and from whatever rollups it is read."""
    begun = (T0 - 4 * DAY) // HOUR * HOUR
    times = [begun + n * 30 * S for n in range(3 * DAY // (30 * S))]
    await api.field.send({TEMP: [(time, float(n)) for n, time in enumerate(times)]})
    while pieces == "compacted" and (
        (report := await api.world.store.compact(everything=True)).more or report.batches or report.rollups
    ):
        pass
    inside = [float(n) for n, time in enumerate(times) if begun + after <= time < begun + until]
    expected = {"count": len(inside), "sum": sum(inside)} | (
        {"min": inside[0], "max": inside[-1], "avg": sum(inside) / len(inside)} if inside else {}
    )
    for agg, value in expected.items():
        found = await api.get(
            "/aggregate", match="temp", agg=agg, start=at(begun + after), end=at(begun + until)
        )
        assert found["groups"][0]["values"] == [value if inside else None], agg
        assert (found["start_ns"], found["end_ns"], found["step_ns"]) == (begun + after, begun + until, 0)


async def test_the_whole_time_before_the_raw_horizon_says_that_it_is_whole_minutes(api: Running) -> None:
    """There is nothing finer."""
    begun = (T0 - 36 * DAY) // HOUR * HOUR
    await past(api, begun, 360)
    found = await api.get(
        "/aggregate", match="temp", agg="count", start=at(begun + 90 * S), end=at(begun + 150 * S)
    )
    assert (found["start_ns"], found["end_ns"]) == (begun + MINUTE, begun + 3 * MINUTE)
    assert found["groups"][0]["values"] == [12]


async def test_steps_are_whole_at_both_ends_for_percentiles_as_for_counts(api: Running) -> None:
    """The last step isn't shorter than its neighbours."""
    await api.field.send({TEMP: [(T0 - 120 * S + n * S, float(n)) for n in range(240)]})
    for step, width in (("45s", 45 * S), ("1m", MINUTE)):
        span = {"start": at(T0 - 100 * S), "end": at(T0 + 50 * S), "step": step}
        most = await api.get("/aggregate", match="temp", agg="max", **span)
        top = await api.get("/aggregate", match="temp", agg="quantile", q=1, **span)
        assert most["groups"] == top["groups"]
        for found in (most, top):
            assert (found["start_ns"] % width, found["end_ns"] % width, found["step_ns"]) == (0, 0, width)
            assert found["start_ns"] <= T0 - 100 * S < T0 + 50 * S <= found["end_ns"]


async def test_a_percentile_across_the_raw_horizon_is_of_rollups_before_it_and_says_so(api: Running) -> None:
    """Each part of the time names its level; of one value as of steps, which are whole minutes then."""
    await past(api, HORIZON - HOUR, 720)
    span = {"match": "temp", "agg": "quantile", "end": at(HORIZON + HOUR)}
    before = {"level": "1h", "start_ns": HORIZON - HOUR, "end_ns": HORIZON}
    after = {"level": "raw", "start_ns": HORIZON, "end_ns": HORIZON + HOUR}
    found = await api.get("/aggregate", start=at(HORIZON - HOUR), q=0.25, **span)
    assert (found["start_ns"], found["end_ns"]) == (HORIZON - HOUR, HORIZON + HOUR)
    assert found["groups"][0]["values"] == [pytest.approx(179.0, rel=0.01)]
    assert (found["level"], found["levels"], found["method"]) == ("1h", [before, after], "sketch")
    assert found["warnings"] == []
    steps = await api.get("/aggregate", start=at(HORIZON - HOUR), step="90s", q=1, **span)
    assert steps["step_ns"] == 2 * MINUTE
    tops = [12.0 * n + 11 for n in range(60)]
    assert steps["groups"][0]["values"] == pytest.approx(tops, rel=0.01)
    assert [one["level"] for one in steps["levels"]] == ["1m", "raw"]
    assert "became 2m" in steps["warnings"][0]
    recent = await api.get("/aggregate", start=at(HORIZON), q=0, **span)
    assert (recent["level"], recent["levels"], recent["method"]) == ("raw", [after], "exact")
    assert recent["groups"][0]["values"] == [360.0]
    assert recent["warnings"] == []


@pytest.mark.parametrize(("step", "read"), [("10s", MINUTE), ("90s", 2 * MINUTE)])
async def test_a_ranges_step_is_the_one_that_was_read(api: Running, step: str, read: int) -> None:
    """And a step that was asked for and couldn't be is said."""
    begun = (T0 - 36 * DAY) // HOUR * HOUR
    await past(api, begun, 360)
    span = {"match": "temp", "agg": "count", "start": at(begun), "end": at(begun + HOUR)}
    found = await api.get("/query_range", step=step, **span)
    times = found["series"][0]["times_ns"]
    assert {after - before for before, after in itertools.pairwise(times)} == {read}
    assert found["step_ns"] == read
    assert "became" in found["warnings"][0]
    assert not found["truncated"]
    auto = await api.get("/query_range", **span)
    assert (auto["step_ns"], auto["warnings"], auto["truncated"]) == (MINUTE, [], False)


async def test_raw_readings_that_are_deleted_are_said_to_be(api: Running) -> None:
    """They don't look like a sensor that was off."""
    begun = (T0 - 36 * DAY) // HOUR * HOUR
    await past(api, begun, 360)
    found = await api.get("/query_range", match="temp", agg="raw", start=at(begun), end=at(begun + HOUR))
    assert found["series"][0]["values"] == []
    assert found["truncated"]
    assert "are deleted" in found["warnings"][0]


async def test_raw_readings_of_several_series_share_what_an_answer_may_hold(api: Running) -> None:
    """Each has at most max_points, and those that are cut are named."""
    sent: dict[Any, Any] = {
        key("temp", n=str(n)): [(T0 + i, 1.0) for i in range(count)]
        for n, count in enumerate((50, 5, 10, 50))
    }
    await api.field.send(sent)
    found = await api.get(
        "/query_range", match="temp", agg="raw", start=at(T0), end=at(T0 + S), max_points=10
    )
    assert [len(one["values"]) for one in found["series"]] == [10, 5, 10, 10]
    first, last = found["series"][0]["id"], found["series"][-1]["id"]
    assert f"cut at 10 points a series, of series {first}, {last}:" in found["warnings"][0]
    assert found["truncated"]


async def test_windows_beside_raw_readings_are_said_to_be_left_out(api: Running) -> None:
    """A series that an agent thinned has both; one that has windows alone shows their last values."""
    content = Payload(windows=window(1, T0 - 600 * S, [1.0, 2.0]))
    batch = decoded(BatchKey("edge", b"w" * 16, 1), content, defined("temp", site="north"))
    (outcome,) = await api.world.store.commit([batch])
    assert isinstance(outcome, Stored)
    span = {"match": "temp", "agg": "raw", "start": at(T0 - HOUR), "end": at(T0 + S)}
    alone = await api.get("/query_range", **span)
    assert (alone["series"][0]["values"], alone["warnings"]) == ([2.0], [])
    await api.field.send({key("temp", site="north"): [(T0, 5.0)]})
    found = await api.get("/query_range", **span)
    assert found["series"][0]["values"] == [5.0]
    assert found["truncated"]
    assert f"windows of series {found['series'][0]['id']} are left out" in found["warnings"][0]
