"""Who may knock: the token file of the agents' door.

One line a token, `#` starts a comment. A token stands as it is, or as `sha256:<hex>` of it, so that the file holds no
secret; an agent's name before it (`pump-house sha256:…`) makes it that agent's alone, otherwise every agent may use it.
Only its owner may read the file (or root's group, `telemetryx.secret`). Over a broker frames are signed with the token itself, so a digest admits nobody there.
"""

import hashlib
import hmac
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from telemetryx.errors import GatewayRefused, unread
from telemetryx.secret import exposed

MIN_LENGTH: Final = 16
_HASHED: Final = re.compile(r"sha256:([0-9a-fA-F]{64})")


@dataclass(frozen=True, slots=True)
class Token:
    """The digest of a token, the agent that it belongs to (None: any), and itself where the file holds it."""

    digest: bytes
    agent: str | None
    secret: bytes | None = field(default=None, repr=False)


class Tokens:
    """The tokens of the door. Without any, everybody may enter: the configuration allows that on loopback only."""

    def __init__(self, tokens: tuple[Token, ...] = ()) -> None:
        """Know these."""
        self._tokens = tokens

    def __bool__(self) -> bool:
        """Tell whether a token is needed."""
        return bool(self._tokens)

    def admits(self, authorization: str) -> bool:
        """Tell whether a header opens the door at all. Each comparison takes the same time."""
        return not self._tokens or bool(self._found(authorization))

    def admits_as(self, authorization: str, agent: str) -> bool:
        """Tell whether a header opens it for this agent."""
        return not self._tokens or any(token.agent in {None, agent} for token in self._found(authorization))

    def keys(self, agent: str) -> tuple[bytes, ...] | None:
        """Return what this agent's frames may be signed with; None when there are no tokens, so nothing is signed."""
        if not self._tokens:
            return None
        return tuple(
            token.secret
            for token in self._tokens
            if token.secret is not None and token.agent in {None, agent}
        )

    @property
    def sign(self) -> bool:
        """Whether any of them can sign."""
        return any(token.secret is not None for token in self._tokens)

    def _found(self, authorization: str) -> list[Token]:
        scheme, _, secret = authorization.partition(" ")
        given = hashlib.sha256(secret.strip().encode()).digest()
        met = [token for token in self._tokens if hmac.compare_digest(given, token.digest)]
        return met if scheme.lower() == "bearer" else []


def read(path: Path) -> Tokens:
    """Read a token file, or raise GatewayRefused with what to do."""
    try:
        mode = exposed(path.stat())
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise GatewayRefused(
            f"token file {path} can't be read: {unread(error)}; `telemetryx token new --out {path}` makes one"
        ) from error
    if mode is not None:
        raise GatewayRefused(f"token file {path} can be read by others (mode {mode:o}): chmod 600 {path}")
    tokens = tuple(
        _token(line, path, number)
        for number, raw in enumerate(text.splitlines(), start=1)
        if (line := raw.partition("#")[0].strip())
    )
    if not tokens:
        raise GatewayRefused(
            f"token file {path} holds no token; `telemetryx token new --out {path}` writes one"
        )
    return Tokens(tokens)


def _token(line: str, path: Path, number: int) -> Token:
    words = line.split()
    if len(words) > 2:  # noqa: PLR2004 - an agent and a token
        raise GatewayRefused(
            f"{path}:{number}: a line is a token, or an agent's name and a token; this one has {len(words)} words"
        )
    agent = words[0] if len(words) > 1 else None
    if hashed := _HASHED.fullmatch(words[-1]):
        return Token(bytes.fromhex(hashed[1]), agent)
    if len(words[-1]) < MIN_LENGTH:
        raise GatewayRefused(
            f"{path}:{number}: a token of {len(words[-1])} characters; at least {MIN_LENGTH} are needed, "
            "`telemetryx token new` makes good ones"
        )
    secret = words[-1].encode()
    return Token(hashlib.sha256(secret).digest(), agent, secret)
