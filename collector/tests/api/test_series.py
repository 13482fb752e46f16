"""Series and samples over REST: what was measured comes back exactly, gaps stay gaps, limits say that they cut."""

import math
from collections.abc import Iterable
from typing import Any

import pytest

from running import T0, Running, S, key
from telemetryx.api.world import Limits
from telemetryx.types import Latest

TEMPERATURE = key("temperature", site="plant1", device="pump7")
PRESSURE = key("pressure", site="plant1", device="pump7")


async def test_a_series_is_listed_with_labels_unit_and_newest_value(api: Running) -> None:
    """Newest is by event time, also when older data comes later."""
    await api.field.send({TEMPERATURE: [(T0, 20.5), (T0 + S, 21.5)]})
    await api.field.send({TEMPERATURE: [(T0 - S, 1.0)]})
    answer = await api.get("/series", match='temperature{site="plant1"}')
    assert answer["total"] == 1
    (row,) = answer["series"]
    assert row["labels"] == {"site": "plant1", "device": "pump7"}
    assert (row["agent"], row["name"], row["unit"]) == ("edge", "temperature", "°C")
    assert row["latest"] == {"time_ns": T0 + S, "value": 21.5, "special": None}


async def test_the_newest_value_is_the_newer_of_stores_and_hot_views(start: Any) -> None:
    """A hot view that lost something, or has what this process didn't take in, never makes an answer older."""
    hot: dict[int, Latest] = {}

    async def newest(ids: Iterable[int]) -> dict[int, Latest]:
        return {number: hot[number] for number in ids if number in hot}

    api = await start(newest=newest)
    committed = await api.field.send({TEMPERATURE: [(T0, 20.0)], PRESSURE: [(T0, 5.0)]})
    temperature, pressure = committed.samples.series.tolist()
    hot |= {temperature: Latest(temperature, T0 + S, 21.0), pressure: Latest(pressure, T0 - S, 4.0)}
    rows = (await api.get("/latest"))["series"]
    assert [row["latest"]["value"] for row in rows] == [21.0, 5.0]
    hot.clear()
    rows = (await api.get("/series"))["series"]
    assert [row["latest"]["value"] for row in rows] == [20.0, 5.0]


async def test_series_are_filtered_by_site_device_agent_and_paged(api: Running) -> None:
    """Filters combine; total counts all pages."""
    await api.field.send({key("m", site="a", device=str(number)): [(T0, 1.0)] for number in range(5)})
    await api.field.send({key("m", site="b", device="0"): [(T0, 1.0)]}, agent="other")
    assert (await api.get("/series", site="a"))["total"] == 5
    assert (await api.get("/series", device="0"))["total"] == 2
    assert (await api.get("/series", device="0", agent="other"))["total"] == 1
    page = await api.get("/series", site="a", limit=2, offset=4)
    assert [row["labels"]["device"] for row in page["series"]] == ["4"]
    assert page["total"] == 5


async def test_raw_samples_come_back_bit_for_bit(api: Running) -> None:
    """Times to the nanosecond, values to the last bit; what JSON can't say is null."""
    values = [0.1, -0.0, 5e-324, 1.7976931348623157e308, 1 / 3]
    points = [(T0 + number, value) for number, value in enumerate(values)]
    await api.field.send({TEMPERATURE: [*points, (T0 + 99, math.nan), (T0 + 100, math.inf)]})
    answer = await api.get("/query_range", match="temperature", start=T0 // S - 1, end=T0 // S + 1, agg="raw")
    (line,) = answer["series"]
    assert line["times_ns"] == [T0, T0 + 1, T0 + 2, T0 + 3, T0 + 4, T0 + 99, T0 + 100]
    assert [value.hex() for value in line["values"][:5]] == [value.hex() for value in values]
    assert line["values"][5:] == [None, None]
    assert (answer["step_ns"], answer["level"], answer["truncated"]) == (0, "raw", False)


@pytest.mark.parametrize(
    ("agg", "expected"),
    [
        ("avg", [1.5, None, 3.0]),
        ("min", [1.0, None, 3.0]),
        ("max", [2.0, None, 3.0]),
        ("sum", [3.0, None, 3.0]),
        ("count", [2.0, None, 1.0]),
        ("last", [2.0, None, 3.0]),
    ],
)
async def test_a_step_without_data_is_null_never_zero(
    api: Running, agg: str, expected: list[float | None]
) -> None:
    """Gaps stay gaps, for every aggregate."""
    await api.field.send({TEMPERATURE: [(T0, 1.0), (T0 + S, 2.0), (T0 + 21 * S, 3.0)]})
    answer = await api.get(
        "/query_range", match="temperature", start=T0 // S, end=T0 // S + 30, step="10s", agg=agg
    )
    (line,) = answer["series"]
    assert line["times_ns"] == [T0, T0 + 10 * S, T0 + 20 * S]
    assert line["values"] == expected
    assert [value is None for value in line["min"]] == [False, True, False]


async def test_series_can_be_named_by_id_in_the_order_asked(api: Running) -> None:
    """An unknown id is a warning, not an error: the others are shown."""
    await api.field.send({TEMPERATURE: [(T0, 1.0)], PRESSURE: [(T0, 2.0)]})
    ids = [row["id"] for row in (await api.get("/series"))["series"]]
    answer = await api.get("/query_range", series=[*ids, 999], start=T0 // S, end=T0 // S + 10, step="10s")
    assert {line["id"] for line in answer["series"]} == set(ids)
    assert answer["warnings"] == ["no series has the id 999"]


async def test_auto_chooses_a_round_step_that_gives_at_most_max_points(api: Running) -> None:
    """Neighbouring charts so share their steps."""
    await api.field.send({TEMPERATURE: [(T0, 1.0)]})
    answer = await api.get("/query_range", match="temperature", start="-6h", end="now", max_points=100)
    assert answer["step_ns"] == 300 * S
    assert answer["start_ns"] % answer["step_ns"] == 0
    assert len(answer["series"][0]["times_ns"]) <= 101


async def test_more_series_than_allowed_are_cut_and_said(start: Any) -> None:
    """The answer never silently shows a part."""
    api = await start(limits=Limits(1 << 16, 2, 100_000, 30.0, 3))
    await api.field.send({key("m", device=str(number)): [(T0, 1.0)] for number in range(3)})
    answer = await api.get("/query_range", match="m", start=T0 // S, end=T0 // S + 10)
    assert len(answer["series"]) == 2
    assert answer["truncated"]
    assert "more than 2 series match" in answer["warnings"][0]


async def test_more_raw_points_than_allowed_are_cut_and_said(api: Running) -> None:
    """So a year of raw data can't be asked for by accident."""
    await api.field.send({TEMPERATURE: [(T0 + number, 1.0) for number in range(50)]})
    answer = await api.get(
        "/query_range", match="temperature", start=T0 // S, end=T0 // S + 1, agg="raw", max_points=10
    )
    assert len(answer["series"][0]["values"]) == 10
    assert answer["truncated"]


async def test_a_step_that_gives_too_many_points_is_refused_with_the_number(api: Running) -> None:
    """The remedy is in the message."""
    await api.field.send({TEMPERATURE: [(T0, 1.0)]})
    error = (await api.get("/query_range", 400, match="temperature", start="-365d", step="1ms"))["error"]
    assert "points a series" in error["message"]
    assert "step=auto" in error["hint"]


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({}, "neither `match` nor `series`"),
        ({"match": "t", "series": "1"}, "both"),
        ({"match": "t", "start": "now", "end": "-1h"}, "start is not before end"),
        ({"match": "t", "start": "yesterday"}, "not a time"),
        ({"match": "t", "step": "10"}, "not a duration"),
        ({"match": "t", "step": "-10s"}, "not a duration"),
        ({"match": "t", "agg": "median"}, "agg"),
        ({"match": "t{"}, "match"),
        ({"match": 't{a=~"("}'}, "match"),
        ({"series": "abc"}, "series"),
        ({"series": "-1"}, "series"),
        ({"series": str(2**70)}, "series"),
        ({"match": "t", "max_points": "0"}, "max_points"),
        ({"match": "t", "max_points": "1e9"}, "max_points"),
        ({"match": "t" * 5_000}, "match"),
        ({"match": "t", "stpe": "10s"}, "did you mean 'step'"),
        ({"match": ["a", "b"]}, "given 2 times"),
        ({"match": "t", "series": ["1"] * 1_001}, "1001 times"),
        ({"match": "a\0b"}, "NUL"),
    ],
)
async def test_a_wrong_parameter_is_named_in_the_refusal(
    api: Running, params: dict[str, Any], said: str
) -> None:
    """Type confusion ends in a sentence."""
    error = (await api.get("/query_range", 400, **params))["error"]
    assert said in error["message"] + error["hint"]


async def test_a_plus_that_nobody_encoded_is_read_as_an_offset(api: Running) -> None:
    """Curl users write +02:00 into URLs."""
    await api.field.send({TEMPERATURE: [(T0, 1.0)]})
    async with api.client.get(
        "/api/v1/query_range?match=temperature&start=2026-03-01T12:00:00+02:00&end=2026-03-01T12:01:00%2B02:00&step=1m"
    ) as answer:
        assert (await answer.json())["start_ns"] == T0


async def test_markup_sql_and_escapes_in_labels_stay_data(api: Running) -> None:
    """What a device is called changes nothing but its name."""
    nasty = "'; DROP TABLE series; --<script>alert(1)</script>\x1b[31m\"\\{}%_"
    await api.field.send({key("m", device=nasty): [(T0, 1.0)]})
    (row,) = (await api.get("/series", device=nasty))["series"]
    assert row["labels"]["device"] == nasty
    escaped = nasty.replace("\\", "\\\\").replace('"', '\\"')
    assert (await api.get("/series", match=f'm{{device="{escaped}"}}'))["total"] == 1
    assert (await api.get("/series", device="' OR 1=1 --"))["total"] == 0
    async with api.client.get("/api/v1/series") as answer:
        assert answer.content_type == "application/json"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


async def test_latest_says_when_more_series_match(api: Running) -> None:
    """A cut list isn't taken for the whole."""
    await api.field.send({key("m", device=str(number)): [(T0, 1.0)] for number in range(3)})
    answer = await api.get("/latest", match="m", limit=2)
    assert len(answer["series"]) == 2
    assert answer["truncated"]
