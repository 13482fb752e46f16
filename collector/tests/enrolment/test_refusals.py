"""Who may not join or renew, and what is said and noted of it."""

import base64
from collections.abc import Callable
from dataclasses import replace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from enrolment.conftest import DAY, OPERATOR, Host, Site
from telemetryx.enrolment import request, token
from telemetryx.store.enrolment import EnrolmentRefused, State

NAME = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "pump")])
Builder = x509.CertificateSigningRequestBuilder


def _pem(csr: x509.CertificateSigningRequest) -> str:
    return csr.public_bytes(serialization.Encoding.PEM).decode()


def _other_curve() -> str:
    return _pem(Builder().subject_name(NAME).sign(ec.generate_private_key(ec.SECP384R1()), hashes.SHA256()))


def _rsa() -> str:
    key = rsa.generate_private_key(65_537, 2_048)
    return _pem(Builder().subject_name(NAME).sign(key, hashes.SHA256()))


def _wishes() -> str:
    names = x509.SubjectAlternativeName([x509.DNSName("collector.telemetryx.internal")])
    asked = Builder().subject_name(NAME).add_extension(names, critical=False)
    return _pem(asked.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256()))


def _forged() -> str:
    """A request whose signature is of another one."""
    one, other = (x509.load_pem_x509_csr(Host("pump").csr().encode()) for _ in range(2))
    der = one.public_bytes(serialization.Encoding.DER)
    head = len(der) - len(one.signature)
    whole = der[:head] + other.signature[: len(one.signature)].ljust(len(one.signature), b"\0")
    return f"-----BEGIN CERTIFICATE REQUEST-----\n{base64.encodebytes(whole).decode()}-----END CERTIFICATE REQUEST-----\n"


@pytest.mark.parametrize(
    ("csr", "cause"),
    [
        (lambda: "no request", "csr"),
        (lambda: "x" * 5_000, "csr"),
        (_other_curve, "csr"),
        (_rsa, "csr"),
        (_forged, "csr"),
        (_wishes, "foreign_name"),
        (lambda: Host("other").csr(), "foreign_name"),
    ],
)
async def test_a_request_of_another_shape_is_refused_and_uses_no_token_up(
    site: Site, csr: Callable[[], str], cause: str
) -> None:
    """Another key, another name, a wish about the certificate, a signature of somebody else's: none is taken."""
    text = await site.token()
    with pytest.raises(EnrolmentRefused) as refused:
        await site.join(Host("pump"), text, csr=csr())
    assert refused.value.cause == cause
    assert refused.value.hint
    assert site.enrolment.refused == {cause: 1}
    assert (await site.join(Host("pump"), text)).issued is not None


async def test_a_token_is_good_once_until_it_expires_or_is_revoked(site: Site) -> None:
    """Used, expired, revoked and unknown ones are told apart, each in a sentence."""

    async def cause(text: str) -> str:
        with pytest.raises(EnrolmentRefused) as refused:
            await site.join(Host("x"), text)
        return refused.value.cause

    used = await site.token()
    await site.join(Host("a"), used)
    assert await cause(used) == "token_used"
    revoked = await site.token()
    (row, *_) = await site.enrolment.tokens(10)
    await site.enrolment.revoke_token(row.id, OPERATOR)
    assert await cause(revoked) == "token_revoked"
    late = await site.token()
    site.clock.advance(DAY)
    assert await cause(late) == "token_expired"
    stolen, _ = token.new(site.enrolment.authority.fingerprint)
    assert await cause(stolen) == "token_unknown"
    foreign, _ = token.new(bytes(32))
    assert await cause(foreign) == "authority"
    assert await cause("txe1.a") == "token_malformed"
    assert await cause("x" * 300) == "token_malformed"


async def test_a_token_for_several_hosts_is_good_for_so_many(site: Site) -> None:
    """The one after the last is refused."""
    text = await site.token(uses=2)
    await site.join(Host("a"), text)
    await site.join(Host("b"), text)
    with pytest.raises(EnrolmentRefused, match="can be used 2 times"):
        await site.join(Host("c"), text)


async def test_a_replayed_request_is_refused_whatever_is_left_of_the_token(site: Site) -> None:
    """Who recorded a request gets no certificate with it."""
    text, host = await site.token(uses=5), Host("a")
    csr = host.csr()
    await site.join(host, text, csr=csr)
    with pytest.raises(EnrolmentRefused) as refused:
        await site.join(host, text, csr=csr)
    assert refused.value.cause == "replayed"
    # The host itself, whose answer was lost, asks with a new request and is the same.
    assert (await site.join(host, text)).issued is not None


async def test_a_host_that_never_heard_the_answer_asks_again_with_the_same_token(site: Site) -> None:
    """On a link that breaks: it is no further use of the token, while nobody else can use that, nor a host that was shut out."""
    text, host = await site.token(), Host("a")
    first = await site.join(host, text)
    again = await site.join(host, text)
    assert again.issued is not None
    assert first.issued is not None
    assert again.issued.serial != first.issued.serial
    (row,) = await site.enrolment.tokens(1)
    assert row.used == 1
    for other in (Host("a"), Host("b"), Host("b", host.key)):
        with pytest.raises(EnrolmentRefused) as refused:
            await site.join(other, text)
        assert refused.value.cause == "token_used"
    await site.enrolment.revoke("a", OPERATOR)
    with pytest.raises(EnrolmentRefused) as refused:
        await site.join(host, text)
    assert refused.value.cause == "token_used"


async def test_who_asks_again_while_it_waits_or_was_approved_stays_as_it_is(site: Site) -> None:
    """Another request doesn't send an approved host back into the queue."""
    site.enrolment.policy = replace(site.enrolment.policy, approve=True)
    text, host = await site.token(), Host("a")
    assert (await site.join(host, text)).enrolled.state is State.PENDING
    assert (await site.join(host, text)).enrolled.state is State.PENDING
    await site.enrolment.approve("a", OPERATOR)
    assert (await site.join(host, text)).issued is not None


async def test_a_name_belongs_to_the_host_that_has_it(site: Site) -> None:
    """Only a token made for the name, used with --replace, brings another key; the old key then renews nothing."""
    old, new = Host("pump"), Host("pump")
    await site.join(old)
    with pytest.raises(EnrolmentRefused, match="belongs to another host"):
        await site.join(new, replace=True)
    text = await site.token(agent="pump", replace=True)
    with pytest.raises(EnrolmentRefused, match="another agent than 'valve'"):
        await site.join(Host("valve"), text)
    with pytest.raises(EnrolmentRefused, match="didn't ask to take its place"):
        await site.join(new, text)
    await site.join(new, text, replace=True)
    with pytest.raises(EnrolmentRefused) as refused:
        await site.renew(old)
    assert refused.value.cause == "signature"
    assert (await site.renew(new)).issued is not None


async def test_an_agent_that_sends_with_a_token_keeps_its_name(site: Site) -> None:
    """A name with data belongs to somebody, enrolled or not."""
    await site.store.session_opened("pump", "ipv4:192.0.2.1:1", "1", {}, 0.0)
    with pytest.raises(EnrolmentRefused, match="belongs to another host"):
        await site.join(Host("pump"))


async def test_one_key_has_one_name(site: Site) -> None:
    """A host can't be two agents."""
    host = Host("a")
    await site.join(host)
    with pytest.raises(EnrolmentRefused, match="enrolled as agent 'a'"):
        await site.join(Host("b", host.key))


@pytest.mark.parametrize("name", ["", "a b", "a/b", "ä", "x" * 129, "a\n", ".", "..", "-_."])
async def test_a_name_is_one_that_agents_can_have(site: Site, name: str) -> None:
    """Anything else is refused before anything is looked up."""
    with pytest.raises(EnrolmentRefused) as refused:
        await site.join(Host(name), csr=Host("a").csr())
    assert refused.value.cause == "name"


async def test_a_certificate_is_renewed_with_the_key_however_late(site: Site) -> None:
    """Years after its end, as long as the agent is active; each challenge is taken once and for five minutes."""
    host = Host("pump")
    first = await site.join(host)
    site.clock.advance(1_000 * DAY)
    challenge = site.enrolment.challenge()
    second = await site.renew(host, challenge)
    assert first.issued is not None
    assert second.issued is not None
    assert second.issued.expires_ns > site.clock.now_ns() > first.issued.expires_ns
    with pytest.raises(EnrolmentRefused) as refused:
        await site.renew(host, challenge)
    assert refused.value.cause == "replayed"
    old = site.enrolment.challenge()
    site.clock.advance((request.CHALLENGE_S + 1) * 10**9)
    for bad in (old, "", "AAAA", "ä"):
        with pytest.raises(EnrolmentRefused) as refused:
            await site.renew(host, bad)
        assert refused.value.cause == "challenge", bad


async def test_nobody_renews_without_the_key(site: Site) -> None:
    """Another key, another agent's name and an unknown name get the same words."""
    await site.join(Host("pump"))
    valve = Host("valve")
    await site.join(valve)
    for host in (Host("pump"), Host("nobody"), Host("pump", valve.key)):
        with pytest.raises(EnrolmentRefused, match="isn't the key of agent"):
            await site.renew(host)


async def test_a_revoked_agent_is_out_for_good(site: Site) -> None:
    """It renews nothing and no approval brings it back; listeners hear of it at once."""
    host, heard = Host("pump"), []
    site.enrolment.subscribe(lambda one: heard.append((one.agent, one.state)))
    await site.join(host)
    found = await site.enrolment.revoke("pump", OPERATOR)
    assert found is not None
    assert heard == [("pump", State.ACTIVE), ("pump", State.REVOKED)]
    with pytest.raises(EnrolmentRefused, match="was revoked"):
        await site.renew(host)
    with pytest.raises(EnrolmentRefused, match="was revoked"):
        await site.join(host)
    approved = await site.enrolment.approve("pump", OPERATOR)
    assert approved is not None
    assert approved.state is State.REVOKED
    assert await site.enrolment.revoke("nobody", OPERATOR) is None
    assert await site.audited() == [
        "enrolment.token_add",
        "enrolment.join",
        "enrolment.revoke",
        "enrolment.renew_refused",
        "enrolment.token_add",
        "enrolment.join_refused",
    ]


async def test_a_rejected_host_stays_out_and_its_name_is_free_for_another(site: Site) -> None:
    """Who was never let in holds no name: somebody who took one first would keep the right host out. Its own key gains nothing."""
    site.enrolment.policy = replace(site.enrolment.policy, approve=True)
    rogue, host = Host("pump"), Host("pump")
    await site.join(rogue)
    with pytest.raises(EnrolmentRefused, match="belongs to another host"):
        await site.join(host)
    rejected = await site.enrolment.reject("pump", OPERATOR)
    assert rejected is not None
    assert rejected.state is State.REVOKED
    with pytest.raises(EnrolmentRefused, match="was rejected") as refused:
        await site.renew(rogue)
    assert (refused.value.cause, "asks again" in refused.value.hint) == ("rejected", True)
    with pytest.raises(EnrolmentRefused, match="was rejected"):
        await site.join(rogue)
    assert (await site.join(host)).enrolled.state is State.PENDING
    with pytest.raises(EnrolmentRefused, match="isn't the key of agent"):
        await site.renew(rogue)
    assert await site.enrolment.reject("nobody", OPERATOR) is None


async def test_only_one_that_waits_is_rejected(site: Site) -> None:
    """Whoever presses the button too late shuts nobody out that works; what was let in keeps its name when it is revoked."""
    await site.join(Host("pump"))
    with pytest.raises(EnrolmentRefused, match="doesn't wait for approval: it is active"):
        await site.enrolment.reject("pump", OPERATOR)
    found = await site.enrolment.find("pump")
    assert found is not None
    assert found.state is State.ACTIVE
    await site.enrolment.revoke("pump", OPERATOR)
    with pytest.raises(EnrolmentRefused, match="was revoked"):
        await site.join(Host("pump"))


async def test_a_replacing_token_is_for_one_agent_and_one_use(site: Site) -> None:
    """Otherwise it would take any name from anybody."""
    for uses, agent in ((1, ""), (2, "pump")):
        with pytest.raises(EnrolmentRefused, match="for that agent, and can be used once"):
            await site.token(uses=uses, agent=agent, replace=True)


async def test_who_tries_again_and_again_does_not_fill_the_audit_log(site: Site) -> None:
    """Each try is counted; of one address and cause one a minute is noted."""
    text, _ = token.new(site.enrolment.authority.fingerprint)
    for _ in range(5):
        with pytest.raises(EnrolmentRefused):
            await site.join(Host("x"), text)
    assert site.enrolment.refused == {"token_unknown": 5}
    assert await site.audited() == ["enrolment.join_refused"]
