"""How often agents may renew: each for itself, since a whole site may stand behind one address."""

from typing import Any

import pytest

from enrolment.conftest import Host
from running import Running
from telemetryx.api.rest.enroll import RENEWAL_S, RENEWALS
from telemetryx.cli.agents import _until
from telemetryx.enrolment.service import Policy
from telemetryx.store.enrolment import EnrolledQuery, Life

S = 10**9
FLOOD = 100


async def _asked(api: Running, path: str, body: dict[str, Any]) -> tuple[int, str, str | None]:
    async with api.client.post(f"/api/v1/enroll{path}", json=body) as answer:
        return answer.status, await answer.text(), answer.headers.get("Retry-After")


async def _joined(api: Running, *names: str) -> list[Host]:
    async with api.client.post("/api/v1/enroll/tokens", json={"uses": len(names)}) as answer:
        token = (await answer.json())["token"]
    hosts = [Host(name) for name in names]
    for host in hosts:
        status, text, _ = await _asked(api, "", {"token": token, "agent": host.name, "csr": host.csr()})
        assert status == 200, text
    return hosts


async def _renewed(api: Running, host: Host, signer: Host | None = None) -> tuple[int, str, str | None]:
    async with api.client.get("/api/v1/enroll/challenge") as answer:
        assert answer.status == 200, await answer.text()
        challenge = (await answer.json())["challenge"]
    signature = (signer or host).signs(challenge, host.name)
    return await _asked(api, "/renew", {"agent": host.name, "challenge": challenge, "signature": signature})


async def test_hosts_behind_one_address_take_no_renewals_from_each_other(api: Running) -> None:
    """Some whose clocks are ahead ask all the time: others renew, and a host joins."""
    ahead = await _joined(api, *(f"ahead{number}" for number in range(8)))
    (sound,) = await _joined(api, "sound")
    for host in ahead:
        for _ in range(RENEWALS):
            assert (await _renewed(api, host))[0] == 200
        status, text, later = await _renewed(api, host)
        assert (status, later) == (429, str(round(RENEWAL_S))), text
        assert "its clock may be ahead" in text
    assert (await _renewed(api, sound))[0] == 200
    await _joined(api, "another")


async def test_an_agent_that_waited_renews_again(api: Running) -> None:
    """One more after each minute."""
    (host,) = await _joined(api, "pump")
    while (await _renewed(api, host))[0] == 200:
        pass
    api.clock.advance(round(RENEWAL_S * S))
    assert (await _renewed(api, host))[0] == 200
    assert (await _renewed(api, host))[0] == 429


async def test_nobody_takes_an_agents_renewals_without_its_key(api: Running) -> None:
    """What isn't signed with it counts for the address, and for no agent there."""
    (host,) = await _joined(api, "pump")
    answers = [(await _renewed(api, host, Host("pump")))[0] for _ in range(60)]
    assert answers == [401] * 50 + [429] * 10
    assert (await _renewed(api, host))[0] == 200
    assert api.world.enrolment is not None
    assert api.world.enrolment.refused == {"signature": 50, "too_often": 10}


async def test_who_floods_an_address_keeps_no_agent_behind_it_from_renewing(start: Any) -> None:
    """Neither with forged renewals nor with challenges, however many: more than an address may ask of everything else."""
    api = await start(rate=FLOOD / 4)
    (host,) = await _joined(api, "pump")
    forged = {"agent": "pump", "challenge": "x", "signature": "x"}
    status = [(await _asked(api, "/renew", forged))[0] for _ in range(FLOOD)]
    assert status == [401] * 50 + [429] * (FLOOD - 50)
    for _ in range(FLOOD):
        async with api.client.get("/api/v1/enroll/challenge") as answer:
            assert answer.status == 200
    assert (await _renewed(api, host))[0] == 200


async def test_an_agent_that_waits_for_approval_may_ask_often(api: Running) -> None:
    """It is let in within seconds of the approval, and nothing is signed for it before."""
    assert api.world.enrolment is not None
    api.world.enrolment.policy = Policy(90 * 86_400 * S, approve=True, url="https://c.example:8420")
    (host,) = await _joined(api, "pump")
    for _ in range(2 * RENEWALS):
        status, text, _ = await _renewed(api, host)
        assert (status, '"certificate":null' in text.replace(" ", "")) == (200, True), text


async def test_metrics_say_until_when_certificates_last_of_who_may_come_in(api: Running) -> None:
    """And when they are to be renewed; nothing of one that was revoked."""
    assert api.world.enrolment is not None
    await _joined(api, "pump", "gone")
    async with api.client.post("/api/v1/enroll/agents/gone/revoke") as answer:
        assert answer.status == 200
    (row,) = await api.world.enrolment.agents(EnrolledQuery(1, state="active"))
    assert row.issued_ns is not None
    assert row.expires_ns is not None
    async with api.client.get("/metrics") as answer:
        lines = [
            line for line in (await answer.text()).splitlines() if "certificate" in line and line[0] != "#"
        ]
    told = {name: float(value) for name, value in (line.split(" ") for line in lines)}
    ends = row.expires_ns / 1e9
    assert told == {
        'telemetryx_collector_agent_certificate_expires_seconds{agent="pump"}': ends,
        'telemetryx_collector_agent_certificate_renewal_seconds{agent="pump"}': pytest.approx(
            ends - 30 * 86_400, abs=3_600
        ),
    }


def test_a_certificate_is_overdue_when_half_of_the_time_for_its_renewal_is_over_and_expired_at_its_end() -> (
    None
):
    """As `agents ls` says it and the alert rule judges it."""
    life = Life("pump", 0, 90)
    told = {now: life.overdue(now) for now in (0, 60, 75, 76, 89, 90, 900)}
    assert told == {
        0: "",
        60: "",
        75: "",
        76: "renewal overdue",
        89: "renewal overdue",
        90: "expired",
        900: "expired",
    }


def test_agents_ls_says_of_a_certificate_that_it_has_ended() -> None:
    """Not of one that was revoked: nobody waits for its renewal."""
    row = {"agent": "pump", "state": "active", "renewed_ns": S, "expires_ns": 90 * S}
    assert _until(row) == "1970-01-01T00:01:30Z (expired)"
    assert _until({**row, "state": "revoked"}) == "1970-01-01T00:01:30Z"
    assert _until({**row, "expires_ns": None}) == "-"
