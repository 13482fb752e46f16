"""Frames to our words: a Batch or Loss of link.proto becomes Decoded or LossFrame, checked before anything believes it."""

import hashlib

from telemetryx.errors import UnknownVersion, WireError
from telemetryx.traces import parse
from telemetryx.types import BatchKey, Decoded, Holding, LossFrame
from telemetryx.wire import definitions, payload
from telemetryx.wire._pb2 import link_pb2 as pb
from telemetryx.wire.limits import CODEC, MAX_TIME

EPOCH_BYTES = 16
CHECKSUM_BYTES = 16
OF_PAYLOAD = 12
"""Bytes of a checksum that speak of the payload; the rest is the agent's word for the series in it."""
MAX_SEQ = (1 << 63) - 2
MAX_AGENT_NAME = 255


def checksum(data: bytes, series: bytes = bytes(4)) -> bytes:
    """Return what `Batch.checksum` holds: 12 bytes of SHA-256 over the payload, and the agent's 4 for the series in it."""
    return hashlib.sha256(data).digest()[:OF_PAYLOAD] + series


def fits(expected: bytes, data: bytes) -> bool:
    """Say whether bytes are the payload that a checksum speaks of."""
    return len(expected) == CHECKSUM_BYTES and checksum(data)[:OF_PAYLOAD] == expected[:OF_PAYLOAD]


def agent_name(name: str) -> str:
    """Check an agent's name, or raise WireError: 1 to 255 bytes without control characters."""
    if not name or len(name.encode()) > MAX_AGENT_NAME or not name.isprintable():
        raise WireError(
            f"agent name {name[:80]!r} can't be: 1 to {MAX_AGENT_NAME} bytes, no control characters",
            "agent_name",
        )
    return name


def key(agent: str, epoch: bytes, seq: int) -> BatchKey:
    """Check and make a batch key."""
    if len(epoch) != EPOCH_BYTES:
        raise WireError(f"an epoch has {EPOCH_BYTES} bytes, not {len(epoch)}", "key")
    if not 1 <= seq <= MAX_SEQ:
        raise WireError(f"seq {seq} can't be; seqs count from 1", "key")
    return BatchKey(agent, epoch, seq)


def batch(agent: str, frame: pb.Batch) -> Decoded:
    """Decode a batch with its definitions, or raise WireError."""
    name = key(agent, frame.epoch, frame.seq)
    if frame.codec != CODEC:
        raise UnknownVersion("codec", frame.codec)
    if not fits(frame.checksum, frame.payload):
        raise WireError(
            f"the payload of seq {frame.seq} isn't what its checksum says: damaged on the way or on disk",
            "checksum",
        )
    if abs(frame.clock_offset_ns) > MAX_TIME:
        raise WireError(f"a clock offset of {frame.clock_offset_ns} ns can't be", "time")
    decoded = payload.decode(frame.payload, frame.codec)
    return Decoded(
        key=name,
        checksum=frame.checksum,
        payload=frame.payload,
        samples=decoded.samples,
        windows=decoded.windows,
        events=decoded.events,
        counts=decoded.counts,
        definitions=definitions.decode(frame.definitions),
        clock_offset_ns=frame.clock_offset_ns,
        clock_uncertain=frame.clock_uncertain,
        lane=frame.lane,
        t0_ns=frame.t0_ns,
        t1_ns=frame.t1_ns,
        # Nothing else of it is kept: it is the agent's word, of any length.
        trace=str(parse(frame.trace) or ""),
    )


def loss(agent: str, frame: pb.Loss) -> LossFrame:
    """Read a loss frame, or raise WireError."""
    counts: dict[int, int] = {}
    for entry in frame.counts:
        if entry.cause > 255 or entry.count >= 1 << 63:  # noqa: PLR2004 - a byte; what the store's integers hold
            raise WireError(f"count {entry.count} of cause {entry.cause} can't be")
        counts[entry.cause] = counts.get(entry.cause, 0) + entry.count
    return LossFrame(key(agent, frame.epoch, frame.seq), frame.t0_ns, frame.t1_ns, counts)


def holdings(held: Holding) -> pb.Holdings:
    """Write what the store has of an epoch."""
    return pb.Holdings(
        epoch=held.epoch,
        upto=held.upto,
        ranges=[pb.Range(first=first, last=last) for first, last in held.ranges],
    )


def encode_batch(
    name: BatchKey,
    content: payload.Payload,
    *,
    defined: bytes = b"",
    lane: int = 1,
    clock_offset_ns: int = 0,
    clock_uncertain: bool = False,
) -> pb.Batch:
    """Make a Batch frame, as an agent does."""
    data = payload.encode(content)
    t0, t1 = content.time_range()
    return pb.Batch(
        epoch=name.epoch,
        seq=name.seq,
        lane=pb.LaneKind.ValueType(lane),
        t0_ns=t0,
        t1_ns=t1,
        clock_offset_ns=clock_offset_ns,
        clock_uncertain=clock_uncertain,
        codec=CODEC,
        payload=data,
        checksum=checksum(data),
        definitions=defined,
    )
