"""Sums keep what rounding drops, as Prometheus' do; its own test files (functions.test, aggregators.test) name these results."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promql_memory import ask, every
from telemetryx.promql import sums

BIG = 9.988465674311579e307
LISTS = st.lists(st.floats(-1e6, 1e6) | st.floats(-1e100, 1e100) | st.floats(-1, 1), min_size=1, max_size=70)


def one(text: str, values: list[float], at: float = 0) -> float:
    """The only value of an answer about a series, or about series x{n="0"}, x{n="1"} … when nothing is over time."""
    data = {"x": every(10, values)}
    if "over_time" not in text:
        data = {f'x{{n="{n}"}}': [(0.0, value)] for n, value in enumerate(values)}
    found = ask(data, text, at)
    assert isinstance(found, dict)
    ((value,),) = found.values()
    assert value is not None
    return value


@pytest.mark.parametrize(
    ("values", "total"),
    [
        ([1, 1e100, 1, -1e100], 2.0),
        ([0.1] * 10, 1.0),
        ([1e16, 1, 1, -1e16], 2.0),
        ([math.inf, 1, 2, 3], math.inf),
        ([math.inf, 1, -math.inf, 2], math.nan),
        ([1, math.nan, 2, 3], math.nan),
        ([BIG] * 4, math.inf),
        ([-BIG] * 4, -math.inf),
    ],
)
def test_a_sum_and_a_mean_lose_nothing_to_rounding(values: list[float], total: float) -> None:
    """Over time and over series alike; what is too large for a double is infinite, its mean isn't."""
    last = 10.0 * (len(values) - 1)
    mean = math.copysign(BIG, total) if BIG in map(abs, values) else total / len(values)
    for text in ("sum_over_time(x[10m])", "sum(x)"):
        assert one(text, values, last if "over" in text else 0) == pytest.approx(total, rel=0, nan_ok=True)
    for text in ("avg_over_time(x[10m])", "avg(x)"):
        assert one(text, values, last if "over" in text else 0) == pytest.approx(mean, rel=1e-15, nan_ok=True)


@settings(max_examples=300)
@given(LISTS, st.integers(0, 70), st.integers(0, 70))
def test_any_stretch_is_as_exact_as_adding_without_rounding(values: list[float], lo: int, hi: int) -> None:
    """Compared with math.fsum: within two roundings of the result, however much cancels out."""
    column = np.array(values)
    lo, hi = sorted((min(lo, len(values)), min(hi, len(values))))
    found = float(sums.total(column, np.array([lo]), np.array([hi]))[0])
    some = values[lo:hi]
    eps = float(np.finfo(np.float64).eps)
    slack = 2 * eps * abs(math.fsum(some)) + 8 * (len(some) * eps) ** 2 * math.fsum(map(abs, some))
    assert abs(found - math.fsum(some)) <= slack
    if some:
        mean = sums.mean(column, np.array([lo]), np.array([hi]), np.array([float(len(some))]))
        assert abs(float(mean[0]) - math.fsum(some) / len(some)) <= 2 * slack / len(some) + 1e-300


def test_rows_of_a_matrix_are_added_column_by_column() -> None:
    """As aggregations over series are, at all times at once; an empty group is 0."""
    matrix = np.array([[1.0, 5.0], [1e100, 6.0], [1.0, 7.0], [-1e100, 8.0], [3.0, math.inf]])
    found = sums.total(matrix, np.array([0, 4, 5]), np.array([4, 5, 5]))
    assert found.tolist() == [[2.0, 26.0], [3.0, math.inf], [0.0, 0.0]]
