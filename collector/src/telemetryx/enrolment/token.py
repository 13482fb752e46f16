"""The text of an enrolment token: `txe1.SECRET.FINGERPRINT`.

The secret lets one host in; only its digest is kept. The fingerprint is the SHA-256 of the authority's certificate: the agent
believes nobody who can't show that authority, so that the line may be pasted on a network that nobody trusts.
"""

import base64
import binascii
import hashlib
import hmac
import secrets
from typing import Final

from telemetryx.store.enrolment import EnrolmentRefused

PREFIX: Final = "txe1"
BYTES: Final = 32
MAX_LENGTH: Final = 200


def new(fingerprint: bytes) -> tuple[str, bytes]:
    """Make a token; return its text and the digest to keep."""
    secret = secrets.token_bytes(BYTES)
    return f"{PREFIX}.{_written(secret)}.{_written(fingerprint)}", _digest(secret)


def digest(text: str, fingerprint: bytes) -> bytes:
    """Return the digest of a token's secret. Raises EnrolmentRefused for what is none of this collector's."""
    parts = text.split(".")
    if len(text) > MAX_LENGTH or len(parts) != 3 or parts[0] != PREFIX:  # noqa: PLR2004 - prefix, secret, fingerprint
        raise EnrolmentRefused(
            "token_malformed", "this is no enrolment token", "paste it whole: it begins with txe1."
        )
    secret, authority = _read(parts[1]), _read(parts[2])
    if not hmac.compare_digest(authority, fingerprint):
        raise EnrolmentRefused(
            "authority", "this token was made by another collector", "ask the collector that made it"
        )
    return _digest(secret)


def _digest(secret: bytes) -> bytes:
    return hashlib.sha256(secret).digest()


def _written(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _read(text: str) -> bytes:
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise EnrolmentRefused(
            "token_malformed", "this is no enrolment token", "paste it whole: it begins with txe1."
        ) from error
    if len(raw) != BYTES:
        raise EnrolmentRefused(
            "token_malformed", "a part of this enrolment token is missing", "paste it whole"
        )
    return raw
