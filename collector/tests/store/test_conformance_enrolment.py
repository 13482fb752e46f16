"""What every store must keep of enrolment: tokens, keys, certificates, and what was seen before."""

from pathlib import Path

import pytest

from enrolment.conftest import DAY, OPERATOR, Host
from telemetryx.clock import ManualClock
from telemetryx.enrolment.authority import Authority
from telemetryx.enrolment.service import Enrolment, Policy
from telemetryx.store.enrolment import EnrolledQuery, EnrolmentRefused, State
from telemetryx.store.interface import AgentQuery
from telemetryx.store.tables import enrolment as table
from telemetryx.store.tables.store import TableStore


async def test_a_host_joins_renews_is_replaced_and_revoked(
    store: TableStore, clock: ManualClock, tmp_path: Path
) -> None:
    """The whole life of a name, on each engine."""
    authority = Authority.open(tmp_path / "ca", clock.now_ns())
    door = Enrolment(store, authority, clock, Policy(90 * DAY, approve=True))

    async def token(*, agent: str = "", replace: bool = False) -> str:
        made = await door.new_token(
            OPERATOR, site="plant1", agent=agent, replace=replace, uses=1, lifetime_ns=DAY
        )
        return made[0]

    host, text = Host("pump"), await token()
    answer = await door.join(text, "pump", host.csr(), replace=False, peer="192.0.2.1")
    assert (answer.enrolled.state, answer.issued) == (State.PENDING, None)
    with pytest.raises(EnrolmentRefused) as refused:
        await door.join(text, "valve", Host("valve").csr(), replace=False, peer="")
    assert refused.value.cause == "token_used"
    assert (await store.read(lambda db: table.find(db, "valve"))) is None

    approved = await door.approve("pump", OPERATOR)
    assert approved is not None
    assert (approved.state, approved.expires_ns) == (State.ACTIVE, None)
    challenge = door.challenge()
    renewed = await door.renew("pump", challenge, host.signs(challenge), "")
    assert renewed.issued is not None
    with pytest.raises(EnrolmentRefused) as refused:
        await door.renew("pump", challenge, host.signs(challenge), "")
    assert refused.value.cause == "replayed"
    (row,) = await door.agents(EnrolledQuery(10))
    assert (row.site, row.expires_ns) == ("plant1", renewed.issued.expires_ns)
    assert (row.issued_ns, row.serial) == (clock.now_ns(), renewed.issued.serial)
    for wanted, found in (
        (EnrolledQuery(10, filter="UM"), 1),
        (EnrolledQuery(10, after="pump"), 0),
        (EnrolledQuery(10, "active", "a", "pump"), 1),
        (EnrolledQuery(10, "pending"), 0),
    ):
        assert len(await door.agents(wanted)) == found

    clock.advance(DAY // 2)
    other = await token(agent="pump", replace=True)
    again = await door.join(other, "pump", Host("pump").csr(), replace=True, peer="")
    assert again.enrolled.public_key != row.public_key
    revoked = await door.revoke("pump", OPERATOR)
    assert revoked is not None
    assert revoked.state is State.REVOKED
    assert await door.counts() == {"pending": 0, "active": 0, "revoked": 1}
    assert [one.agent for one in await store.read(lambda db: table.changed_since(db, clock.now_ns()))] == [
        "pump"
    ]
    assert [(one.used, one.state(clock.now_ns())) for one in await door.tokens(10)] == [(1, "used")] * 2
    gone = await door.revoke_token(2, OPERATOR)
    assert gone is not None
    assert gone.state(clock.now_ns()) == "revoked"
    assert await door.revoke_token(9, OPERATOR) is None


async def test_the_fleet_tells_who_is_revoked_from_who_is_silent(
    store: TableStore, clock: ManualClock, tmp_path: Path
) -> None:
    """Not while its session stands. Who joins again is silent at most, and not yet too long, though it was seen long ago."""
    door = Enrolment(store, Authority.open(tmp_path / "ca", clock.now_ns()), clock, Policy(90 * DAY))

    async def joins(host: Host, *, replace: bool = False) -> None:
        text, _ = await door.new_token(
            OPERATOR, site="", agent="pump", replace=replace, uses=1, lifetime_ns=DAY
        )
        await door.join(text, "pump", host.csr(), replace=replace, peer="")

    async def states() -> dict[str, str]:
        return {row.name: row.state for row in (await store.agents(AgentQuery())).agents}

    await joins(Host("pump"))
    session = await store.session_opened("pump", "p", "1.0", {}, 0.0)
    await store.session_closed(await store.session_opened("valve", "p", "1.0", {}, 0.0), "")
    await door.revoke("pump", OPERATOR)
    assert await states() == {"pump": "live", "valve": "silent"}
    await store.session_closed(session, "revoked")
    assert await states() == {"pump": "revoked", "valve": "silent"}
    page = await store.agents(AgentQuery(state="revoked"))
    assert (page.total, page.counts["revoked"], page.counts["silent"]) == (1, 1, 1)
    one = await store.agent("pump")
    assert one is not None
    assert one.state == "revoked"

    clock.advance(DAY // 2)
    quiet = AgentQuery(seen_before_ns=clock.now_ns() - DAY // 4)
    assert [row.name for row in (await store.agents(quiet)).agents] == ["pump", "valve"]
    await joins(Host("pump"), replace=True)
    assert await states() == {"pump": "silent", "valve": "silent"}
    assert [row.name for row in (await store.agents(quiet)).agents] == ["valve"]
    clock.advance(DAY // 2)
    later = AgentQuery(seen_before_ns=clock.now_ns() - DAY // 4)
    assert [row.name for row in (await store.agents(later)).agents] == ["pump", "valve"]
