"""The way to the collector over gRPC: whom the agent trusts, and a link that dies without a word."""

from pathlib import Path

from tests.fault.link import through
from tests.harness import Agent, Collector, Stack, until
from tests.harness.certificates import authority, signed


def restarted(agent: Agent, trusted: Path) -> None:
    """Start an agent anew on a system that trusts these authorities."""
    if agent.process is not None and agent.process.running:
        agent.process.kill()
    agent.env = {"SSL_CERT_FILE": str(trusted)}
    agent.start()


def stored(collector: Collector, number: int) -> bool:
    """Whether a reading arrived."""
    return any(number in map(int, values) for values in collector.values("one.n", start="-1h"))


def test_without_ca_file_the_systems_authorities_are_trusted_and_no_others(
    stack: Stack, tmp_path: Path
) -> None:
    """An unknown authority's certificate is refused with what to do; once the system, or ca_file, knows it, readings arrive."""
    ours, theirs = authority(tmp_path, "ours"), authority(tmp_path, "theirs")
    cert, key = signed(tmp_path, ours)
    collector = stack.collector(f'tls_cert_file = "{cert}"\ntls_key_file = "{key}"\n')
    agent = stack.agent(collector, start=False)
    plain = f'url = "http://127.0.0.1:{collector.grpc}"'
    config = agent.config.read_text()
    agent.config.write_text(config.replace(plain, f'url = "https://localhost:{collector.grpc}"'))

    restarted(agent, theirs[0])
    assert agent.write("one n=1i") == 204
    until(
        "the agent says whom it doesn't trust",
        lambda: "set uplink.ca_file" in agent.status()["link"]["last_error"],
    )
    assert not agent.status()["link"]["connected"]

    restarted(agent, ours[0])
    until("what waited is stored", lambda: stored(collector, 1))

    known = f'url = "https://localhost:{collector.grpc}"\nca_file = "{ours[0]}"'
    agent.config.write_text(config.replace(plain, known))
    restarted(agent, theirs[0])
    assert agent.write("one n=2i") == 204
    until("ca_file takes the place of the system's", lambda: stored(collector, 2))


def test_a_session_whose_link_died_without_a_word_ends_and_the_next_one_goes_on(stack: Stack) -> None:
    """Nothing passes and nobody is told: the agent's own pings find out, and what was sent into the hole is stored once."""
    collector, agent, proxy = through(stack)
    with proxy:
        assert agent.write("one n=1i") == 204
        until("the first reading is stored", lambda: stored(collector, 1))
        assert agent.status()["link"]["sessions"] == 1
        proxy.black_hole()
        # Of this connection nothing arrives any more, however whole the link is: only a new one helps.
        proxy.forget()
        assert agent.write("one n=2i") == 204
        proxy.mend()
        assert agent.write("one n=3i") == 204
        until("a new session brought them", lambda: stored(collector, 3))
        assert agent.status()["link"]["sessions"] == 2
        agent.wait_drained()
        (values,) = collector.values("one.n", start="-1h")
        assert sorted(map(int, values)) == [1, 2, 3]
