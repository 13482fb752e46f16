"""Many series as one: groups by label, and percentiles of a whole fleet, compared with what all readings together give."""

import math
import sys
from typing import Any

import numpy as np
import pytest

import telemetryx
from reference_agent import decoded, defined
from running import T0, Running, S, key
from telemetryx import _native
from telemetryx.types import BatchKey, Definition, SketchBlock, Stored, WindowBlock
from telemetryx.wire.payload import Payload

SPAN = {"start": T0 // S - 600, "end": T0 // S + 600}
EVIL = 'a"b\n<script>; DROP TABLE'


async def fleet(api: Running) -> None:
    """Send three pumps of two sites."""
    for site, device, base in (("north", "1", 0.0), ("north", "2", 10.0), ("south", "3", 100.0)):
        points = [(T0 + S * n, base + n) for n in range(60)]
        await api.field.send({key("temp", site=site, device=device): points}, agent=f"edge-{site}")


def groups(found: dict[str, Any]) -> dict[tuple[str, ...], list[float | None]]:
    """Return values by labels."""
    return {tuple(one["labels"].values()): one["values"] for one in found["groups"]}


@pytest.mark.parametrize(
    ("agg", "north", "south"),
    [
        ("avg", 34.5, 129.5),
        ("min", 0.0, 100.0),
        ("max", 69.0, 159.0),
        ("sum", 4_140.0, 7_770.0),
        ("count", 120, 60),
    ],
)
async def test_series_are_aggregated_by_label(api: Running, agg: str, north: float, south: float) -> None:
    """All readings of a group count alike, whichever series they are of."""
    await fleet(api)
    found = await api.get("/aggregate", match="temp", by="site", agg=agg, **SPAN)
    assert groups(found) == {("north",): [north], ("south",): [south]}
    assert [one["series"] for one in found["groups"]] == [2, 1]
    assert (found["step_ns"], found["method"], found["warnings"]) == (0, "exact", [])


async def test_steps_leave_gaps_where_there_is_nothing(api: Running) -> None:
    """A step without a reading is null, not zero."""
    await fleet(api)
    found = await api.get(
        "/aggregate", match="temp", agg="max", step="30s", start=T0 // S - 30, end=T0 // S + 90
    )
    assert groups(found) == {(): [None, 129.0, 159.0, None]}
    assert found["groups"][0]["times_ns"] == [T0 + 30 * S * n for n in (-1, 0, 1, 2)]


async def test_the_agent_is_a_label_and_no_series_is_no_group(api: Running) -> None:
    """As in rules."""
    await fleet(api)
    found = await api.get("/aggregate", match="temp", by=["agent", "site"], **SPAN)
    assert list(groups(found)) == [("edge-north", "north"), ("edge-south", "south")]
    assert (await api.get("/aggregate", match="nothing", **SPAN))["groups"] == []
    assert (await api.get("/aggregate", match="nothing", agg="quantile", **SPAN))["groups"] == []


@pytest.mark.parametrize("q", [0.0, 0.5, 0.9, 0.99, 1.0])
async def test_percentiles_of_readings_are_exact(api: Running, q: float) -> None:
    """The same as NumPy's over all readings of the fleet."""
    await fleet(api)
    everything = [base + n for base in (0.0, 10.0, 100.0) for n in range(60)]
    found = await api.get("/aggregate", match="temp", agg="quantile", q=q, **SPAN)
    assert groups(found)[()] == [pytest.approx(np.quantile(everything, q))]
    assert found["method"] == "exact"


def windowed(numbers: int, values: np.ndarray) -> WindowBlock:
    """Make a window of a minute for each row of values, with its sketch."""
    built = [_native.sketch_build(row) for row in values]
    sizes, keys, counts, zeros = (np.concatenate(columns) for columns in zip(*built, strict=True))
    rows = len(values)
    starts = np.full(rows, T0, np.int64)
    return WindowBlock(
        np.arange(1, numbers + 1, dtype=np.int64), starts, np.full(rows, 60 * S, np.int64),
        np.full(rows, values.shape[1], np.uint64), values.sum(axis=1), values.min(axis=1), values.max(axis=1),
        starts, values[:, 0], starts + 59 * S, values[:, -1], SketchBlock(sizes, keys, counts, zeros),
    )  # fmt: skip


@pytest.mark.parametrize("q", [0.01, 0.5, 0.9, 0.99, 0.999])
async def test_a_fleets_percentile_from_merged_sketches_is_within_one_percent(api: Running, q: float) -> None:
    """Of forty series whose readings exist only as windows, beside one with readings; values of very different size."""
    chance = np.random.default_rng(11)
    values = np.exp(chance.normal(2, 2, (40, 500))) * np.linspace(0.1, 50, 40)[:, None]
    defs = [Definition(n + 1, "delay", {"device": str(n)}, "ms") for n in range(40)]
    batch = decoded(BatchKey("edge", b"w" * 16, 1), Payload(windows=windowed(40, values)), defs)
    (outcome,) = await api.world.store.commit([batch])
    assert isinstance(outcome, Stored)
    raw = np.exp(chance.normal(3, 1, 600))
    await api.field.send(
        {key("delay", device="raw"): [(T0 + n * S // 20, float(one)) for n, one in enumerate(raw)]}
    )
    found = await api.get("/aggregate", match="delay", agg="quantile", q=q, **SPAN)
    everything = np.sort(np.concatenate((values.ravel(), raw)))
    ((estimate,),) = groups(found).values()
    # The sketch names a reading at that rank, within one percent.
    rank = q * (len(everything) - 1)
    low, high = everything[math.floor(rank)], everything[math.ceil(rank)]
    assert low * 0.99 <= estimate <= high * 1.01
    assert found["method"] == "sketch"
    by_device = await api.get(
        "/aggregate", match="delay", by="device", agg="quantile", q=q, step="1m", **SPAN
    )
    one = next(group for group in by_device["groups"] if group["labels"]["device"] == "7")
    seen = [value for value in one["values"] if value is not None]
    assert seen == [pytest.approx(np.quantile(values[7], q, method="lower"), rel=0.05)]


async def test_readings_beside_a_window_in_its_time_are_other_readings(api: Running) -> None:
    """What was shipped before the rest was thinned: percentiles count the same readings as counts and maxima do."""
    values = np.array([[1.0] * 50])
    defs = defined("delay")
    batch = decoded(BatchKey("edge", b"w" * 16, 1), Payload(windows=windowed(1, values)), defs)
    (outcome,) = await api.world.store.commit([batch])
    assert isinstance(outcome, Stored)
    (row,) = (await api.get("/series", match="delay"))["series"]
    await api.field.send(
        {(row["name"], tuple(sorted(row["labels"].items()))): [(T0 + n, 100.0) for n in range(50)]}
    )
    for agg, value in (("count", 100), ("max", 100.0), ("avg", 50.5)):
        found = await api.get("/aggregate", match="delay", agg=agg, **SPAN)
        assert groups(found)[()] == [value]
    for q, value in ((0.25, 1.0), (0.75, 100.0), (1, 100.0)):
        found = await api.get("/aggregate", match="delay", agg="quantile", q=q, **SPAN)
        assert groups(found)[()] == [pytest.approx(value, rel=0.01)]


async def test_a_missing_compiled_module_is_said_with_how_to_get_it(
    api: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is no failure of the collector with an id in its log; percentiles of readings alone need no compiled module."""
    monkeypatch.setitem(sys.modules, "telemetryx._native", None)
    monkeypatch.delattr(telemetryx, "_native", raising=False)
    batch = decoded(
        BatchKey("edge", b"w" * 16, 1), Payload(windows=windowed(1, np.ones((1, 4)))), defined("delay")
    )
    (outcome,) = await api.world.store.commit([batch])
    assert isinstance(outcome, Stored)
    error = (await api.get("/aggregate", 501, match="delay", agg="quantile", q=0.5, **SPAN))["error"]
    assert error["code"] == "not_installed"
    assert "wheel" in error["message"]
    await api.field.send({key("temp", device="p"): [(T0 + n, float(n)) for n in range(5)]})
    found = await api.get("/aggregate", match="temp", agg="quantile", q=0.5, **SPAN)
    assert groups(found)[()] == [2.0]


async def test_names_of_any_text_are_labels_of_groups(api: Running) -> None:
    """They are data."""
    await api.field.send({key(EVIL, device=EVIL): [(T0, 1.0)]})
    found = await api.get("/aggregate", match="", by=["__name__", "device"], **SPAN)
    assert groups(found) == {(EVIL, EVIL): [1.0]}


@pytest.mark.parametrize(
    "more",
    [
        {"agg": "median"},
        {"q": 2},
        {"q": "nan"},
        {"step": "0s"},
        {"start": 2, "end": 1},
        {"match": "x{"},
        {"step": "1ns"},
        {"q": 0.5},
        {"agg": "avg", "q": 0.99},
        {"by": ["site", "device", "site"]},
        {"by": [f"label{n}" for n in range(17)]},
    ],
)
async def test_what_cannot_be_answered_is_refused(api: Running, more: dict[str, Any]) -> None:
    """With 400."""
    await fleet(api)
    await api.get("/aggregate", 400, **{"match": "temp", **SPAN, **more})
