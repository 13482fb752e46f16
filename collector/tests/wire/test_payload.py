"""Payloads and definitions: round trips, the shared vectors, and arbitrary bytes."""

import contextlib

import msgpack
import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from reference_agent import T0, events, samples, window
from telemetryx.errors import UnknownVersion, WireError
from telemetryx.types import Definition, EventBlock, SampleBlock, SketchBlock, WindowBlock
from telemetryx.wire import definitions, payload
from telemetryx.wire.compression import pack
from telemetryx.wire.payload import Payload

TIMES = st.integers(-(2**63), 2**63 - 1)
FLOATS = st.floats(width=64) | st.integers(-1000, 1000).map(lambda i: i / 10)


def column(block: SampleBlock | WindowBlock | EventBlock | SketchBlock | None) -> list:
    """All columns as comparable bytes or lists."""
    if block is None:
        return []
    out = []
    for name in block.__slots__:
        value = getattr(block, name)
        if isinstance(value, SketchBlock):
            out.append(column(value))
        else:
            out.append(value.tobytes() if isinstance(value, np.ndarray) else value)
    return out


@st.composite
def payloads(draw: st.DrawFn) -> Payload:
    """Payloads with any mix of tables."""
    numbers = sorted(draw(st.sets(st.integers(0, 2**32 - 1), max_size=6)))
    lines = draw(st.lists(st.lists(TIMES, min_size=1, max_size=8).map(sorted), min_size=1, max_size=3))
    rows = {
        number: [(time, draw(FLOATS)) for time in lines[draw(st.integers(0, len(lines) - 1))]]
        for number in numbers
    }
    flags = (
        {n: [draw(st.integers(0, 7)) for _ in rows[n]] for n in numbers}
        if draw(st.booleans()) and numbers
        else None
    )
    windows = None
    if draw(st.booleans()):
        windows = window(
            draw(st.integers(0, 2**32 - 1)),
            draw(st.integers(-(2**60), 2**60)),
            draw(st.lists(st.integers(-9, 9).map(float), min_size=1, max_size=5)),
        )
        windows.sketch = SketchBlock(
            np.array([1, 2], np.uint32),
            np.array([5, -3, 9], np.int32),
            np.array([1, 2, 2**63], np.uint64),
            np.array([4], np.uint64),
        )
    some = None
    if draw(st.booleans()):
        attributes = st.dictionaries(
            st.text(max_size=5),
            st.booleans()
            | st.integers(-(2**63), 2**63 - 1)
            | st.floats(allow_nan=False)
            | st.text(max_size=5),
            max_size=3,
        )
        some = events(
            *[
                (
                    draw(TIMES),
                    draw(st.integers(0, 255)),
                    draw(st.text(max_size=5)),
                    draw(st.text(max_size=9)),
                    draw(attributes),
                )
                for _ in range(draw(st.integers(1, 3)))
            ]
        )
    counts = draw(st.dictionaries(st.integers(0, 255), st.integers(0, 2**62), max_size=3))
    return Payload(samples(rows, flags), windows, some, counts)


@given(payloads())
@settings(max_examples=150)
def test_a_payload_comes_back_as_it_went(content: Payload) -> None:
    """Samples, flags, windows with sketches, events and counts survive the wire bit by bit."""
    again = payload.decode(payload.encode(content))
    assert column(again.samples) == column(content.samples)
    assert column(again.windows) == column(content.windows)
    assert column(again.events) == column(content.events)
    assert again.counts == content.counts


@given(
    st.lists(
        st.builds(
            Definition,
            st.integers(0, 2**32 - 1),
            st.text(min_size=1, max_size=9),
            st.dictionaries(st.text(min_size=1, max_size=5), st.text(max_size=9), max_size=4),
            st.text(max_size=4),
        ),
        max_size=5,
    )
)
def test_definitions_come_back_as_they_went(defs: list[Definition]) -> None:
    """Names, units and labels survive the wire."""
    assert definitions.decode(definitions.encode(defs)) == defs


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_only_a_wire_error(data: bytes) -> None:
    """Whatever comes, compressed or not, the decoders answer with WireError or a value."""
    for bytes_ in (data, pack(data)):
        for decoder in (payload.decode, definitions.decode):
            with contextlib.suppress(WireError):
                decoder(bytes_)


@given(payloads(), st.data())
@settings(max_examples=150)
def test_a_mutated_payload_is_only_a_wire_error(content: Payload, data: st.DataObject) -> None:
    """Changed bytes inside the compression, where no checksum of zstd's guards, are refused or decoded, never more."""
    raw = bytearray(zstandard.decompress(payload.encode(content)))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(raw))) if data.draw(st.booleans()) else len(raw)
    with contextlib.suppress(WireError):
        payload.decode(pack(bytes(raw[:cut])))


def document(**changes: object) -> bytes:
    """A small valid payload with some of it replaced."""
    raw = msgpack.unpackb(
        zstandard.decompress(payload.encode(Payload(samples({1: [(T0, 1.0), (T0 + 1, 2.0)]})))),
        strict_map_key=False,
    )
    for path, value in changes.items():
        *parents, last = path.split("_")
        target = raw
        for parent in parents:
            target = target[parent]
        target[last] = value
    return pack(msgpack.packb(raw))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"v": 2}, "payload version 2"),
        ({"v": "1"}, "whole number"),
        ({"x": 1}, "payload table 'x'"),
        ({"s_id": [0, 2, b"\x01\0\0\0\x01\0\0\0"]}, "differ in length"),
        ({"s_n": [0, 1, b"\x03\0\0\0"]}, "values came"),
        ({"s_tl": [0, 1, b"\x07\0\0\0"]}, "timeline 7"),
        ({"s_f": [1, 1, b"\x01"]}, "values came"),
        ({"s_v": [99, 2, b""]}, "encoding 99"),
        ({"c": {1: -1}}, "count -1"),
        ({"c": {"a": 1}}, "whole number"),
        ({"t": [[0, 2, (T0 + 1).to_bytes(8, "little") + T0.to_bytes(8, "little")]]}, "order of time"),
        ({"t": [[[[[]]]]]}, "container"),
        ({"e": {"src": ["a"]}}, "only the columns"),
        ({"w": 5}, "msgpack"),
    ],
)
def test_what_disagrees_is_refused_with_the_reason(changes: dict, says: str) -> None:
    """Each table's inner rules are checked, and the message names what was wrong."""
    with pytest.raises(WireError, match=says):
        payload.decode(document(**changes))


def test_series_must_ascend_and_stand_once() -> None:
    """A series number that comes twice, or out of order, is refused."""
    block = samples({1: [(T0, 1.0)], 2: [(T0, 2.0)]})
    for numbers in ([2, 1], [1, 1]):
        block.series = np.array(numbers, np.int64)
        with pytest.raises(WireError, match="ascend"):
            payload.decode(payload.encode(Payload(block)))


def test_bombs_are_refused_before_they_unpack() -> None:
    """A frame that states gigabytes, states nothing, or holds containers that claim millions is refused."""
    with pytest.raises(WireError, match="would unpack to"):
        payload.decode(zstandard.compress(bytes((64 << 20) + 1)))
    with pytest.raises(WireError, match="content size"):
        payload.decode(zstandard.ZstdCompressor(write_content_size=False).compress(b"x" * 99))
    with pytest.raises(WireError, match="at most"):
        payload.decode(bytes((4 << 20) + 1))
    with pytest.raises(WireError, match="container"):
        payload.decode(pack(b"\x82\xa1v\x01\xa1t\xdd\xff\xff\xff\xff"))
    with pytest.raises(WireError):
        payload.decode(pack(b"\x82\xa1v\x01\xa1t" + b"\x91" * 100_000))
    huge = [1, 4_000_001, bytes(8)]
    with pytest.raises(WireError, match="at most 4000000"):
        payload.decode(document(t=[huge]))
    with pytest.raises(WireError, match="at most"):
        payload.decode(document(t=[[1, 3_000_000, bytes(8)], [1, 3_000_000, bytes(8)]]))


def test_an_unknown_codec_is_refused_by_number() -> None:
    """A codec of the future is named."""
    with pytest.raises(UnknownVersion, match="codec 2"):
        payload.decode(b"", codec=2)


def test_a_text_that_is_no_utf_8_is_refused() -> None:
    """Invalid UTF-8 in an event is refused, not replaced."""
    raw = zstandard.decompress(payload.encode(Payload(events=events((T0, 9, "src", "body!", {})))))
    with pytest.raises(WireError):
        payload.decode(pack(raw.replace(b"body!", b"bod\xff!")))


def test_definitions_have_limits() -> None:
    """Names over 512 bytes, 41 labels, values over 1,024 bytes, numbers over 32 bits are refused."""
    for bad in (
        [1, "x" * 513, "", {}],
        [1, "", "", {}],
        [1 << 32, "x", "", {}],
        [1, "x", "", {"a": "y" * 1025}],
        [1, "x", "", {f"l{i}": "y" for i in range(41)}],
        [1, "x", "", {"a": 1}],
        [1, "x", ""],
        ["1", "x", "", {}],
    ):
        with pytest.raises(WireError):
            definitions.decode(pack(msgpack.packb([bad])))
