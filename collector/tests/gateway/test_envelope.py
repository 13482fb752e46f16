"""The seal of an envelope: what was changed, replayed the other way, or sealed by somebody else doesn't open."""

import hashlib
import hmac
import json
import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from telemetryx.gateway import envelope, tokens
from telemetryx.gateway.envelope import Counter, Direction, EnvelopeRefused, Host, Step
from telemetryx.wire._pb2 import link_pb2 as pb

SESSION = bytes(range(16))
KEY = b"a-token-of-sixteen-bytes-or-more"
HOST_KEY, AUTHORITY_KEY = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
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
    seen = set()
    for one in vectors:
        direction, agent = Direction[one["direction"].upper()], one["agent"]
        session, counter = bytes.fromhex(one["session"]), int(one["counter"])
        frame, signature = bytes.fromhex(one["frame"]), bytes.fromhex(one["signature"])
        if "token" in one:
            seen.add("token")
            sealed = envelope.signature(one["token"].encode(), direction, agent, session, counter, frame)
            assert sealed == signature
        else:
            # ECDSA has no one signature for a text: it is to be believed, by whom it is for and by nobody else.
            seen.add("host")
            point = bytes.fromhex(one["key"])
            host = Host(
                point, ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point), never_signs
            )
            made = pb.Envelope(session=session, counter=counter, frame=frame, signature=signature)
            data = made.SerializeToString()
            assert envelope.unseal(data, direction, agent, [KEY, host]).key is host
            with pytest.raises(EnvelopeRefused):
                envelope.unseal(data, direction, f"{agent}2", [KEY, host])
    assert seen == {"token", "host"}


@given(st.binary(max_size=200), st.integers(1, (1 << 64) - 1), names)
def test_an_enrolled_hosts_envelopes_open_by_its_key_alone(frame: bytes, counter: int, agent: str) -> None:
    """Up by the host's key, down by the authority's; each is refused under the other, and played back the other way."""
    seen_by_collector, seen_by_host = ends()
    up = envelope.seal(seen_by_host, Direction.UP, agent, SESSION, counter, frame)
    opened = envelope.unseal(up, Direction.UP, agent, [KEY, seen_by_collector])
    assert (opened.key, opened.frame) == (seen_by_collector, frame)
    down = envelope.seal(seen_by_collector, Direction.DOWN, agent, SESSION, counter, frame)
    assert envelope.unseal(down, Direction.DOWN, agent, [seen_by_host]).frame == frame
    for data, direction, key in (
        (up, Direction.UP, seen_by_host),
        (up, Direction.DOWN, seen_by_collector),
        (down, Direction.UP, seen_by_collector),
        (up, Direction.UP, KEY),
    ):
        with pytest.raises(EnvelopeRefused, match="not signed"):
            envelope.unseal(data, direction, agent, [key])


@given(st.integers(0, 8_000))
def test_no_changed_byte_of_an_enrolled_host_opens(at: int) -> None:
    """One bit anywhere: refused by name."""
    seen_by_collector, seen_by_host = ends()
    # Signatures differ in length from one to the next.
    sealed = bytearray(envelope.seal(seen_by_host, Direction.UP, "pump", SESSION, 3, b"frame"))
    at %= len(sealed) * 8
    sealed[at // 8] ^= 1 << at % 8
    with pytest.raises(EnvelopeRefused):
        envelope.unseal(bytes(sealed), Direction.UP, "pump", [seen_by_collector])


def never_signs(text: bytes) -> bytes:
    """Stand for a key that isn't there."""
    raise AssertionError(text)


def ends() -> tuple[Host, Host]:
    """Give the collector's view of a host, and the host's of the collector."""

    def view(theirs: ec.EllipticCurvePrivateKey, own: ec.EllipticCurvePrivateKey) -> Host:
        def sign(text: bytes) -> bytes:
            return own.sign(text, ec.ECDSA(hashes.SHA256()))

        return Host(b"on record", theirs.public_key(), sign)

    return view(HOST_KEY, AUTHORITY_KEY), view(AUTHORITY_KEY, HOST_KEY)


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
