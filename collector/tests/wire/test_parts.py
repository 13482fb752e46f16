"""Series of a payload decoded alone: the same bits as when everything is decoded, and nothing but WireError from damage."""

import contextlib
from pathlib import Path

import msgpack
import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from reference_agent import T0, events, samples, window
from telemetryx.errors import WireError
from telemetryx.types import SampleBlock
from telemetryx.wire import columns, parts, payload
from telemetryx.wire.compression import pack, unpack
from telemetryx.wire.payload import Payload

VECTORS = Path(__file__).resolve().parents[3] / "proto/vectors"
GOOD = [path for path in sorted(VECTORS.glob("*.batch")) if not path.stem.startswith("bad-")]
VALUES = (
    st.floats(width=64)
    | st.integers(-(2**50), 2**50).map(lambda i: i / 100)
    | st.integers(-9, 9).map(float)
    | st.just(-0.0)
)


@st.composite
def blocks(draw: st.DrawFn) -> SampleBlock:
    """Samples of some series: on timelines of their own or shared, noisy, decimal or constant, flagged or not."""
    lines = draw(
        st.lists(
            st.lists(st.integers(T0, T0 + 10**12), min_size=1, max_size=40).map(sorted),
            min_size=1,
            max_size=3,
        )
    )
    numbers = sorted(draw(st.sets(st.integers(0, 2**32 - 1), max_size=8)))
    chosen = {number: lines[draw(st.integers(0, len(lines) - 1))] for number in numbers}
    rows = {
        number: list(zip(line, draw(st.lists(VALUES, min_size=len(line), max_size=len(line))), strict=True))
        for number, line in chosen.items()
    }
    if not numbers or not draw(st.booleans()):
        return samples(rows)
    return samples(rows, {n: [draw(st.integers(0, 7)) for _ in rows[n]] for n in numbers})


def whole(block: SampleBlock, index: int) -> list[bytes | None]:
    """One series of a block as bytes."""
    part = slice(int(block.offsets[index]), int(block.offsets[index + 1]))
    flags = None if block.flags is None else block.flags[part].tobytes()
    return [block.times[part].tobytes(), block.values[part].tobytes(), flags]


def alone(found: parts.Samples, index: int) -> list[bytes | None]:
    """The same, decoded alone."""
    times, values, flags = found.of(index)
    return [times.tobytes(), values.tobytes(), None if flags is None else flags.tobytes()]


@given(blocks(), st.booleans())
@settings(max_examples=300)
def test_a_series_alone_has_the_bits_that_it_has_among_all(block: SampleBlock, thorough: bool) -> None:  # noqa: FBT001 - drawn
    """Times, values and flags of each series, whatever its columns' encodings, with other tables behind and before."""
    content = Payload(block, window(1, T0, [1.0, 2.0]), events((T0, 9, "app", "text", {"a": 1})))
    found = parts.samples(payload.encode(content, thorough=thorough))
    assert found.series.tolist() == block.series.tolist()
    for index in range(len(block.series)):
        assert alone(found, index) == whole(block, index)


FORMS = (columns.RAW, columns.CONSTANT, columns.RUN_LENGTH, columns.DECIMAL, columns.DECIMALS)


@pytest.mark.parametrize(
    "only", [*FORMS, columns.RAW + columns.PLANES, *(columns.DECIMAL + mark for mark in (16, 32, 48))]
)
def test_every_encoding_of_values_is_cut_right(only: int) -> None:
    """Whichever form the agent chose for the values, the series in the middle comes out."""
    values = {columns.CONSTANT: [2.5] * 12, columns.RUN_LENGTH: [1.5] * 6 + [2.5] * 6}.get(
        only, [n * n * 25.25 for n in range(12)]
    )
    block = samples({n: [(T0 + i, values[4 * (n - 1) + i]) for i in range(4)] for n in (1, 2, 3)})
    document = msgpack.unpackb(
        unpack(payload.encode(Payload(block)), "it", 1 << 20, 1 << 20), strict_map_key=False
    )
    document["s"]["v"] = columns.encode(block.values, "<f8", only=only, segments=[4, 4, 4])
    found = parts.samples(pack(msgpack.packb(document)))
    assert [alone(found, index) for index in range(3)] == [whole(block, index) for index in range(3)]


@given(blocks(), st.data())
@settings(max_examples=200)
def test_a_changed_payload_is_only_a_wire_error(block: SampleBlock, data: st.DataObject) -> None:
    """A stored payload whose bytes changed is damage, never anything else."""
    raw = bytearray(zstandard.decompress(payload.encode(Payload(block))))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(WireError):
        found = parts.samples(pack(bytes(raw)))
        for index in range(len(found.series)):
            found.of(index)


@pytest.mark.parametrize("path", GOOD, ids=lambda path: path.stem)
def test_the_agents_vectors_give_the_same_series_alone(path: Path) -> None:
    """What the agent's own writer made is read the same way in both."""
    raw = path.read_bytes()
    block, found = payload.decode(raw).samples, parts.samples(raw)
    assert found.series.tolist() == block.series.tolist()
    assert [alone(found, at) for at in range(len(block.series))] == [
        whole(block, at) for at in range(len(block.series))
    ]


def test_a_payload_without_samples_says_so() -> None:
    """It is damage too: the store's row said that it has some."""
    with pytest.raises(WireError, match="no samples"):
        parts.samples(pack(msgpack.packb({"v": 1, "c": {}, "t": []})))


def test_only_the_steps_of_the_series_are_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch of many series costs a query of one about what that one costs."""
    rng = np.random.default_rng(1)
    rows = {
        n: [(T0 + i, round(v, 2)) for i, v in enumerate(rng.normal(50 * n, 3, 100))] for n in range(1, 65)
    }
    found = parts.samples(payload.encode(Payload(samples(rows))))
    decoded: list[int] = []
    real = columns.decode

    def counted(column: columns.Raw, dtype: object, cap: int) -> object:
        decoded.append(column.count)
        return real(column, dtype, cap)

    monkeypatch.setattr(columns, "decode", counted)
    times, values, _ = found.of(40)
    assert (len(times), values.tolist()) == (100, [value for _, value in rows[41]])
    assert max(decoded) <= 100
