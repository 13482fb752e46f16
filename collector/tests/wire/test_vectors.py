"""The vectors of proto/: what this reader finds in them is what the agent's writer put in, bit by bit.

Floats are compared as bits, whole numbers as whole numbers; nothing here encodes anything.
"""

import hashlib
import itertools
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from telemetryx.errors import UnknownVersion, WireError
from telemetryx.store.tables import blocks
from telemetryx.types import EventBlock, SampleBlock, WindowBlock
from telemetryx.wire import frame, payload
from telemetryx.wire._pb2 import link_pb2 as pb

VECTORS = Path(__file__).resolve().parents[3] / "proto/vectors"
ALL = sorted(path.stem for path in VECTORS.glob("*.batch"))
GOOD = [stem for stem in ALL if not stem.startswith("bad-")]
BAD = [stem for stem in ALL if stem.startswith("bad-")]


def load(stem: str) -> tuple[bytes, Any]:
    """Return a payload and what its JSON says of it."""
    return (VECTORS / f"{stem}.batch").read_bytes(), json.loads((VECTORS / f"{stem}.json").read_text())


def bits(values: np.ndarray) -> list[str]:
    """Each float as the 16 hex digits of its bits."""
    assert values.dtype == np.float64
    return [f"{number:016x}" for number in np.ascontiguousarray(values).view(np.uint64).tolist()]


def whole(values: np.ndarray) -> list[str]:
    """Each 64-bit whole number as text."""
    return [str(number) for number in values.tolist()]


def samples(block: SampleBlock) -> list[dict[str, Any]]:
    """The samples, series by series, in the form of the JSON."""
    found = []
    for at, number in enumerate(block.series.tolist()):
        part = slice(int(block.offsets[at]), int(block.offsets[at + 1]))
        times = block.times[part]
        flags = [0] * len(times) if block.flags is None else block.flags[part].tolist()
        found.append(
            {
                "id": number,
                "times": whole(times),
                "values": bits(block.values[part]),
                "flags": flags,
            }
        )
    return found


def windows(block: WindowBlock | None) -> list[dict[str, Any]]:
    """The windows with their bins, in the form of the JSON."""
    if block is None:
        return []
    sketch = block.sketch
    assert sketch is not None
    ends = np.concatenate([[0], np.cumsum(sketch.counts, dtype=np.int64)]).tolist()
    keys, weights = sketch.keys.tolist(), whole(sketch.weights)
    bins = [
        [list(pair) for pair in zip(keys[start:end], weights[start:end], strict=True)]
        for start, end in itertools.pairwise(ends)
    ]
    columns = {
        "id": block.series.tolist(),
        "t0": whole(block.start),
        "len": whole(block.length),
        "n": whole(block.count),
        "sum": bits(block.sum),
        "min": bits(block.min),
        "max": bits(block.max),
        "ft": whole(block.first_time),
        "fv": bits(block.first),
        "lt": whole(block.last_time),
        "lv": bits(block.last),
        "positive": bins[0::2],
        "negative": bins[1::2],
        "zero": whole(sketch.zero),
    }
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def attribute(value: object) -> dict[str, Any]:
    """An attribute's value under the name of its type."""
    if isinstance(value, bool):
        return {"bool": value}
    if isinstance(value, int):
        return {"int": str(value)}
    if isinstance(value, float):
        return {"float": struct.pack(">d", value).hex()}
    return {"text": value}


def events(block: EventBlock | None) -> list[dict[str, Any]]:
    """The events, in the form of the JSON."""
    if block is None:
        return []
    return [
        {
            "source": source,
            "time": str(time),
            "severity": severity,
            "body": body,
            "attributes": {name: attribute(value) for name, value in attributes.items()},
        }
        for source, time, severity, body, attributes in zip(
            block.source,
            block.times.tolist(),
            block.severity.tolist(),
            block.body,
            block.attributes,
            strict=True,
        )
    ]


def test_there_are_vectors_of_both_kinds_and_each_has_its_json() -> None:
    """A moved or empty folder fails here instead of testing nothing."""
    assert GOOD, f"no vectors in {VECTORS}: just vectors writes them"
    assert BAD, f"no refusals in {VECTORS}: just vectors writes them"
    beside = {path.stem for path in VECTORS.glob("*.json")} - {"envelope", "frames", "pushed-keys"}
    assert sorted(beside) == ALL


@pytest.mark.parametrize("stem", GOOD)
def test_a_vector_decodes_to_exactly_its_values(stem: str) -> None:
    """Counts, samples, windows and events are those of the JSON, in its order."""
    raw, expected = load(stem)
    assert hashlib.sha256(raw).hexdigest()[:32] == expected["checksum"]
    found = payload.decode(raw)
    assert {str(cause): str(count) for cause, count in found.counts.items()} == expected["counts"]
    for series in expected["series"]:
        # No marks at all may be written as none, or as zeros.
        series["flags"] = series["flags"] or [0] * len(series["times"])
    assert samples(found.samples) == expected["series"]
    assert windows(found.windows) == expected["windows"]
    assert events(found.events) == expected["events"]


@pytest.mark.parametrize("stem", BAD)
def test_a_bad_vector_is_refused_for_its_reason(stem: str) -> None:
    """The refusal says what the JSON says: malformed, too large, or a version unknown here."""
    raw, expected = load(stem)
    with pytest.raises(WireError) as refused:
        payload.decode(raw)
    assert refused.value.cause == expected["refusal"]
    assert isinstance(refused.value, UnknownVersion) == (expected["refusal"] == "unknown_version")


FRAMES = json.loads((VECTORS / "frames.json").read_text())["frames"]


@pytest.mark.parametrize("expected", FRAMES, ids=[one["name"] for one in FRAMES])
def test_a_frames_times_are_corrected_and_a_guess_leaves_its_mark(expected: dict[str, Any]) -> None:
    """Offset and mark of the frame are read, and the rows come out as the store keeps them."""
    decoded = frame.batch("a", pb.Batch.FromString(bytes.fromhex(expected["frame"])))
    assert (decoded.key.epoch.hex(), str(decoded.key.seq)) == (expected["epoch"], expected["seq"])
    assert str(decoded.clock_offset_ns) == expected["clock_offset_ns"]
    assert decoded.clock_uncertain is expected["clock_uncertain"]
    assert decoded.trace == expected["trace"]
    correction = blocks.Correction(decoded.clock_offset_ns, decoded.clock_uncertain)
    stored = blocks.samples(decoded.samples, decoded.samples.series, correction)
    assert whole(stored.times) == expected["times"]
    assert stored.flags is not None
    assert stored.flags.tolist() == expected["flags"]
