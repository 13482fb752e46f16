"""A host joins its collector: token, key, certificate, mutual TLS; renewal, also late; approval, replacement, revocation."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.harness import Agent, Collector, Stack, until
from tests.harness.stack import AGENT, ROOT

#: Mutual TLS on loopback, where it isn't the default.
MUTUAL = 'tls = "own"\nclient_certificates = "required"\n'


def telemetryx(collector: Collector, *words: str, code: int = 0, https: bool = False) -> str:
    """Run a command of the collector's program and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "telemetryx", *words],
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT / "collector/src"),
            "TELEMETRYX_URL": f"http{'s' if https else ''}://127.0.0.1:{collector.http}",
            **({"TELEMETRYX_CA_FILE": str(collector.folder / "data/ca/ca.pem")} if https else {}),
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return done.stdout


def enroll(agent: Agent, line: str, *more: str) -> "subprocess.CompletedProcess[str]":
    """Run the line that a person pastes, with this agent's program and config."""
    program, *words = line.split()
    assert program == "telemetryx-agent"
    return subprocess.run(
        [AGENT, *words, *more, "--config", agent.config],
        env={**os.environ, **agent.env},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def doctor(agent: Agent) -> dict[str, dict[str, Any]]:
    """Return the doctor's findings by what was looked at."""
    done = subprocess.run(
        [AGENT, "doctor", "--json", "--config", agent.config],
        env={**os.environ, **agent.env},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return {finding["check"]: finding for finding in json.loads(done.stdout)["findings"]}


def stranger(stack: Stack, collector: Collector) -> Agent:
    """Give an agent that isn't running, and whose config knows neither a name nor a collector."""
    agent = stack.agent(collector, start=False)
    lines = agent.config.read_text().splitlines()
    agent.config.write_text(
        "\n".join(line for line in lines if not line.startswith(("name =", "url ="))) + "\n"
    )
    return agent


def joined(stack: Stack, collector: Collector, name: str, *more: str) -> Agent:
    """Give a running agent that joined with a token made for it."""
    agent = stranger(stack, collector)
    agent.name = name
    done = enroll(agent, telemetryx(collector, "enroll", "token", *more), "--name", name)
    assert done.returncode == 0, done.stderr
    agent.start()
    return agent


def stored(collector: Collector, number: int) -> bool:
    """Whether a reading arrived."""
    return any(number in map(int, values) for values in collector.values("one.n", start="-1h"))


def link(agent: Agent) -> dict[str, Any]:
    """Return how an agent's link is."""
    return dict(agent.status()["link"])


def test_one_line_joins_a_host_and_revoking_it_cuts_it_off_for_good(stack: Stack) -> None:
    """Data arrives over mutual TLS under the token's site; after `agents revoke` the live link ends, and none opens again."""
    collector = stack.collector(MUTUAL)
    agent = joined(stack, collector, "pump", "--site", "plant1")
    assert agent.write("one n=1i") == 204
    until("the reading is stored", lambda: stored(collector, 1))
    (shown,) = collector.get("/api/v1/agents")["agents"]
    assert shown["labels"]["site"] == "plant1"
    assert ((agent.data / "identity/key.pem").stat().st_mode & 0o777) == 0o600
    assert "active" in telemetryx(collector, "agents", "ls")

    assert "revoked" in telemetryx(collector, "agents", "revoke", "pump")
    until("the link is cut", lambda: "was revoked" in link(agent)["last_error"])
    assert agent.write("one n=2i") == 204
    sessions = link(agent)["sessions"]
    until("it was tried again", lambda: doctor(agent)["session"]["level"] == "problem")
    found = doctor(agent)["session"]
    assert "was revoked" in found["found"]
    assert "--replace" in found["remedy"]
    assert link(agent)["sessions"] == sessions
    assert not stored(collector, 2)
    # A restart of either changes nothing.
    assert collector.process is not None
    collector.process.stop()
    collector.start()
    until("it is refused again", lambda: "was revoked" in link(agent)["last_error"])
    audit = collector.get("/api/v1/audit", action="enrolment")["audit"]
    assert {"enrolment.join", "enrolment.revoke"} <= {entry["action"] for entry in audit}


def test_a_token_is_good_for_one_host_and_no_name_is_taken_from_another(stack: Stack) -> None:
    """A second use and another agent's name are refused in a clear sentence, counted, and noted in the audit log."""
    collector = stack.collector(MUTUAL)
    line = telemetryx(collector, "enroll", "token")
    first, second = stranger(stack, collector), stranger(stack, collector)
    assert enroll(first, line, "--name", "a").returncode == 0
    done = enroll(second, line, "--name", "b")
    assert done.returncode == 1
    assert "was used already" in done.stderr
    done = enroll(second, telemetryx(collector, "enroll", "token"), "--name", "a")
    assert done.returncode == 1
    assert "belongs to another host" in done.stderr
    assert "--replace" in done.stderr
    metrics = collector.get("/metrics")
    assert 'enrolments_refused_total{cause="token_used"} 1' in metrics
    assert 'enrolments_refused_total{cause="name_taken"} 1' in metrics
    audit = collector.get("/api/v1/audit", action="enrolment.join_refused")["audit"]
    assert {entry["after"]["cause"] for entry in audit} == {"token_used", "name_taken"}


def test_joining_before_each_start_joins_once_and_needs_the_token_once(stack: Stack, tmp_path: Path) -> None:
    """The token is read from a file; with --if-needed a host that has joined keeps its key, though the file is gone."""
    collector = stack.collector(MUTUAL)
    agent = stranger(stack, collector)
    made = json.loads(telemetryx(collector, "enroll", "token", "--json"))
    file = tmp_path / "token"
    file.write_text(made["token"] + "\n")
    command = ("telemetryx-agent", "enroll", made["url"], "--token-file", str(file))
    assert enroll(agent, " ".join(command), "--if-needed").returncode == 0
    key = (agent.data / "identity/key.pem").read_bytes()
    file.unlink()
    done = enroll(agent, " ".join(command), "--if-needed")
    assert done.returncode == 0, done.stderr
    assert "nothing was changed" in done.stdout
    assert (agent.data / "identity/key.pem").read_bytes() == key
    assert str(file) in enroll(agent, " ".join(command)).stderr
    agent.start()
    until("the link is up", lambda: link(agent)["connected"])


def test_a_certificate_is_renewed_while_it_runs_and_after_its_end(stack: Stack) -> None:
    """An agent that was off until its certificate had expired renews it with its key, and sends what waited."""
    collector = stack.collector(f'{MUTUAL}[enroll]\ncertificate_lifetime = "6s"\n')
    agent = joined(stack, collector, "pump")
    cert = agent.data / "identity/cert.pem"
    first = cert.read_text()
    until("it is renewed in time", lambda: cert.read_text() != first)
    assert agent.process is not None
    agent.process.stop()

    found = until("it has expired", lambda: _expired(doctor(agent)))
    assert "renews it by itself" in found["remedy"]
    agent.start()
    assert agent.write("one n=1i") == 204
    until("what waited is stored", lambda: stored(collector, 1))


def _expired(found: dict[str, dict[str, Any]]) -> dict[str, Any] | None:
    return found["identity"] if "expired on" in found["identity"]["found"] else None


def test_with_approval_by_an_operator_a_host_waits_and_then_connects_by_itself(stack: Stack) -> None:
    """The running agent has no certificate until somebody says yes; then it fetches it, and nothing was lost."""
    collector = stack.collector(f'{MUTUAL}[enroll]\napprove = "operator"\n')
    agent = joined(stack, collector, "pump")
    assert agent.write("one n=1i") == 204
    until("it says what it waits for", lambda: "telemetryx agents approve pump" in link(agent)["last_error"])
    assert "waits for approval" in doctor(agent)["identity"]["found"]
    until("it is counted", lambda: 'enrolled_agents{state="pending"} 1' in collector.get("/metrics"))
    assert "active" in telemetryx(collector, "agents", "approve", "pump")
    until("the reading is stored", lambda: stored(collector, 1))


def test_a_host_that_was_rejected_says_so_and_how_to_ask_again(stack: Stack) -> None:
    """Not that it waits: who reads `status` or `doctor` would wait for good. With another token it asks again, and nothing was lost."""
    collector = stack.collector(f'{MUTUAL}[enroll]\napprove = "operator"\n')
    agent = joined(stack, collector, "pump")
    assert agent.write("one n=1i") == 204
    until("it says what it waits for", lambda: "telemetryx agents approve pump" in link(agent)["last_error"])
    telemetryx(collector, "agents", "reject", "pump")
    until("it says that it was rejected", lambda: "was rejected" in link(agent)["last_error"], 180)
    shown = subprocess.run(
        [AGENT, "status", "--config", agent.config], capture_output=True, text=True, timeout=120, check=False
    )
    assert "was rejected" in shown.stdout, shown
    found = doctor(agent)
    assert (found["identity"]["level"], "--replace" in found["identity"]["remedy"]) == ("problem", True), (
        found
    )
    assert "was rejected" in found["identity"]["found"], found
    for words in (shown.stdout, json.dumps(found)):
        assert "agents approve" not in words
        assert "waits" not in words

    line = telemetryx(collector, "enroll", "token")
    done = enroll(agent, line, "--name", "pump", "--replace")
    assert done.returncode == 0, done.stderr
    telemetryx(collector, "agents", "approve", "pump")
    until("the reading is stored", lambda: stored(collector, 1), 180)


def test_a_rebuilt_host_keeps_its_name_and_the_old_one_is_shut_out(stack: Stack) -> None:
    """With a token made for the name and --replace a new disk goes on as the same agent, in a new epoch."""
    collector = stack.collector(MUTUAL)
    old = joined(stack, collector, "pump")
    assert old.write("one n=1i") == 204
    until("the first reading is stored", lambda: stored(collector, 1))
    line = telemetryx(collector, "enroll", "token", "--agent", "pump", "--replace")
    assert line.rstrip().endswith("--name pump --replace")
    new = stranger(stack, collector)
    new.name = "pump"
    assert enroll(new, line).returncode == 0
    until("the old one is cut", lambda: "another host has taken the place" in link(old)["last_error"])
    new.start()
    assert new.write("one n=2i") == 204
    until("the second reading is stored", lambda: stored(collector, 2))
    assert collector.get("/api/v1/agents")["total"] == 1


def test_only_the_collector_that_made_the_token_is_believed(stack: Stack) -> None:
    """Over HTTPS with the collector's own certificate a host joins; the same line led to another collector is refused."""
    ours, theirs = secure(stack), secure(stack)
    line = telemetryx(ours, "enroll", "token", https=True)
    agent = stranger(stack, ours)
    done = enroll(agent, line.replace(f":{ours.http}", f":{theirs.http}"), "--name", "pump")
    assert done.returncode == 1
    assert "doesn't show the authority that the token names" in done.stderr
    done = enroll(agent, line, "--name", "pump")
    assert done.returncode == 0, done.stderr
    agent.start()
    until("it is connected", lambda: link(agent)["connected"])


def secure(stack: Stack) -> Collector:
    """Start a collector whose two doors both show its own certificate."""
    collector = stack.collector(MUTUAL, start=False)
    collector.config.write_text(collector.config.read_text().replace("[api]\n", '[api]\ntls = "own"\n'))
    collector.authority = collector.folder / "data/ca/ca.pem"
    collector.start()
    return collector


def test_a_config_that_names_another_agent_is_refused(stack: Stack) -> None:
    """The certificate is for one name: a config that gives another can't be used, and says what to do."""
    collector = stack.collector(MUTUAL)
    agent = joined(stack, collector, "pump")
    assert agent.process is not None
    agent.process.stop()
    text = agent.config.read_text().replace("[agent]\n", '[agent]\nname = "other"\n')
    agent.config.write_text(text)
    done = subprocess.run(
        [AGENT, "check", "--config", agent.config], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 3
    assert "is enrolled as" in done.stderr
