"""Sets of numbers agree with NumPy's own functions, and load nothing."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from telemetryx.sets import among, distinct, union, without

NUMBERS = arrays.arrays(
    np.int64, st.integers(0, 40), elements=st.integers(-5, 20) | st.integers(-(1 << 63), (1 << 63) - 1)
)


@given(NUMBERS, NUMBERS)
def test_sets_are_what_numpy_says(one: np.ndarray, other: np.ndarray) -> None:
    """Each gives what the function gives that it stands for."""
    assert distinct(one).tolist() == np.unique(one).tolist()
    assert union(one, other).tolist() == np.union1d(one, other).tolist()
    assert without(one, other).tolist() == np.setdiff1d(one, other).tolist()
    assert among(one, other).tolist() == np.isin(one, other).tolist()
