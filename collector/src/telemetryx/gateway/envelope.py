"""The envelope of a frame on a site's broker: opened only when its seal and shape are right.

The broker ends TLS, and others may publish there: a forged acknowledgement would make an agent delete what was never
stored. So each direction signs every envelope, over who it is for, the session, its number and the frame. The number
counts envelopes of one direction in one session from 1: a repeated one is passed over, a gap ends the session.

An agent with a token and its collector both sign with that (HMAC-SHA256). An enrolled host signs with its own key, the
collector towards it with its authority's (ECDSA P-256 with SHA-256, DER).
"""

import hashlib
import hmac
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from google.protobuf.message import DecodeError

from telemetryx.wire._pb2 import link_pb2 as pb

LABEL: Final = b"telemetryx-link-1"
HOST_LABEL: Final = b"telemetryx-link-2"
SESSION_BYTES: Final = 16
LAST: Final = (1 << 64) - 1
"""The largest counter: to whoever is in a session it is a gap, so it ends the session."""


class Direction(IntEnum):
    """Which way an envelope goes: one that was sent up can't be played back as one that came down."""

    UP = 1
    DOWN = 2


class EnvelopeRefused(Exception):  # noqa: N818 - named after what happened
    """Bytes that are no envelope for us. `cause` is a word for metrics: `malformed` or `signature`."""

    def __init__(self, cause: str, message: str) -> None:
        """Keep the word beside the sentence."""
        super().__init__(message)
        self.cause = cause


@dataclass(frozen=True, slots=True)
class Host:
    """The key on record of an enrolled host, and what signs towards it."""

    record: bytes
    """SubjectPublicKeyInfo, DER."""
    public_key: ec.EllipticCurvePublicKey
    sign: Callable[[bytes], bytes]
    """Signs with the authority's key."""


Key = bytes | Host
"""A token that both ends have, or an enrolled host's key."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A genuine envelope: its session, number, frame (still serialised), and the key that sealed it (None: nothing is signed)."""

    session: bytes
    counter: int
    frame: bytes
    key: Key | None


def signature(
    key: Key, direction: Direction, agent: str, session: bytes, counter: int, frame: bytes
) -> bytes:
    """Return what `Envelope.signature` holds: 32 bytes by a token, about 71 by the authority."""
    if isinstance(key, Host):
        return key.sign(_signed(HOST_LABEL, direction, agent, session, counter, frame))
    return hmac.digest(key, _signed(LABEL, direction, agent, session, counter, frame), hashlib.sha256)


def _signed(
    label: bytes, direction: Direction, agent: str, session: bytes, counter: int, frame: bytes
) -> bytes:
    name = agent.encode()
    return b"".join(
        (
            label,
            bytes([direction]),
            len(name).to_bytes(2, "little"),
            name,
            session,
            counter.to_bytes(8, "little"),
            frame,
        )
    )


def _fits(key: Key, direction: Direction, agent: str, envelope: pb.Envelope) -> bool:
    about = (direction, agent, envelope.session, envelope.counter, envelope.frame)
    if not isinstance(key, Host):
        return hmac.compare_digest(signature(key, *about), envelope.signature)
    try:
        key.public_key.verify(envelope.signature, _signed(HOST_LABEL, *about), ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True


def seal(
    key: Key | None, direction: Direction, agent: str, session: bytes, counter: int, frame: bytes
) -> bytes:
    """Write an envelope; without a key (on loopback, where none is needed) unsigned."""
    signed = signature(key, direction, agent, session, counter, frame) if key is not None else b""
    return pb.Envelope(session=session, counter=counter, frame=frame, signature=signed).SerializeToString()


def unseal(data: bytes, direction: Direction, agent: str, keys: Sequence[Key] | None) -> Opened:
    """Check an envelope against the keys that this agent may have (None: nothing is checked)."""
    try:
        envelope = pb.Envelope.FromString(data)
    except DecodeError as error:
        raise EnvelopeRefused("malformed", f"not an envelope: {error}") from error
    if len(envelope.session) != SESSION_BYTES or not envelope.counter:
        raise EnvelopeRefused(
            "malformed", f"a session of {len(envelope.session)} bytes or a counter of 0 can't be"
        )
    if keys is None:
        return Opened(envelope.session, envelope.counter, envelope.frame, None)
    for key in keys:
        if _fits(key, direction, agent, envelope):
            return Opened(envelope.session, envelope.counter, envelope.frame, key)
    raise EnvelopeRefused("signature", f"not signed with a key or a token of agent {agent!r}")


class Step(Enum):
    """What an envelope's counter says."""

    NEXT = "next"
    AGAIN = "again"
    GAP = "gap"


class Counter:
    """Counts the envelopes of one direction in one session."""

    def __init__(self) -> None:
        """Begin before the first."""
        self.last = 0

    def take(self, counter: int) -> Step:
        """Judge an envelope's counter; only the next one moves on."""
        if counter <= self.last:
            return Step.AGAIN
        if counter > self.last + 1:
            return Step.GAP
        self.last = counter
        return Step.NEXT

    def next(self) -> int:
        """Return the number of the next envelope to send."""
        self.last += 1
        return self.last
