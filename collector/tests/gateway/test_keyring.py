"""What an agent's frames may be signed with: tokens of its name, and the key on record, as soon as it is on record."""

import hashlib

import pytest

from enrolment.conftest import OPERATOR, Host, Site, site
from telemetryx.gateway.entry import Admitted, Entry
from telemetryx.gateway.keyring import Keyring
from telemetryx.gateway.refusal import TurnedAway
from telemetryx.gateway.tokens import Token, Tokens

__all__ = ["site"]

SECRET = b"a-long-enough-secret"
TOKENS = Tokens((Token(hashlib.sha256(SECRET).digest(), None, SECRET),))


async def test_without_any_key_frames_are_unsigned_only_where_that_is_allowed() -> None:
    """On this machine alone nothing need be signed; a broker that others use takes nothing unsigned."""
    assert Keyring(Tokens()).keys("pump", unsigned=True) is None
    assert Keyring(Tokens()).keys("pump") == ()
    assert Keyring(TOKENS).keys("pump", unsigned=True) == (SECRET,)


async def test_a_key_on_record_is_known_at_once_and_after_a_restart(site: Site) -> None:
    """Who joins while the door is open is known by its key, so is who joined before; and nothing of it goes unsigned."""
    ring = Keyring(Tokens(), site.enrolment)
    await site.join(Host("pump"))
    keys = ring.keys("pump", unsigned=True)
    assert keys is not None
    assert len(keys) == 1
    later = Keyring(TOKENS, site.enrolment)
    assert later.keys("pump") == (SECRET,)
    await later.load()
    assert later.keys("pump") == (*keys, SECRET)
    assert later.keys("valve") == (SECRET,)


async def test_a_rebuilt_host_takes_the_place_of_the_one_before(site: Site) -> None:
    """The old key signs nothing any more."""
    ring = Keyring(Tokens(), site.enrolment)
    await site.join(Host("pump"))
    before = ring.keys("pump")
    site.clock.advance(1_000_000_000)
    await site.join(Host("pump"), await site.token(agent="pump", replace=True), replace=True)
    after = ring.keys("pump")
    assert after != before
    assert after is not None
    assert len(after) == 1


async def test_a_signature_admits_the_host_it_is_of_while_it_may_come_in(site: Site) -> None:
    """The key on record brings the site's label; a token, another key, a revoked host each hear why not."""
    entry = Entry(TOKENS, site.enrolment, certificates=True)
    joined = await site.join(Host("pump"))
    key = joined.enrolled.public_key
    assert await entry.by_signature("pump", key, "pump") == Admitted({"site": "plant1"}, key)
    with pytest.raises(TurnedAway, match="no token takes its name"):
        await entry.by_signature("pump", None, "pump")
    with pytest.raises(TurnedAway, match="another host has taken the place"):
        await entry.by_signature("pump", b"another key", "pump")
    with pytest.raises(TurnedAway, match="doesn't know the agent"):
        await entry.by_signature("valve", key, "valve")
    await site.enrolment.revoke("pump", OPERATOR)
    with pytest.raises(TurnedAway, match="was revoked"):
        await entry.by_signature("pump", key, "pump")


async def test_a_host_that_nobody_approved_stays_outside(site: Site) -> None:
    """Its key is on record, and it hears whom to ask."""
    site.enrolment.policy = type(site.enrolment.policy)(site.enrolment.policy.lifetime_ns, approve=True)
    waiting = await site.join(Host("pump"))
    entry = Entry(Tokens(), site.enrolment, certificates=True)
    with pytest.raises(TurnedAway, match="agents approve pump"):
        await entry.by_signature("pump", waiting.enrolled.public_key, "pump")
    await site.enrolment.approve("pump", OPERATOR)
    assert (await entry.by_signature("pump", waiting.enrolled.public_key, "pump")).key is not None
