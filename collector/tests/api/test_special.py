"""What JSON has no numbers for: null where values stand, and named beside them, whatever is asked."""

import math
from typing import Any

import pytest

from running import T0, Running, S, key

SPAN = {"start": T0 // S, "end": T0 // S + 60}
POINTS = [(T0, 1.0), (T0 + 10 * S, math.nan), (T0 + 20 * S, math.inf), (T0 + 40 * S, -math.inf)]


@pytest.mark.parametrize(
    ("agg", "values", "special"),
    [
        ("avg", [1.0, None, None, None, None, None], {"1": "NaN", "2": "+Inf", "4": "-Inf"}),
        ("max", [1.0, None, None, None, None, None], {"1": "NaN", "2": "+Inf", "4": "-Inf"}),
        ("count", [1.0, 1.0, 1.0, 0.0, 1.0, 0.0], {}),
        ("quantile", [1.0, None, None, None, None, None], {"2": "+Inf", "4": "-Inf"}),
    ],
)
async def test_an_aggregate_tells_a_gap_from_what_is_no_number(
    api: Running, agg: str, values: list[float | None], special: dict[str, str]
) -> None:
    """A percentile leaves NaN out, so where there is nothing else it has a gap; a fill of a gap is none of the readings."""
    await api.field.send({key("torn"): POINTS})
    found = await api.get("/aggregate", match="torn", agg=agg, step="10s", **SPAN)
    (group,) = found["groups"]
    assert [one or None for one in group["values"]] == [one or None for one in values]
    assert group["special"] == ({"values": special} if special else {})


@pytest.mark.parametrize("q", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("compacted", [False, True])
async def test_an_infinite_percentile_of_the_whole_time_is_told(
    api: Running, q: float, *, compacted: bool
) -> None:
    """From readings, and from rollups of whole minutes."""
    await api.field.send({key("torn"): [(T0 + n * S, (-math.inf, 5.0, math.inf)[n % 3]) for n in range(60)]})
    while compacted and (await api.world.store.compact(everything=True)).more:
        pass
    found = await api.get("/aggregate", match="torn", agg="quantile", q=q, **SPAN)
    (group,) = found["groups"]
    said: dict[float, tuple[Any, ...]] = {
        0.0: ([None], {"values": {"0": "-Inf"}}),
        0.5: ([5.0], {}),
        1.0: ([None], {"values": {"0": "+Inf"}}),
    }
    assert (group["values"], group["special"]) == said[q]


async def test_charts_and_newest_values_tell_it_too(api: Running) -> None:
    """Minimum and maximum of a step as well; a gap is named nowhere."""
    await api.field.send({key("torn"): POINTS})
    found = await api.get("/query_range", match="torn", agg="avg", step="10s", **SPAN)
    special = {"1": "NaN", "2": "+Inf", "4": "-Inf"}
    assert found["series"][0]["special"] == dict.fromkeys(("values", "min", "max"), special)
    found = await api.get("/query_range", match="torn", agg="raw", **SPAN)
    assert found["series"][0]["special"] == {"values": {"1": "NaN", "2": "+Inf", "3": "-Inf"}}
    for path in ("/latest", "/series"):
        (row,) = (await api.get(path, match="torn"))["series"]
        assert row["latest"] == {"time_ns": T0 + 40 * S, "value": None, "special": "-Inf"}
    found = await api.get("/aggregate", match="none", agg="quantile", **SPAN)
    assert found["warnings"] == ["no series matches 'none': /api/v1/series lists what there is"]
    found = await api.get("/query_range", match="none", **SPAN)
    assert (found["warnings"], found["truncated"]) == (
        ["no series matches 'none': /api/v1/series lists what there is"],
        False,
    )
