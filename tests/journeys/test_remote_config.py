"""A configuration that the collector pushes: applied and kept, refused, returned from, declined; nothing acknowledged is lost on the way."""

import json
import signal
import socket
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

from tests.harness import Agent, Process, Stack, until
from tests.harness.manager import Manager
from tests.harness.processes import free_port
from tests.harness.pusher import Pusher
from tests.harness.stack import AGENT, listens

# A gate that a loaded machine can keep, and one that is over soon where a test wants it to fail.
PATIENT = '[remote]\ngate = "2m"\n'
IMPATIENT = '[remote]\ngate = "12s"\n'


@pytest.fixture
def pusher() -> Iterator[Pusher]:
    """Give a scripted collector."""
    with Pusher() as pusher:
        yield pusher


def _agent(stack: Stack, pusher: Pusher, extra: str = PATIENT, inputs: str | None = None) -> Agent:
    agent = Agent(stack.folder / "agent", pusher.port, extra=extra, inputs=inputs)
    stack.agents.append(agent)
    agent.start()
    pusher.connected()
    return agent


def _remote(agent: Agent) -> dict[str, Any]:
    """Say how the pushed configuration stands, once the agent answers: its ports listen before that, and it begins anew for one."""
    return until("the agent answers", lambda: dict(agent.status()["remote"]))


def _ask(agent: Agent, *words: str) -> str:
    asked = [str(AGENT), *words, "--config", str(agent.config)]
    return subprocess.run(asked, check=True, capture_output=True, text=True, timeout=120).stdout


def _stop(agent: Agent) -> None:
    assert agent.process is not None
    assert agent.process.stop() == 0


def test_a_good_configuration_is_applied_and_survives_a_restart_without_a_collector(
    stack: Stack, pusher: Pusher
) -> None:
    """A pushed input opens in the same process; after a restart offline it is there again; taken back, it is gone."""
    agent = _agent(stack, pusher)
    assert agent.process is not None
    pid, port = agent.process.pid, free_port()
    _stop(agent)
    agent.config.write_text(
        agent.config.read_text().replace(f'[input.tcp]\nlisten = "127.0.0.1:{agent.tcp}"\n', "")
    )
    agent.start(wait=False)
    until("the agent is there", lambda: agent.status()["link"]["connected"])
    pid = agent.process.pid
    pusher.want(7, f'[agent]\nmax_series = 77\n[input.tcp]\nlisten = "127.0.0.1:{port}"\n')
    assert pusher.phase(7, "trial").in_force == 7
    said = pusher.phase(7, "applied")
    assert (said.in_force, said.reason) == (7, "")
    assert agent.process.pid == pid
    assert agent.process.running
    assert listens(port)
    assert "configuration 7 in force" in _ask(agent, "status")
    merged = _ask(agent, "check", "--merged")
    assert any(
        line.startswith("agent.max_series = 77") and line.endswith("# configuration 7")
        for line in merged.splitlines()
    )
    assert any(
        line.startswith("agent.name") and line.endswith(str(agent.config)) for line in merged.splitlines()
    )
    assert json.loads(_ask(agent, "remote", "show", "--json"))["in_force"] == 7

    _stop(agent)
    pusher.down()
    agent.start(wait=False)
    until("the pushed input is there, offline", lambda: listens(port))
    remote = _remote(agent)
    assert (remote["phase"], remote["in_force"], remote["version"]) == ("applied", 7, 7)
    pusher.up()
    until("it says so in its hello", lambda: len(pusher.hellos) > 2 and pusher.hellos[-1].config.version == 7)
    pusher.want(0, "")
    until("it is taken back", lambda: _remote(agent)["phase"] == "none", 180)
    until("the input is gone", lambda: not listens(port))
    assert _remote(agent)["version"] == 0


@pytest.mark.parametrize(
    ("toml", "reason"),
    [
        ("[agent\n", "configuration 3:1:"),
        ("[agent]\nlogg = 1\n", "unknown field `logg`"),
        (
            '[uplink]\nurl = "http://elsewhere:1"\n',
            "uplink.url: a pushed configuration doesn't say where the collector is",
        ),
        (
            "[agent]\nmax_series = 0\n",
            "configuration 3:2:1: agent.max_series = 0 is out of range: give 1 to 10000000",
        ),
    ],
)
def test_one_that_cannot_be_used_is_refused_with_the_reason_and_changes_nothing(
    stack: Stack, pusher: Pusher, toml: str, reason: str
) -> None:
    """Broken TOML, unknown, forbidden and impossible keys: what was in force stays so, readings go on."""
    agent = _agent(stack, pusher)
    pusher.want(2, "[agent]\nmax_series = 22\n")
    pusher.phase(2, "applied")
    pusher.want(3, toml)
    said = pusher.phase(3, "failed")
    assert reason in said.reason
    assert said.in_force == 2
    assert agent.write("still,device=d v=1") == 204
    assert "FAILED" in _ask(agent, "status")
    _stop(agent)
    agent.start()
    remote = _remote(agent)
    assert (remote["phase"], remote["in_force"]) == ("failed", 2)


@pytest.mark.waits(seconds=30)
def test_one_that_costs_an_input_its_port_is_returned_from(stack: Stack, pusher: Pusher) -> None:
    """The new port is another program's: after the gate's time the old one listens again, and the reason is told."""
    agent = _agent(stack, pusher, IMPATIENT)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        pusher.want(4, f'[input.http]\nlisten = "127.0.0.1:{port}"\n')
        said = pusher.phase(4, "failed")
    assert "the input http doesn't run" in said.reason
    assert said.in_force == 0
    until("the old port listens again", lambda: listens(agent.http))
    assert agent.write("after,device=d v=1") == 204
    until("it arrives", lambda: 1.0 in pusher.values)


@pytest.mark.waits(seconds=20)
def test_one_under_which_the_collector_is_not_reached_is_returned_from(stack: Stack, pusher: Pusher) -> None:
    """The collector greets nobody while it is on trial."""
    agent = _agent(stack, pusher, IMPATIENT)
    pusher.silent = True
    pusher.want(4, "[agent]\nmax_series = 44\n")
    until("it is returned from", lambda: _remote(agent)["phase"] == "failed")
    assert "the collector has not greeted" in _remote(agent)["reason"]
    pusher.silent = False
    pusher.phase(4, "failed")


def test_an_agent_that_is_killed_twice_on_trial_starts_with_the_one_before(
    stack: Stack, pusher: Pusher
) -> None:
    """The first start tries it again, the second returns."""
    agent = _agent(stack, pusher)
    assert agent.process is not None
    pusher.want(5, "[agent]\nmax_series = 55\n")
    pusher.phase(5, "applied")
    pusher.silent = True
    pusher.want(6, "[agent]\nmax_series = 66\n")
    until("it is on trial", lambda: _remote(agent)["phase"] == "trial")
    agent.process.kill()
    agent.start()
    assert (_remote(agent)["phase"], _remote(agent)["in_force"]) == ("trial", 6)
    agent.process.kill()
    agent.start()
    remote = _remote(agent)
    assert (remote["phase"], remote["in_force"]) == ("failed", 5)
    assert "ended 2 times while configuration 6 was on trial" in remote["reason"]
    pusher.silent = False
    pusher.phase(6, "failed")
    assert agent.write("after,device=d v=1") == 204


def test_the_file_wins_when_it_says_so_and_nothing_is_taken_when_it_says_that(
    stack: Stack, pusher: Pusher
) -> None:
    """`under`: its keys win, the others are filled in. `off` at a SIGHUP: the file alone, declined. On again: in force again."""
    agent = _agent(stack, pusher, PATIENT + 'config = "under"\n[fold]\nlateness = "3s"\n')
    assert agent.process is not None
    pusher.want(8, '[fold]\nlateness = "9s"\nfuture_limit = "8m"\n')
    pusher.phase(8, "applied")
    merged = _ask(agent, "check", "--merged")
    assert 'fold.lateness = "3s"' in merged
    assert 'fold.future_limit = "8m"' in merged
    text = agent.config.read_text()
    agent.config.write_text(text.replace('config = "under"', 'config = "off"'))
    agent.process.signal(signal.SIGHUP)
    assert pusher.phase(8, "declined").in_force == 0
    pusher.want(9, '[fold]\nfuture_limit = "7m"\n')
    assert "off" in pusher.phase(9, "declined").reason
    agent.config.write_text(text)
    agent.process.signal(signal.SIGHUP)
    assert pusher.phase(9, "applied").in_force == 9


def test_a_damaged_cache_stops_no_start(stack: Stack, pusher: Pusher) -> None:
    """The file alone is in force, it is said, and the collector's configuration comes again."""
    agent = _agent(stack, pusher)
    pusher.want(5, "[agent]\nmax_series = 55\n")
    pusher.phase(5, "applied")
    _stop(agent)
    kept = agent.data / "remote/state"
    damaged = bytearray(kept.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    kept.write_bytes(damaged)
    pusher.silent = True
    agent.start()
    remote = _remote(agent)
    assert (remote["phase"], remote["in_force"]) == ("none", 0)
    assert "set aside" in remote["trouble"]
    assert (agent.data / "remote/state.damaged").exists()
    pusher.silent = False
    until("it is in force again", lambda: _remote(agent)["phase"] == "applied", 180)


def test_a_file_that_changed_while_the_agent_was_down_and_clashes_is_in_force_alone(
    stack: Stack, pusher: Pusher
) -> None:
    """What was pushed doesn't go with it: said with the reason, and forgotten on demand."""
    agent = _agent(stack, pusher)
    port = free_port()
    pusher.want(5, f'[input.tcp]\nlisten = "127.0.0.1:{port}"\n')
    pusher.phase(5, "applied")
    _stop(agent)
    text = agent.config.read_text()
    agent.config.write_text(
        text.replace(
            f'[input.http]\nlisten = "127.0.0.1:{agent.http}"', f'[input.http]\nlisten = "127.0.0.1:{port}"'
        )
    )
    agent.start()
    remote = _remote(agent)
    assert (remote["phase"], remote["in_force"]) == ("failed", 0)
    assert "taken by input" in remote["reason"]
    agent.config.write_text(text)
    _stop(agent)
    agent.start(wait=False)
    until("the file fits again", lambda: _remote(agent)["in_force"] == 5)
    pusher.want(0, "")
    _ask(agent, "remote", "forget")
    until("forgotten", lambda: _remote(agent)["phase"] == "none", 180)


@pytest.mark.waits(seconds=15)
def test_every_acknowledged_reading_is_stored_once_across_pipelines(stack: Stack, pusher: Pusher) -> None:
    """Readings go on while three configurations end and begin the pipeline: what got its 204 is stored, once."""
    agent = _agent(stack, pusher)
    acked: list[float] = []
    done = threading.Event()

    def publish() -> None:
        value = 0
        while not done.is_set():
            value += 1
            try:
                if agent.write(f"flow,device=d v={value}") == 204:
                    acked.append(float(value))
            except (OSError, HTTPException):
                continue

    sending = threading.Thread(target=publish)
    sending.start()
    try:
        for version in (1, 2, 3):
            pusher.want(version, f"[agent]\nmax_series = {version + 100}\n")
            pusher.phase(version, "applied")
            count = len(acked)
            until("readings flow again", lambda count=count: len(acked) > count + 20)
    finally:
        done.set()
        sending.join(60)
    agent.wait_drained()
    stored = list(pusher.values)
    assert len(stored) == len(set(stored)), "nothing twice"
    missing = set(acked) - set(stored)
    assert not missing, f"{len(missing)} of {len(acked)} are missing"


@pytest.mark.waits(seconds=15)
def test_an_mqtt_session_goes_on_across_pipelines_and_what_was_acknowledged_is_stored_once(
    stack: Stack, pusher: Pusher
) -> None:
    """A publisher with QoS 1 and a session comes back by itself: what got its PUBACK is stored, and what it sent again isn't there twice."""
    agent = _agent(stack, pusher)
    # By packet id, each written by one thread alone: a lock that is held while publishing would wait for paho's, which is held here.
    acked: set[int] = set()
    sent: dict[int, int] = {}

    def on_publish(_client: object, _data: object, mid: int, _reason: object, _properties: object) -> None:
        acked.add(mid)

    client = paho.Client(CallbackAPIVersion.VERSION2, client_id="sensor", clean_session=False)
    client.on_publish = on_publish
    client.reconnect_delay_set(1, 1)
    client.connect("127.0.0.1", agent.mqtt)
    client.loop_start()
    done = threading.Event()

    def publish() -> None:
        for value in range(1, 60_000):
            if done.wait(0.005):
                return
            sent[client.publish("site/sensor/flow", str(value), qos=1).mid] = value

    sending = threading.Thread(target=publish)
    sending.start()
    try:
        until("readings flow", lambda: len(acked) > 20)
        for version in (1, 2, 3):
            pusher.want(version, f"[agent]\nmax_series = {version + 100}\n")
            pusher.phase(version, "applied")
            count = len(acked)
            until("readings flow again", lambda count=count: len(acked) > count + 20)
        done.set()
        sending.join(60)
        until("all of it is acknowledged", lambda: len(acked) == len(sent))
    finally:
        done.set()
        sending.join(60)
        client.disconnect()
        client.loop_stop()
    agent.wait_drained()
    stored = Counter(pusher.values)
    assert set(stored) == {float(sent[mid]) for mid in acked}
    assert max(stored.values()) == 1


def test_somebody_who_watches_readings_sees_those_of_one_pipeline_after_the_other(
    stack: Stack, pusher: Pusher
) -> None:
    """A tap that stays open holds nothing of the pipeline that ends, and goes on with the one that begins."""
    agent = _agent(stack, pusher)
    tap = Process("tap", [AGENT, "tap", "--json", "--config", agent.config], stack.folder / "tap.log")
    try:
        for version in (1, 2, 3):

            def seen(version: int = version) -> bool:
                assert agent.write(f"site,device=d v={version}") == 204
                return f'"value":{version}.0' in tap.log.read_text().replace(" ", "")

            until("the tap shows readings", seen)
            pusher.want(version, f"[agent]\nmax_series = {version + 100}\n")
            pusher.phase(version, "applied")
        assert tap.running
    finally:
        tap.stop()


def test_the_service_manager_hears_of_a_pipeline_that_begins_anew(
    stack: Stack, pusher: Pusher, tmp_path: Path
) -> None:
    """RELOADING, asked patience for and fed meanwhile, then READY with what is on trial; a refusal is in its line."""
    manager = Manager(tmp_path, watchdog_s=60)
    agent = Agent(stack.folder / "agent", pusher.port, extra=PATIENT)
    stack.agents.append(agent)
    agent.env = manager.env
    agent.start()
    manager.wait("READY")
    pusher.connected()
    since = len(manager)
    pusher.want(4, "[agent]\nmax_series = 44\n")
    manager.wait("RELOADING", "1", since)
    manager.wait("STATUS", "starting anew with another configuration", since)
    manager.wait("WATCHDOG", "1", since)
    manager.wait("READY", "1", since)
    pusher.phase(4, "applied")
    since = len(manager)
    pusher.want(5, "[agent]\nmax_series = 0\n")
    manager.wait("STATUS", "PUSHED CONFIG 5 FAILED: ", since)
    since = len(manager)
    _stop(agent)
    manager.wait("STOPPING", "1", since)
    assert "STOPPING" in manager.heard()[-1]
