"""Columns of any numbers become JSON, and nothing is written where it doesn't belong."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from telemetryx.api import columns_json
from telemetryx.api.columns_json import dumps
from telemetryx.promql.number import texts

#: Has the C library look at its heap whenever memory is given back; part of Debian's libc6.
CHECKED = next(Path("/lib").glob("*/libc_malloc_debug.so.0"), None)
WORST = (-1.7976931348623157e308, -1.2345678901234567e200, -1.2345678901234567e-300)
WRITE = """
import json, sys
import numpy as np
from telemetryx.api.columns_json import dumps
from telemetryx.promql.number import texts
for value in json.loads(sys.argv[1]):
    for n in (*range(150, 340), 1000, 20_000):
        assert json.loads(dumps({"values": np.full(n, value)})) == {"values": [value] * n}
for n in range(150, 340):
    assert len(texts(np.full(n, -1.2345678901234567e-05))) == n
"""


def test_numbers_as_long_as_numbers_get_stay_within_their_room() -> None:
    """The writer of arrays that was used before ran past its buffer, and the collector died of a viewer's query."""
    checked = {"LD_PRELOAD": str(CHECKED), "MALLOC_CHECK_": "3"} if CHECKED else {}
    done = subprocess.run(
        [sys.executable, "-c", WRITE, json.dumps(WORST)],
        env={**os.environ, **checked},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_arrays_of_each_kind_are_written_and_what_is_no_number_is_null() -> None:
    """As before: integers stay integers, and matrices are lists of rows."""
    said = {
        "t": np.array([1, 2**62]),
        "v": np.array([0.1, np.nan, np.inf, -0.0]),
        "m": np.zeros((2, 1)),
        "one": np.float64(1.5),
        "of": np.array([1, 2], np.uint8),
        "is": np.array([True]),
    }
    assert dumps(said) == (
        b'{"t":[1,4611686018427387904],"v":[0.1,null,null,-0.0],"m":[[0.0],[0.0]],"one":1.5,"of":[1,2],"is":[true]}'
    )
    with pytest.raises(TypeError):
        dumps({"set": {1}})
    assert texts(np.array([1.0, -0.5])) == [b"1", b"-0.5"]


@given(
    st.one_of(arrays.arrays(dtype, st.integers(0, 40)) for dtype in (np.int64, np.float64)), st.integers(1, 3)
)
def test_the_compiled_module_writes_what_lists_would_give(column: np.ndarray, step: int) -> None:
    """To the byte, also of a column that isn't in one piece."""
    some = column[::step]
    listed = [value if np.isfinite(value) else None for value in some.tolist()]
    assert set(columns_json._writers()) == {np.dtype(np.int64), np.dtype(np.float64)}
    assert dumps({"a": some}) == orjson.dumps({"a": listed})


def test_without_the_compiled_module_columns_are_written_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be missing, or of an older build."""
    said = {"t": np.array([1, -(2**63)]), "v": np.array([0.1, np.nan])}
    compiled = dumps(said)
    monkeypatch.setattr(columns_json, "_writers", dict)
    assert dumps(said) == compiled == b'{"t":[1,-9223372036854775808],"v":[0.1,null]}'
