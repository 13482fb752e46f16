"""Percentiles however readings come: raw or in windows or both, in slices of any size, held as they are or as sketches."""

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reference_agent import decoded, defined, samples
from running import T0, Running, S
from telemetryx import _native
from telemetryx.api import percentile
from telemetryx.api.percentile import Percentiles
from telemetryx.api.rest import aggregate
from telemetryx.store.interface import Retention
from telemetryx.types import F64, I64, BatchKey, SampleBlock, SketchBlock, Stored, WindowBlock
from telemetryx.wire.payload import Payload

STEP = 60 * S
LONG = 7 * STEP
NUMBERS = st.one_of(
    st.floats(-1e9, 1e9, allow_nan=False),
    st.sampled_from([0.0, 1.0, -1.0, math.inf, -math.inf, math.nan, 1e-3, 250.0]),
)


def windows(rows: list[tuple[int, int, list[float]]]) -> WindowBlock:
    """Windows of a step each, with their sketches: (series, start, values)."""
    if not rows:
        return WindowBlock.empty()
    rows = sorted(rows, key=lambda row: row[:2])
    built = [_native.sketch_build(np.array(row[2])) for row in rows]
    sizes, keys, counts, zeros = (np.concatenate(columns) for columns in zip(*built, strict=True))
    starts = np.array([row[1] for row in rows], np.int64)
    some: list[Any] = [np.array([f(row[2]) for row in rows], np.float64) for f in (sum, min, max)]
    first, last = (np.array([row[2][at] for row in rows], np.float64) for at in (0, -1))
    return WindowBlock(
        np.array([row[0] for row in rows], np.int64), starts, np.full(len(rows), STEP, np.int64),
        np.array([len(row[2]) for row in rows], np.uint64), *some, starts, first, starts, last,
        SketchBlock(sizes, keys, counts, zeros),
    )  # fmt: skip


def check(estimates: F64, rows: list[list[float]], q: float) -> None:
    """Each is within 1 % of a reading at that rank (interpolated ones lie between two)."""
    for estimate, values in zip(estimates.tolist(), rows, strict=True):
        known = np.sort(np.array([one for one in values if not math.isnan(one)]))
        if not len(known):
            assert math.isnan(estimate)
            continue
        rank = q * (len(known) - 1)
        # Within 1 %, also of infinities.
        low, high = np.clip([known[math.floor(rank)], known[math.ceil(rank)]], -1e300, 1e300)
        assert low - abs(low) * 0.0101 - 1e-12 <= max(-1e300, min(1e300, estimate))
        assert max(-1e300, min(1e300, estimate)) <= high + abs(high) * 0.0101 + 1e-12


@settings(deadline=None, max_examples=80)
@given(
    data=st.data(),
    series=st.integers(1, 5),
    steps=st.sampled_from([1, 2, 7]),
    q=st.sampled_from([0.0, 0.1, 0.5, 0.9, 0.99, 1.0]),
    most=st.sampled_from([0, 5, 100, 10**6]),
    few=st.sampled_from([1, 4, 64]),
)
def test_any_mix_of_readings_and_windows_in_any_slices_is_what_all_readings_give(
    data: st.DataObject, series: int, steps: int, q: float, most: int, few: int
) -> None:
    """Within the sketch's error; and exactly where there are neither windows nor too many readings."""
    ids = list(range(1, series + 1))
    group = {one: data.draw(st.integers(0, 2), f"group of {one}") for one in ids}
    number = max(group.values()) + 1
    step = LONG // steps
    raw = {one: data.draw(st.lists(st.tuples(st.integers(0, LONG - 1), NUMBERS), max_size=40)) for one in ids}
    finite = st.lists(st.floats(-1e6, 1e6, allow_nan=False), min_size=1, max_size=30)
    wins = [
        (one, at * STEP, data.draw(finite)) for one in ids for at in range(7) if data.draw(st.booleans(), "w")
    ]
    rows: list[list[float]] = [[] for _ in range(number * steps)]
    for one, readings in raw.items():
        for at, value in readings:
            rows[group[one] * steps + at // step].append(value)
    for one, at, values in wins:
        rows[group[one] * steps + at // step].extend(values)
    held = Percentiles(group, 0, step, steps, number * steps, q, exact_most=most)
    ordered = sorted(ids, key=lambda one: (group[one], one))
    cuts = sorted({0, LONG, *data.draw(st.lists(st.sampled_from(range(0, LONG, step)), max_size=4))})
    kept, percentile._FEW = percentile._FEW, few
    try:
        for begun, until in itertools.pairwise(cuts):
            for one in ordered:
                inner = sorted(
                    {begun, until, *data.draw(st.lists(st.integers(begun, until - 1), max_size=3))}
                )
                for start, end in itertools.pairwise(inner):
                    mine = sorted((row for row in raw[one] if start <= row[0] < end), key=lambda row: row[0])
                    block = samples({one: mine}) if mine else SampleBlock.empty()
                    held.add(block, windows([row for row in wins if row[0] == one and start <= row[1] < end]))
                    held.settle(group[one], begun // step)
        held.finish()
    finally:
        percentile._FEW = kept
    check(held.values, rows, q)
    if not wins and most == 10**6:
        assert held.exact
        assert not held.folded


@pytest.mark.parametrize("slices", ["small", "large"])
@pytest.mark.parametrize("step", [None, "90s", "1m", "1h"])
async def test_a_fleets_percentile_does_not_depend_on_how_it_is_read(
    api: Running, monkeypatch: pytest.MonkeyPatch, slices: str, step: str | None
) -> None:
    """Neither on the slices nor on how many readings are held as they are: 30 series at unequal paces, raw and thinned."""
    chance = np.random.default_rng(5)
    if slices == "small":
        monkeypatch.setattr(aggregate, "AT_ONCE", 50)
        monkeypatch.setattr(aggregate, "WINDOWS_AT_ONCE", 4)
        monkeypatch.setattr(aggregate, "_IN_ROW", 20)
        monkeypatch.setattr(percentile, "_BINS", 100)
        monkeypatch.setattr(percentile, "_FEW", 4)
        monkeypatch.setattr(percentile, "EXACT", 300)
    begun = T0 - 3_600 * S
    times: list[I64] = []
    everything: list[F64] = []
    content: dict[int, list[tuple[int, float]]] = {}
    thinned: list[tuple[int, int, list[float]]] = []
    for one in range(1, 31):
        at = np.sort(chance.choice(3_000, 30 if one < 30 else 900, replace=False)) * S + begun
        values = np.exp(chance.normal(1, 2, len(at)))
        content[one] = list(zip(at.tolist(), values.tolist(), strict=True))
        times.append(at)
        everything.append(values)
        for minute in range(one % 5):
            start = begun + minute * 7 * STEP
            some = np.exp(chance.normal(2, 1, 50))
            thinned.append((one, start, some.tolist()))
            times.append(np.full(50, start))
            everything.append(some)
    defs = defined(*(f"delay{one}" for one in range(1, 31)))
    batch = decoded(BatchKey("edge", b"w" * 16, 1), Payload(samples(content), windows(thinned)), defs)
    (outcome,) = await api.world.store.commit([batch])
    assert isinstance(outcome, Stored)
    more = {} if step is None else {"step": step}
    found = await api.get(
        "/aggregate", match='{__name__=~"delay.*"}', agg="quantile", q=0.9,
        start=begun // S, end=begun // S + 3_600, **more,
    )  # fmt: skip
    width = found["step_ns"] or found["end_ns"] - found["start_ns"]
    moments, numbers = np.concatenate(times), np.concatenate(everything)
    cells = (moments - found["start_ns"]) // width
    (group,) = found["groups"]
    estimates = np.array([math.nan if one is None else one for one in group["values"]])
    check(estimates, [numbers[cells == at].tolist() for at in range(len(estimates))], 0.9)
    assert found["method"] == "sketch"
    assert bool(found["warnings"]) == (slices == "small")


@pytest.mark.parametrize("step", [None, "7m", "1h"])
async def test_a_percentile_of_rollups_does_not_depend_on_how_many_are_read_at_once(
    api: Running, monkeypatch: pytest.MonkeyPatch, step: str | None
) -> None:
    """Few of 12 series over days with next to nothing, then a dense hour that is too much at once; across the raw horizon, in the middle of a step."""
    chance = np.random.default_rng(9)
    begun = (T0 - 9 * 86_400 * S) // (3_600 * S) * 3_600 * S
    content: dict[int, list[tuple[int, float]]] = {}
    for one in range(1, 13):
        sparse = begun + np.array([one * 5, 86_400 + one, 4 * 86_400]) * S
        dense = begun + 5 * 86_400 * S + np.sort(chance.choice(5_000, 300, replace=False)) * S
        at = np.concatenate((sparse, dense))
        values = np.exp(chance.normal(1, 2, len(at)))
        content[one] = list(zip(at.tolist(), values.tolist(), strict=True))
    defs = defined(*(f"delay{one}" for one in range(1, 13)))
    batch = decoded(BatchKey("edge", b"w" * 16, 1), Payload(samples(content)), defs)
    (outcome,) = await api.world.store.commit([batch])
    assert isinstance(outcome, Stored)
    while (report := await api.world.store.compact(everything=True)).more or report.batches:
        pass
    horizon = begun + 5 * 86_400 * S + 600 * S
    keep = Retention(raw_ns=86_400 * S, windows_ns=86_400 * S)
    await api.world.store.apply_retention(keep, horizon + 86_400 * S)
    found = []
    for most in (20_000, 100, 13, 5):
        monkeypatch.setattr(aggregate, "ROLLUPS_AT_ONCE", most)
        monkeypatch.setattr(percentile, "_BINS", 20_000 if most > 1_000 else 50)
        monkeypatch.setattr(aggregate, "AT_ONCE", 500_000 if most > 1_000 else 40)
        monkeypatch.setattr(percentile, "EXACT", 1_000_000 if most > 1_000 else 20)
        monkeypatch.setattr(percentile, "_FEW", 1)
        asked = {} if step is None else {"step": step}
        answer = await api.get(
            "/aggregate", match='{__name__=~"delay.*"}', by="__name__", agg="quantile", q=0.9,
            start=begun // S, end=begun // S + 6 * 86_400, **asked,
        )  # fmt: skip
        assert {one["level"] for one in answer["levels"]} >= {"1h" if step != "7m" else "1m"}
        found.append(answer)
    width = found[0]["step_ns"] or found[0]["end_ns"] - found[0]["start_ns"]
    for answer in found:
        for group in answer["groups"]:
            number = int(group["labels"]["__name__"].removeprefix("delay"))
            moments = np.array([row[0] for row in content[number]])
            numbers = np.array([row[1] for row in content[number]])
            cells = (moments - answer["start_ns"]) // width
            estimates = np.array([math.nan if one is None else one for one in group["values"]])
            check(estimates, [numbers[cells == at].tolist() for at in range(len(estimates))], 0.9)
