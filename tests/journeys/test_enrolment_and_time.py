"""Hosts that were away for months and hosts whose clock was never set: real certificates, real TLS, processes with clocks of their own."""

import socket
import ssl
import time
from typing import Any

from cryptography import x509

from tests.harness import Agent, Collector, Stack, until
from tests.harness.clock import WallClock
from tests.harness.stack import KEEPS_ALL
from tests.journeys.test_enrolment import MUTUAL, doctor, enroll, link, secure, stored, stranger, telemetryx
from tests.journeys.test_unset_clock import SECOND, times

DAY = 86_400 * SECOND


def certificate(agent: Agent) -> x509.Certificate:
    """Return what an agent shows at the agents' door."""
    return x509.load_pem_x509_certificate((agent.data / "identity/cert.pem").read_bytes())


def refused_by_tls(collector: Collector, agent: Agent) -> bool:
    """Show an agent's certificate at the agents' door as a client would; tell whether TLS ends it."""
    folder = agent.data / "identity"
    context = ssl.create_default_context(cafile=collector.folder / "data/ca/ca.pem")
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    context.set_alpn_protocols(["h2"])
    with (
        socket.create_connection(("127.0.0.1", collector.grpc), timeout=120) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as secured,
    ):
        try:
            # HTTP/2 begins with the server's settings; who isn't let in gets none.
            return secured.recv(9) == b""
        except (ssl.SSLError, ConnectionResetError):
            return True


def shown(collector: Collector, name: str) -> dict[str, Any]:
    """Return an agent as it is enrolled."""
    (found,) = [one for one in collector.get("/api/v1/enroll/agents")["agents"] if one["agent"] == name]
    return dict(found)


def joined_long_ago(stack: Stack, collector: Collector, ago: str) -> tuple[Agent, WallClock]:
    """Give a running agent that joined so long ago, as it and the collector believe."""
    agent = stranger(stack, collector)
    agent.name = "pump"
    clock = WallClock(agent)
    clock.set(ago)
    done = enroll(agent, telemetryx(collector, "enroll", "token"), "--name", "pump")
    assert done.returncode == 0, done.stderr
    agent.start()
    return agent, clock


def test_a_host_that_was_off_for_months_renews_its_certificate_and_sends_what_it_had(stack: Stack) -> None:
    """Its 90 days ended 110 days ago: TLS refuses it, it renews with its key at the people's door, and nothing of before is lost."""
    collector = stack.collector(f"{MUTUAL}{KEEPS_ALL}", start=False)
    theirs = WallClock(collector)
    theirs.set("-200d")
    collector.start()
    agent, clock = joined_long_ago(stack, collector, "-200d")
    assert agent.write("one n=1i") == 204
    until("the first reading is stored", lambda: stored(collector, 1))
    first = certificate(agent)
    assert shown(collector, "pump")["expires_ns"] < time.time_ns() - 100 * DAY

    # The link goes down, readings are kept, and then somebody puts the host into a cupboard.
    assert collector.process is not None
    assert agent.process is not None
    collector.process.stop()
    assert agent.write("one n=2i") == 204
    until("it is in a batch", agent.in_batches)
    agent.process.stop()
    clock.set("+0")
    theirs.set("+0")
    collector.start()
    assert refused_by_tls(collector, agent)
    begun = "telemetryx_collector_gateway_tls_begun_total 1"
    assert begun in collector.get("/metrics")
    assert "telemetryx_collector_gateway_tls_served_total 0" in collector.get("/metrics")
    found = doctor(agent)["identity"]
    assert "expired on" in found["found"]
    assert "renews it by itself" in found["remedy"]

    agent.start()
    assert agent.write("one n=3i") == 204
    until("what waited and what is new is stored", lambda: len(times(collector, "one.n")) == 3)
    agent.wait_drained()
    old, new = sorted(times(collector, "one.n"))[1:]
    assert new - old > 199 * DAY
    second = certificate(agent)
    assert second.serial_number != first.serial_number
    assert second.public_key() == first.public_key()
    now = shown(collector, "pump")
    assert now["serial"] == f"{second.serial_number:x}"
    assert now["renewed_ns"] > time.time_ns() - DAY
    assert now["expires_ns"] > time.time_ns() + 89 * DAY
    assert not refused_by_tls(collector, agent)
    assert doctor(agent)["identity"]["level"] == "ok"
    (entry, *_) = collector.get("/api/v1/audit", action="enrolment.renew")["audit"]
    assert (entry["actor"], entry["via"]) == ("pump", "agent")


def test_a_host_at_1970_joins_connects_and_its_readings_get_their_real_times(stack: Stack) -> None:
    """Both doors speak TLS: certificates are good for a clock that was never set, and the doctor says what is wrong with it."""
    collector = secure(stack)
    agent = stranger(stack, collector)
    agent.name = "pump"
    clock = WallClock(agent)
    line = telemetryx(collector, "enroll", "token", "--site", "plant1", https=True)
    done = enroll(agent, line, "--name", "pump")
    assert done.returncode == 0, done.stderr
    agent.start()
    assert not agent.status()["clock_set"]
    began = time.time_ns()
    for number in range(3):
        assert agent.write(f"early,device=pump n={number}i") == 204
    until("the readings are stored", lambda: len(times(collector, "early.n")) == 3)
    slack = 5 * SECOND
    assert began - slack <= min(times(collector, "early.n"))
    assert max(times(collector, "early.n")) <= time.time_ns() + slack
    found = doctor(agent)
    assert found["session"]["level"] == "ok"
    assert "this host's clock says 1970" in found["identity"]["found"]
    assert found["identity"]["remedy"].startswith("set the clock")

    clock.set("+0")
    until("the agent has noticed", lambda: agent.status()["clock_set"])
    assert agent.write("early,device=pump n=3i") == 204
    until("it goes on", lambda: len(times(collector, "early.n")) == 4)
    assert doctor(agent)["identity"]["level"] == "ok"


def test_a_host_at_1970_renews_a_certificate_whose_end_it_cannot_know(stack: Stack) -> None:
    """By its clock the certificate is good for decades yet; the collector refuses it, and so it is renewed."""
    collector = stack.collector(f'{MUTUAL}[enroll]\ncertificate_lifetime = "6s"\n')
    agent = stranger(stack, collector)
    agent.name = "pump"
    WallClock(agent)
    done = enroll(agent, telemetryx(collector, "enroll", "token"), "--name", "pump")
    assert done.returncode == 0, done.stderr
    first = certificate(agent)
    until("it has expired", lambda: time.time_ns() > shown(collector, "pump")["expires_ns"])
    assert refused_by_tls(collector, agent)
    agent.start()
    assert agent.write("one n=1i") == 204
    until("the reading is stored", lambda: len(times(collector, "one.n")) == 1)
    assert certificate(agent).serial_number != first.serial_number
    until("the link is up", lambda: link(agent)["connected"])
