"""Numbers are written as Go writes them, one by one and in columns."""

import math

import numpy as np
import pytest

from telemetryx.promql.number import text, texts


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.0, "0"),
        (-0.0, "-0"),
        (1.0, "1"),
        (0.1, "0.1"),
        (1 / 3, "0.3333333333333333"),
        (-2.5, "-2.5"),
        (1e15, "1000000000000000"),
        (1e16, "10000000000000000"),
        (1.5e20, "150000000000000000000"),
        (1e21, "1e+21"),
        (1e-6, "0.000001"),
        (9.5e-7, "9.5e-07"),
        (1.7976931348623157e308, "1.7976931348623157e+308"),
        (5e-324, "5e-324"),
        (math.nan, "NaN"),
        (math.inf, "+Inf"),
        (-math.inf, "-Inf"),
    ],
)
def test_a_number_is_the_shortest_text_that_gives_it_back(value: float, expected: str) -> None:
    """With Prometheus' bounds for the scientific notation."""
    assert text(value) == expected
    assert texts(np.array([1.0, value, 2.5])) == [b"1", expected.encode(), b"2.5"]
