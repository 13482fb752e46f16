"""An ID token, checked: whose signature it is, for whom it was made, when, and for which attempt. Nothing in it is believed before.

PyJWT does the cryptography: it is small, maintained, and needs nothing that isn't here already. The algorithms are named here,
signatures with public keys alone: `none` and HMAC (for which a public key would be the secret) are never tried, whatever the
token's own header says; and a key of a kind that doesn't go with the algorithm isn't either.
"""

import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import jwt
from jwt.exceptions import PyJWKError, PyJWTError

from telemetryx.api.oidc.refused import SignInRefused

KINDS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), "RSA"),
    **dict.fromkeys(("ES256", "ES384", "ES512"), "EC"),
    "EdDSA": "OKP",
}
"""Algorithms that are taken, and the kind of key that each needs."""
LEEWAY_S: Final = 60
"""So far a provider's clock may be from ours."""
MIN_RSA_BITS: Final = 2_048
MAX_TOKEN: Final = 64 << 10
MAX_KEYS: Final = 100
MAX_SUBJECT: Final = 255

Key = Mapping[str, Any]
"""A public key as a provider publishes it (JWK)."""


class UnknownKey(Exception):  # noqa: N818 - a refusal is named after its cause
    """None of the keys can have signed it: there may be newer ones."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What a token must say."""

    issuer: str
    client_id: str
    nonce: str


def verify(token: str, keys: Sequence[Key], expected: Expected) -> dict[str, Any]:
    """Return a token's claims. Raises SignInRefused, or UnknownKey when newer keys may help."""
    if len(token) > MAX_TOKEN:
        raise SignInRefused("token", f"the ID token has {len(token)} characters")
    try:
        header = jwt.get_unverified_header(token)
    except PyJWTError as error:
        raise SignInRefused("token", f"the ID token can't be read: {error}") from error
    algorithm = header.get("alg")
    if not isinstance(algorithm, str) or algorithm not in KINDS:
        raise SignInRefused(
            "token", f"the ID token is signed with {str(algorithm)[:20]!r}, which isn't taken"
        )
    claims = _signed(token, algorithm, _candidates(keys, header.get("kid"), algorithm), expected)
    _check(claims, expected)
    return claims


def _candidates(keys: Sequence[Key], kid: object, algorithm: str) -> list[jwt.PyJWK]:
    """Find the keys that can have signed it: by their name where the token gives one, always of the right kind."""
    found = []
    for key in keys[:MAX_KEYS]:
        if kid is not None and key.get("kid") != kid:
            continue
        if key.get("kty") != KINDS[algorithm] or key.get("use", "sig") != "sig":
            continue
        if key.get("alg", algorithm) != algorithm:
            continue
        try:
            made = jwt.PyJWK(dict(key), algorithm)
        except (PyJWKError, PyJWTError, ValueError, TypeError):
            continue
        if KINDS[algorithm] != "RSA" or made.key.key_size >= MIN_RSA_BITS:
            found.append(made)
    return found


def _signed(token: str, algorithm: str, keys: Sequence[jwt.PyJWK], expected: Expected) -> dict[str, Any]:
    for key in keys:
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=[algorithm],
                audience=expected.client_id,
                issuer=expected.issuer,
                leeway=LEEWAY_S,
                options={"require": ["iss", "sub", "aud", "exp", "iat"]},
            )
        except jwt.InvalidSignatureError:
            continue
        except (PyJWTError, ValueError, TypeError) as error:
            raise SignInRefused("token", f"the ID token isn't good: {error}") from error
        return claims
    raise UnknownKey


def _check(claims: Mapping[str, Any], expected: Expected) -> None:
    """Check what is OpenID Connect's own: which attempt it answers, and for whom it was made among several."""
    nonce, party, audience = claims.get("nonce"), claims.get("azp"), claims["aud"]
    if not isinstance(nonce, str) or not hmac.compare_digest(nonce.encode(), expected.nonce.encode()):
        raise SignInRefused("token", "the ID token isn't of this attempt (nonce)")
    several = isinstance(audience, list) and len(audience) > 1
    if (party is not None or several) and party != expected.client_id:
        raise SignInRefused("token", "the ID token was made for another program (azp)")
    if not isinstance(claims["sub"], str) or not 0 < len(claims["sub"]) <= MAX_SUBJECT:
        raise SignInRefused("token", "the ID token names nobody (sub)")
