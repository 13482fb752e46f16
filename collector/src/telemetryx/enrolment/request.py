"""What a host sends, checked before anything is looked up: its request for a certificate, and the proof of its key at renewal.

Only what we make ourselves is taken: a P-256 key, SHA-256, the agent's own name and no other, and no wishes about the
certificate. The authority writes certificates from its own template; nothing of a request is copied but the key.
"""

import base64
import binascii
import hashlib
import hmac
import secrets
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from telemetryx.enrolment.authority import MAX_COMMON_NAME, public_key_of
from telemetryx.store.enrolment import EnrolmentRefused

MAX_CSR: Final = 4_096
CHALLENGE_S: Final = 300
LABEL: Final = b"telemetryx-renew-1"
_NONCE: Final = 16
_MAC: Final = 32
_UPDATE: Final = "update the agent: this one sends something that this collector doesn't take"


@dataclass(frozen=True, slots=True)
class Asked:
    """A request for a certificate whose signature is right. `digest` names the request, byte by byte."""

    public_key: bytes
    digest: bytes


def read(text: str, agent: str) -> Asked:
    """Check a PEM request for an agent of this name. Raises EnrolmentRefused."""
    if len(text) > MAX_CSR:
        raise _refused(f"the certificate request has {len(text)} characters; at most {MAX_CSR} are taken")
    try:
        csr = x509.load_pem_x509_csr(text.encode("ascii"))
        genuine = csr.is_signature_valid
        key, algorithm = csr.public_key(), csr.signature_hash_algorithm
        names = [(one.oid, one.value) for one in csr.subject]
        wishes = len(csr.attributes)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _refused(f"the certificate request can't be read: {error}") from error
    if not genuine:
        raise _refused("the certificate request isn't signed with the key in it")
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise _refused("the certificate request has a key of another kind than ECDSA P-256")
    if not isinstance(algorithm, hashes.SHA256):
        raise _refused("the certificate request is signed with another hash than SHA-256")
    if names != [(NameOID.COMMON_NAME, agent[:MAX_COMMON_NAME])]:
        raise EnrolmentRefused(
            "foreign_name", f"the certificate request is for another name than {agent!r}", _UPDATE
        )
    if wishes:
        raise EnrolmentRefused(
            "foreign_name", "the certificate request asks for more than a name: none of it is given", _UPDATE
        )
    der = csr.public_bytes(serialization.Encoding.DER)
    return Asked(public_key_of(csr), hashlib.sha256(b"csr" + der).digest())


def challenge(secret: bytes, now_ns: int) -> str:
    """Make what a host must sign to renew: good for five minutes in every process that has the secret."""
    body = (now_ns // 1_000_000_000 + CHALLENGE_S).to_bytes(8, "big") + secrets.token_bytes(_NONCE)
    return base64.urlsafe_b64encode(body + hmac.new(secret, body, hashlib.sha256).digest()).decode()


def answered(text: str, secret: bytes, now_ns: int) -> tuple[bytes, int]:
    """Check that a challenge is ours and still good; return what names it, and until when. Raises EnrolmentRefused."""
    try:
        raw = base64.b64decode(text, altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    body, mark = raw[:-_MAC], raw[-_MAC:]
    if len(raw) != 8 + _NONCE + _MAC or not hmac.compare_digest(
        hmac.new(secret, body, hashlib.sha256).digest(), mark
    ):
        raise EnrolmentRefused(
            "challenge", "this challenge isn't of this collector", "the agent asks for a new one by itself"
        )
    until_s = int.from_bytes(body[:8], "big")
    if until_s * 1_000_000_000 < now_ns:
        raise EnrolmentRefused(
            "challenge", "this challenge is too old", "the agent asks for a new one by itself"
        )
    return hashlib.sha256(b"challenge" + raw).digest(), until_s * 1_000_000_000


def proven(public_key: bytes, agent: str, given: str, signature: str) -> bool:
    """Tell whether a challenge was signed, for this agent, with the key on record."""
    key = serialization.load_der_public_key(public_key)
    if not isinstance(key, ec.EllipticCurvePublicKey):
        return False
    try:
        raw = base64.b64decode(signature, validate=True)
        key.verify(raw, signed(agent, given), ec.ECDSA(hashes.SHA256()))
    except (binascii.Error, ValueError, InvalidSignature):
        return False
    return True


def signed(agent: str, given: str) -> bytes:
    """Write what the signature of a renewal is over."""
    return b"\n".join((LABEL, agent.encode(), given.encode()))


def _refused(message: str) -> EnrolmentRefused:
    return EnrolmentRefused("csr", message, _UPDATE)
