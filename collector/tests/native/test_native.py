"""`telemetryx._native` gives what NumPy and the agent's words say, and refuses what doesn't fit."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from telemetryx import _native

SECOND = 1_000_000_000
T0 = 1_767_225_600 * SECOND
ROUTES = json.dumps({"route": [{"match": "v", "to": "window"}, {"match": "d", "to": "drop"}]}).encode()


def finite() -> st.SearchStrategy[float]:
    """Floats that a window takes."""
    return st.floats(-1e12, 1e12, allow_nan=False)


def plain(columns: "_native.SketchColumns") -> list[list[float]]:
    """Sketches as lists, to compare."""
    sizes, keys, counts, zeros = columns
    return [sizes.tolist(), keys.tolist(), counts.tolist(), zeros.tolist()]


@given(arrays.arrays(np.float64, st.integers(1, 200), elements=finite()), st.floats(0.0, 1.0))
def test_a_quantile_of_a_sketch_is_within_one_percent(values: NDArray[np.float64], q: float) -> None:
    """The value at the rank is found to within 1 %."""
    exact = np.sort(values)[int(np.floor(q * (len(values) - 1)))]
    (estimate,) = _native.sketch_quantile(*_native.sketch_build(values), q)
    assert abs(estimate - exact) <= 0.0100001 * abs(exact) + 1e-12


@given(st.lists(arrays.arrays(np.float64, st.integers(0, 40), elements=finite()), min_size=1, max_size=6))
def test_merged_sketches_equal_the_sketch_of_all_values(parts: list[NDArray[np.float64]]) -> None:
    """Sketches of parts add up exactly."""
    built = [_native.sketch_build(part) for part in parts]
    sizes, keys, counts, zeros = (np.concatenate(column) for column in zip(*built, strict=True))
    groups, merged = _native.sketch_merge(sizes, keys, counts, zeros, np.zeros(len(parts), dtype=np.int64))
    assert groups.tolist() == [0]
    whole = _native.sketch_build(np.concatenate(parts))
    assert plain(merged) == plain(whole)


def test_columns_of_rollups_that_do_not_fit_each_other_are_refused() -> None:
    """With a sentence, never a panic; a damaged sketch names its row."""
    values, starts = np.array([1.0, 2.0, 3.0, 4.0]), np.array([0, 3])
    counts, sums = np.array([3, 1]), np.array([6.0, 4.0])
    says = (counts, sums, np.array([1.0, 4.0]), np.array([3.0, 4.0]))
    data, offsets = _native.rollup_samples(values, starts, says)
    assert (len(data), offsets.tolist()) == (offsets[1], [0, len(data), len(data)])
    one = tuple(column[:1] for column in says)
    for work in (
        lambda: _native.rollup_samples(values, np.array([0, 5]), says),
        lambda: _native.rollup_samples(values, np.array([1, 3]), says),
        lambda: _native.rollup_samples(values, starts, one),
        lambda: _native.rollup_samples(values, starts, (counts, sums, sums, sums[:1])),
        lambda: _native.rollup_samples(values, starts, (-counts, *says[1:])),
        lambda: _native.rollup_merge(data, offsets[:2], says, starts[:1], one),
        lambda: _native.rollup_merge(data, offsets[::-1].copy(), says, starts[:1], one),
        lambda: _native.rollup_group(data, offsets, says, starts[:1]),
        lambda: _native.rollup_faults(data[1:], offsets, says),
        lambda: _native.rollup_windows(*_native.sketch_build(values), says),
    ):
        with pytest.raises(ValueError, match=r"differ|fit|stretches|counts|groups|windows"):
            work()
    changed = bytes([data[0] ^ 1]) + data[1:]
    with pytest.raises(ValueError, match="row 0 is damaged") as raised:
        _native.rollup_group(changed, offsets, says, starts)
    assert raised.value.args[1] == 0
    assert _native.rollup_faults(changed, offsets, says).tolist() == [1, 0]
    assert _native.rollup_faults(data, offsets, (counts + 1, *says[1:])).tolist() == [2, 0]


def test_an_empty_sketch_has_no_quantile_and_ragged_columns_are_refused() -> None:
    """NaN says that there is nothing; columns that don't fit are an error."""
    empty = _native.sketch_build(np.zeros(0))
    assert np.isnan(_native.sketch_quantile(*empty, 0.5)).all()
    with pytest.raises(ValueError, match="don't fit"):
        _native.sketch_quantile(empty[0], np.zeros(3, dtype=np.int32), empty[2], empty[3], 0.5)
    with pytest.raises(ValueError, match="quantile 2"):
        _native.sketch_quantile(*empty, 2.0)


def test_a_replay_gives_windows_raw_samples_and_counts() -> None:
    """Samples take the routes of the configuration, and every one is counted."""
    times = T0 + np.arange(30, dtype=np.int64) * SECOND
    series = np.arange(30, dtype=np.int64) % 3
    values = np.arange(30, dtype=np.float64)
    result = _native.fold_replay(
        ROUTES,
        ["v", "r", "d"],
        [{"device": "p"}] * 3,
        series,
        times,
        values,
        np.arange(31, dtype=np.int64),
        times,
    )
    names = [name for name, _ in result["series"]]
    raw = result["samples"]
    assert {names[at] for at in raw["series"]} == {"r"}
    assert raw["values"].tolist() == values[series == 1].tolist()
    windows = result["windows"]
    assert windows["start"].tolist() == [T0, T0 + 10 * SECOND, T0 + 20 * SECOND]
    assert windows["sum"].tolist() == [
        values[(series == 0) & (np.arange(30) // 10 == at)].sum() for at in range(3)
    ]
    assert windows["count"].sum() == 10
    counts = result["counts"]
    assert counts == {"received": 30, "reduced_window": 10, "reduced_drop": 10, "derived": 3}
    assert json.loads(result["status"])["open_windows"] == 0


def test_arguments_that_do_not_fit_are_refused_with_the_reason() -> None:
    """Each refusal says which argument, and what it should be."""
    whole, number = np.zeros(1, dtype=np.int64), np.zeros(1)
    with pytest.raises(ValueError, match="times must be a NumPy array of i64"):
        _native.features(["a"], [{}], whole, number, number)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="series index 4 of 1"):
        _native.features(["a"], [{}], whole + 4, whole, number)
    with pytest.raises(ValueError, match="1 names and 0 label sets"):
        _native.features(["a"], [], whole, whole, number)
    with pytest.raises(ValueError, match="offsets that rise"):
        _native.fold_replay(ROUTES, ["a"], [{}], whole, whole, number, whole, whole)
    ends = np.asarray([0, 1, 1], dtype=np.int64)
    with pytest.raises(ValueError, match="too many"):
        _native.fold_replay(ROUTES, ["a"], [{}], whole, whole, number, ends, np.asarray([0, 2**62]))


def test_a_model_refuses_a_matrix_of_another_width_or_type() -> None:
    """Rows must be float32 and as wide as the model."""
    onnx = (Path(__file__).parents[3] / "models/default/host.onnx").read_bytes()
    model = _native.Model(onnx)
    assert model.inputs == len(_native.FEATURE_NAMES)
    with pytest.raises(ValueError, match="3 columns; the model takes 8"):
        model.evaluate(np.zeros((1, 3), dtype=np.float32))
    with pytest.raises(ValueError, match="float32"):
        model.evaluate(np.zeros((1, 8)))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="two dimensions"):
        model.evaluate(np.zeros(8, dtype=np.float32))
    with pytest.raises(ValueError, match="ONNX model"):
        _native.Model(b"not a model")


def test_features_fed_in_pieces_equal_those_made_at_once() -> None:
    """State carries over: the edge sees pieces, training sees all."""
    rng = np.random.default_rng(5)
    names = [
        "system.cpu.utilization",
        "system.cpu.load_average.1m",
        "system.disk.io",
        "system.memory.utilization",
    ]
    labels = [{"mode": "idle"}, {}, {"direction": "read"}, {"state": "used"}]
    labels = [{"device": "h", **own} for own in labels]
    n = 400
    times = np.repeat(T0 + np.arange(n // 4, dtype=np.int64) * 10 * SECOND, 4)
    series = np.tile(np.arange(4, dtype=np.int64), n // 4)
    values = np.where(series == 2, np.cumsum(rng.uniform(0, 1e6, n)).round(), rng.uniform(0, 1, n))
    shuffled = rng.permutation(n)
    _, _, _, whole, ready = _native.features(
        names, labels, series[shuffled], times[shuffled], values[shuffled]
    )
    pieces = _native.Features()
    rows = []
    for start in range(0, n, 24):
        end = slice(start, start + 24)
        pieces.add(names, labels, series[end], times[end], values[end])
        rows.append(pieces.close(int(times[end][-1]))[3])
    rows.append(pieces.close()[3])
    assert np.concatenate(rows).tobytes() == whole.tobytes()
    assert ready.sum() == n // 4 - 18
