"""histogram_quantile over classic buckets: the histograms and results of Prometheus' own histograms.test, and its rules for odd ones."""

import math

import pytest

from promql_memory import Data, ask, every

HISTOGRAMS: Data = {
    f'h_bucket{{le="{bound}",start="{start}"}}': every(300, [count * n for n in range(11)])
    for start, buckets in {
        "positive": {"0.1": 5.0, ".2": 7.0, "1e0": 11.0, "+Inf": 12.0},
        "negative": {"-.2": 1.0, "-0.1": 2.0, "0.3": 2.0, "+Inf": 3.0},
    }.items()
    for bound, count in buckets.items()
}


@pytest.mark.parametrize(
    ("q", "positive", "negative"),
    [
        ("0", 0.0, -0.2),
        ("0.2", 0.048, -0.2),
        ("0.5", 0.15, -0.15),
        ("0.8", 0.72, 0.3),
        ("1", 1.0, 0.3),
        ("-0.1", -math.inf, -math.inf),
        ("1.01", math.inf, math.inf),
        ("NaN", math.nan, math.nan),
    ],
)
@pytest.mark.parametrize("buckets", ["h_bucket", "rate(h_bucket[10m])"])
def test_quantiles_are_those_of_prometheus(q: str, positive: float, negative: float, buckets: str) -> None:
    """Of counters and of their rates: at both ends, inside, below, above and nowhere."""
    found = ask(HISTOGRAMS, f"histogram_quantile({q}, {buckets})", 3000)
    near = {"rel": 1e-12, "abs": 1e-15, "nan_ok": True}
    assert found == {
        '{start="positive"}': [pytest.approx(positive, **near)],
        '{start="negative"}': [pytest.approx(negative, **near)],
    }


def test_quantiles_of_merged_histograms() -> None:
    """Buckets of one bound are added up, whatever the text of the bound and the series' name."""
    data = {
        'a{le="1"}': [(0.0, 10.0)],
        'b{le="1.0"}': [(0.0, 10.0)],
        'a{le="2"}': [(0.0, 40.0)],
        'a{le="+Inf"}': [(0.0, 40.0)],
    }
    assert ask(data, 'histogram_quantile(0.75, {__name__=~"a|b"})') == {"": [1.5]}


@pytest.mark.parametrize(
    ("buckets", "expected"),
    [
        ({"1": 10.0, "2": 20.0}, math.nan),
        ({"+Inf": 20.0}, math.nan),
        ({"1": 0.0, "+Inf": 0.0}, math.nan),
        ({"1": 10.0, "2": 8.0, "4": 20.0, "+Inf": 20.0}, 1.0),
        ({"1": 10.0, "2": 10.000000000000002, "4": 20.0, "+Inf": 20.0}, 1.0),
        ({"1": 4.0, "2": 20.0, "+Inf": 20.0, "x": 7.0, "1_0": 9.0, "": 3.0}, 1.375),
    ],
)
def test_odd_histograms(buckets: dict[str, float], expected: float) -> None:
    """Without the unbounded bucket, with nothing in them, with counts that fall or differ by rounding, with bounds that aren't numbers."""
    data = {f'x{{le="{bound}"}}': [(0.0, count)] for bound, count in buckets.items()}
    found = ask(data, "histogram_quantile(0.5, x)")
    assert found == {"": [pytest.approx(expected, nan_ok=True)]}


def test_buckets_that_come_later_count_from_then_on() -> None:
    """Each time has the buckets that are there; before the first there is nothing; the wanted quantile may change by time."""
    data = {
        'x{le="1"}': [(600.0, 10.0), (900.0, 10.0)],
        'x{le="+Inf"}': [(600.0, 10.0), (900.0, 20.0)],
        'x{le="3"}': [(900.0, 20.0)],
    }
    assert ask(data, "histogram_quantile(0.75, x)", 0, 600, 900) == {"": [None, 0.75, 2.0]}
    assert ask(data, "histogram_quantile(time() / 1200, x)", 600, 900) == {"": [0.5, 2.0]}
    assert ask(data, "histogram_quantile(0.5, nothing)", 600) == {}
