"""Who asks: what the guard (auth.py) found out about a request, for the endpoints and the audit log."""

from dataclasses import dataclass
from typing import Final, Literal

from telemetryx.store.accounts import Role
from telemetryx.store.audit import Actor

Via = Literal["nobody", "open", "token", "session"]


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody, or nobody; `via` says how we know: a token, a session of a browser, or the API is open to all."""

    name: str = ""
    role: Role = Role.ANYONE
    via: Via = "nobody"
    peer: str = ""
    account: int | None = None
    """Set for a person with an account."""
    session: bytes | None = None
    """Its digest."""
    csrf: str = ""
    """What a page of this session sends along with a change."""
    token: int | None = None
    device: bytes | None = None
    """The mark of a browser that logged in before, as its digest."""

    def actor(self) -> Actor:
        """Name them for the audit log."""
        return Actor(self.name, "console" if self.via == "session" else "api", self.peer)

    def author(self, said: str | None) -> str:
        """Return in whose name something is done: a person with an account can't use another's."""
        return self.name if self.account is not None or not said else said


NOBODY: Final = Caller()
