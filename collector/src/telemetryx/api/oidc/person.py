"""Who somebody is, by the claims of their provider: a name for people to read, and a role."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from telemetryx.api.oidc.refused import SignInRefused
from telemetryx.store.accounts import Arrival, Role, is_name

EVERYBODY: Final = "*"


@dataclass(frozen=True, slots=True)
class Mapped:
    """Which claims say it, and which of their values mean what. `*` is everybody whom the provider lets in."""

    user_claim: str
    role_claim: str
    admins: tuple[str, ...]
    operators: tuple[str, ...]
    viewers: tuple[str, ...]

    def role(self, claims: Mapping[str, Any]) -> Role | None:
        """Return the highest role that somebody has."""
        held = {*values(claims, self.role_claim), EVERYBODY}
        ranks = ((Role.ADMIN, self.admins), (Role.OPERATOR, self.operators), (Role.VIEWER, self.viewers))
        return next((role for role, names in ranks if held & set(names)), None)

    def lacks_role(self, claims: Mapping[str, Any]) -> bool:
        """Whether the claim that says it isn't there at all."""
        return not values(claims, self.role_claim)


def arrival(issuer: str, claims: Mapping[str, Any], mapped: Mapped) -> Arrival:
    """Read the claims. Raises SignInRefused for who has no role, or no name that an account can have."""
    role = mapped.role(claims)
    given = claims.get(mapped.user_claim)
    name = given.strip().lower() if isinstance(given, str) else ""
    if role is None:
        raise SignInRefused(
            "role", f"{_shown(name)} has none of the values of {mapped.role_claim!r} that mean a role"
        )
    if not is_name(name):
        raise SignInRefused("name", f"the claim {mapped.user_claim!r} is no account's name: {_shown(given)}")
    if mapped.user_claim == "email" and claims.get("email_verified") is False:
        raise SignInRefused("name", f"the provider hasn't verified the address {_shown(name)}")
    return Arrival(issuer, claims["sub"], name, role)


def values(claims: Mapping[str, Any], name: str) -> list[str]:
    """Return the words under a claim. Its name may be a path (`realm_access.roles`), or hold dots itself (`https://x.example/roles`)."""
    found: Any = claims
    if name in claims:
        found = claims[name]
    else:
        for part in name.split("."):
            found = found.get(part) if isinstance(found, Mapping) else None
    if isinstance(found, str):
        return [found]
    return [one for one in found if isinstance(one, str)] if isinstance(found, list) else []


def _shown(text: object) -> str:
    return repr(text)[:80]
