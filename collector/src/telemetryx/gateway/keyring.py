"""What the frames of each agent may be signed with on a site's broker: the key of its enrolment, and the tokens of its name.

The keys on record are held in memory, since envelopes are judged in the broker's thread, each before anything else is done
with it. They are read when the door opens, and follow each change of an enrolment: at once for what happens in this process,
within a second for what another one on the store did. A frame that comes before its key is known is one of a wrong signature.
"""

from typing import Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from telemetryx.enrolment.service import Enrolment
from telemetryx.gateway.envelope import Host, Key
from telemetryx.gateway.tokens import Tokens
from telemetryx.store.enrolment import Enrolled, EnrolledQuery

MAX_HOSTS: Final = 1_000_000


class Keyring:
    """The keys of all agents."""

    def __init__(self, tokens: Tokens, enrolment: Enrolment | None = None) -> None:
        """Know the tokens, and each host whose enrolment changes from now on."""
        self._tokens = tokens
        self._enrolment = enrolment
        self._hosts: dict[str, tuple[int, Host]] = {}
        if enrolment is not None:
            enrolment.subscribe(self._learn)

    async def load(self) -> None:
        """Read the keys on record."""
        if self._enrolment is not None:
            for one in await self._enrolment.agents(EnrolledQuery(MAX_HOSTS)):
                self._learn(one)

    def keys(self, agent: str, *, unsigned: bool = False) -> tuple[Key, ...] | None:
        """Return what this agent's frames may be signed with; None: they needn't be (`unsigned`, and no key is known)."""
        found = self._hosts.get(agent)
        keys = self._tokens.keys(agent)
        if found is not None:
            return (found[1], *(keys or ()))
        return None if keys is None and unsigned else keys or ()

    def _learn(self, one: Enrolled) -> None:
        """Take a key on record, also a revoked one: who has it hears that it was revoked."""
        known = self._hosts.get(one.agent)
        if self._enrolment is None or (known is not None and known[0] >= one.changed_ns):
            return
        key = serialization.load_der_public_key(one.public_key)
        if isinstance(key, ec.EllipticCurvePublicKey):
            host = Host(one.public_key, key, self._enrolment.authority.sign)
            self._hosts[one.agent] = (one.changed_ns, host)
