"""The seal of an envelope: what was changed, replayed the other way, or sealed by somebody else doesn't open."""

import hashlib
import hmac
import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetryx.gateway import envelope, tokens
from telemetryx.gateway.envelope import Counter, Direction, EnvelopeRefused, Step
from telemetryx.wire._pb2 import link_pb2 as pb

SESSION = bytes(range(16))
KEY = b"a-token-of-sixteen-bytes-or-more"
names = st.from_regex(r"[A-Za-z0-9_.\-]{1,40}", fullmatch=True)


def test_the_signature_is_what_the_protocol_says() -> None:
    """Spelled out once by hand, as an agent in another language must spell it."""
    said = b"telemetryx-link-1\x02\x04\x00pump" + SESSION + (7).to_bytes(8, "little") + b"frame"
    wanted = hmac.digest(KEY, said, hashlib.sha256)
    assert envelope.signature(KEY, Direction.DOWN, "pump", SESSION, 7, b"frame") == wanted
    sealed = pb.Envelope.FromString(envelope.seal(KEY, Direction.DOWN, "pump", SESSION, 7, b"frame"))
    assert (sealed.session, sealed.counter, sealed.frame, sealed.signature) == (SESSION, 7, b"frame", wanted)


def test_the_shared_vectors_open_and_are_sealed_alike() -> None:
    """proto/vectors/envelope.json, which the agent reads too: both languages sign the same bytes."""
    vectors = json.loads((Path(__file__).parents[3] / "proto/vectors/envelope.json").read_text("utf-8"))
    assert len(vectors) > 3
    for one in vectors:
        made = (
            one["token"].encode(),
            Direction[one["direction"].upper()],
            one["agent"],
            bytes.fromhex(one["session"]),
            int(one["counter"]),
            bytes.fromhex(one["frame"]),
        )
        assert envelope.signature(*made).hex() == one["signature"]


@given(st.binary(max_size=200), st.integers(1, (1 << 64) - 1), names, st.sampled_from(Direction))
def test_what_was_sealed_opens_with_one_of_the_keys(
    frame: bytes, counter: int, agent: str, direction: Direction
) -> None:
    """Whatever the frame: it comes back, with the key that fits."""
    sealed = envelope.seal(KEY, direction, agent, SESSION, counter, frame)
    opened = envelope.unseal(sealed, direction, agent, [b"another token", KEY])
    assert (opened.session, opened.counter, opened.frame, opened.key) == (SESSION, counter, frame, KEY)


@given(st.binary(min_size=1, max_size=80), st.integers(1, 1 << 40), st.data())
def test_no_changed_byte_opens(frame: bytes, counter: int, data: st.DataObject) -> None:
    """One bit anywhere, the other direction, another agent, another key: refused by name, never by another error."""
    sealed = bytearray(envelope.seal(KEY, Direction.UP, "pump", SESSION, counter, frame))
    kind = data.draw(st.sampled_from(["bit", "direction", "agent", "key"]))
    direction, agent, keys = Direction.UP, "pump", [KEY]
    if kind == "bit":
        at = data.draw(st.integers(0, len(sealed) * 8 - 1))
        sealed[at // 8] ^= 1 << at % 8
    elif kind == "direction":
        direction = Direction.DOWN
    elif kind == "agent":
        agent = "pump2"
    else:
        keys = [os.urandom(16)]
    with pytest.raises(EnvelopeRefused) as refused:
        envelope.unseal(bytes(sealed), direction, agent, keys)
    assert refused.value.cause in {"signature", "malformed"}


@given(st.binary(max_size=300))
def test_any_bytes_are_refused_or_an_envelope(data: bytes) -> None:
    """Garbage from the broker raises nothing but the refusal; without tokens too."""
    for keys in (None, [], [KEY]):
        try:
            opened = envelope.unseal(data, Direction.UP, "pump", keys)
        except EnvelopeRefused as refused:
            assert refused.cause in {"signature", "malformed"}
        else:
            assert keys is None
            assert len(opened.session) == 16


def test_an_unsigned_envelope_opens_only_where_there_are_no_tokens() -> None:
    """On loopback without a token file nothing is signed; with one, the same bytes are refused."""
    unsigned = envelope.seal(None, Direction.UP, "pump", SESSION, 1, b"x")
    assert envelope.unseal(unsigned, Direction.UP, "pump", None).key is None
    for keys in ([], [KEY], [b""]):
        with pytest.raises(EnvelopeRefused, match="not signed"):
            envelope.unseal(unsigned, Direction.UP, "pump", keys)


@given(st.lists(st.integers(1, 12), max_size=40))
def test_counters_pass_each_number_once_and_in_order(numbers: list[int]) -> None:
    """What passes is 1, 2, 3…; a lower number is a repetition, a higher one a gap, and neither moves on."""
    counter = Counter()
    passed = []
    for number in numbers:
        step = counter.take(number)
        if step is Step.NEXT:
            passed.append(number)
        else:
            assert (step is Step.AGAIN) == (number <= counter.last)
    assert passed == list(range(1, len(passed) + 1))


def test_the_last_counter_is_a_gap_in_every_session() -> None:
    """So an agent that believes to be in a session hears that there is none."""
    counter = Counter()
    for number in (1, 2, 3):
        counter.take(number)
    assert counter.take(envelope.LAST) is Step.GAP


def test_only_tokens_that_the_file_holds_can_sign(tmp_path: Path) -> None:
    """A digest opens the gRPC door and signs nothing; a token with a name signs for that agent alone."""
    path = tmp_path / "tokens"
    digest = hashlib.sha256(b"a token that is only digested").hexdigest()
    path.write_text(f"pump a-token-of-the-pump-alone\nvalve sha256:{digest}\na-token-of-everybody\n")
    path.chmod(0o600)
    known = tokens.read(path)
    assert known.keys("pump") == (b"a-token-of-the-pump-alone", b"a-token-of-everybody")
    assert known.keys("valve") == (b"a-token-of-everybody",)
    assert tokens.Tokens().keys("pump") is None
    assert "a-token-of-everybody" not in repr(known._tokens)
