"""What a service manager (systemd's Type=notify) hears: ready, how it is, a reload, alive or stuck, the end."""

import signal
import socket
from pathlib import Path

import pytest

from tests.harness import Agent, Collector, Stack, until
from tests.harness.frozen import frozen_while_it_waits, thread
from tests.harness.manager import Manager
from tests.harness.processes import free_port
from tests.harness.stack import listens


def _offline(stack: Stack, manager: Manager) -> Agent:
    """Make an agent whose collector is nowhere."""
    agent = Agent(stack.folder / "agent", free_port())
    stack.agents.append(agent)
    agent.env = manager.env
    return agent


def _pid(agent: Agent) -> int:
    assert agent.process is not None
    return agent.process.pid


def test_it_is_ready_when_its_ports_listen_and_says_in_one_line_how_it_is(
    stack: Stack, tmp_path: Path
) -> None:
    """READY comes after the recovery, asked patience for, with ports that are open; then rate, link, backlog and losses; at the end STOPPING."""
    manager = Manager(tmp_path)
    collector = stack.collector()
    agent = stack.agent(collector, start=False)
    agent.env = manager.env
    agent.start(wait=False)
    ready = manager.wait("READY", "1")
    assert all(listens(port) for port in (agent.mqtt, agent.http, agent.tcp))
    asked = manager.heard()[0]
    assert int(asked["EXTEND_TIMEOUT_USEC"]) > 0
    assert "opening journal and spool" in asked["STATUS"]
    assert "readings/s" in ready["STATUS"]
    said = manager.wait("STATUS", "live to 127.0.0.1, backlog 0 B, nothing lost")
    assert "readings/s" in said["STATUS"]
    assert all("WATCHDOG" not in message for message in manager.heard()), "nobody asked for it"
    assert agent.process is not None
    assert agent.process.stop() == 0
    manager.wait("STOPPING", "1")


@pytest.mark.waits(seconds=15)
def test_an_idle_agent_without_a_collector_says_that_it_is_alive(stack: Stack, tmp_path: Path) -> None:
    """Nothing comes in and nothing goes out: the watchdog is fed again and again, and the status says that there is no link."""
    manager = Manager(tmp_path, watchdog_s=20)
    agent = _offline(stack, manager)
    agent.start()
    manager.wait("STATUS", "no link to 127.0.0.1 (")
    until("it was fed three times", lambda: sum("WATCHDOG" in said for said in manager.heard()) >= 3)


@pytest.mark.waits(seconds=25)
@pytest.mark.parametrize("name", ["fold", "journal"])
def test_a_thread_that_stands_still_ends_the_feeding(stack: Stack, tmp_path: Path, name: str) -> None:
    """While one worker is stuck the manager isn't told that the agent is alive, but who is stuck; when it goes on, it is told again."""
    manager = Manager(tmp_path, watchdog_s=20)
    agent = _offline(stack, manager)
    agent.start()
    manager.wait("WATCHDOG")
    tid = thread(_pid(agent), name)
    with frozen_while_it_waits(tid):
        since = len(manager)
        manager.wait("STATUS", f"STUCK: the {name} stands still", since)
        fed = sum("WATCHDOG" in said for said in manager.heard(since))
        assert fed <= 1, "at most for the passes of before"
        since = len(manager)
    manager.wait("WATCHDOG", since=since)
    assert agent.write("after,device=d v=1") == 204


def test_a_reload_is_announced_and_a_file_that_cannot_be_used_is_told(stack: Stack, tmp_path: Path) -> None:
    """RELOADING with its time, then READY; a broken file is named in the status until a good one is taken."""
    manager = Manager(tmp_path)
    agent = _offline(stack, manager)
    agent.start()
    manager.wait("READY")
    good = agent.config.read_text()
    agent.config.write_text(good + '[fold]\nlatness = "3s"\n')
    since = len(manager)
    assert agent.process is not None
    agent.process.signal(signal.SIGHUP)
    assert int(manager.wait("RELOADING", "1", since)["MONOTONIC_USEC"]) > 0
    said = manager.wait("READY", "1", since)["STATUS"]
    assert said.startswith("CONFIG NOT TAKEN, the one before stays in force: ")
    assert "unknown field `latness`" in said
    assert agent.write("still,device=d v=1") == 204
    agent.config.write_text(good)
    since = len(manager)
    agent.process.signal(signal.SIGHUP)
    assert "CONFIG" not in manager.wait("READY", "1", since)["STATUS"]


# --- the collector


def _served(stack: Stack, manager: Manager) -> Collector:
    """Start a collector; what it said of its start has been heard, so that what comes after is another's answer."""
    collector = stack.collector(start=False)
    collector.env = manager.env
    collector.start()
    manager.wait("READY", "1")
    return collector


def _says_hup(collector: Collector) -> None:
    assert collector.process is not None
    collector.process.signal(signal.SIGHUP)


def test_a_collector_says_that_it_is_ready_alive_and_how_it_is(stack: Stack, tmp_path: Path) -> None:
    """READY when its ports listen; fed while nothing happens; agents, rate and queue in one line; STOPPING at the end."""
    manager = Manager(tmp_path, watchdog_s=20)
    collector = _served(stack, manager)
    assert "opening the store" in manager.heard()[0]["STATUS"]
    assert f"127.0.0.1:{collector.http}" in manager.wait("READY", "1")["STATUS"]
    until("it was fed twice", lambda: sum("WATCHDOG" in said for said in manager.heard()) >= 2)
    stack.agent(collector)
    manager.wait("STATUS", "1 agent connected, ")
    assert collector.process is not None
    assert collector.process.stop() == 0
    manager.wait("STOPPING", "1")


def test_a_collector_takes_a_good_configuration_at_sighup_and_refuses_a_bad_one(
    stack: Stack, tmp_path: Path
) -> None:
    """A bad file is told and changes nothing; a good one is in force after READY, in the same process."""
    manager = Manager(tmp_path)
    collector = _served(stack, manager)
    agent = stack.agent(collector)
    good = collector.config.read_text()
    collector.config.write_text(good + "[ingest]\nmax_seris = 1\n")
    since = len(manager)
    _says_hup(collector)
    manager.wait("RELOADING", "1", since)
    said = manager.wait("READY", "1", since)["STATUS"]
    assert said.startswith("CONFIG NOT TAKEN, the one before stays in force: ")
    assert "max_seris" in said
    assert collector.get("/readyz") is not None

    before, collector.http = collector.http, free_port()
    collector.config.write_text(good.replace(f":{before}", f":{collector.http}"))
    since = len(manager)
    _says_hup(collector)
    said = manager.wait("READY", "1", since)["STATUS"]
    assert said.startswith(f"ready: HTTP on 127.0.0.1:{collector.http}")
    assert not listens(before)
    assert agent.write("after,device=d v=1") == 204
    agent.wait_drained()
    assert collector.values('after.v{device="d"}') == [[1.0]]


def test_a_collector_that_is_told_again_while_it_begins_anew_takes_the_last_one(
    stack: Stack, tmp_path: Path
) -> None:
    """The second SIGHUP meets a start that goes by the first one's file; READY is said of the second one's."""
    manager = Manager(tmp_path)
    collector = _served(stack, manager)
    good, before = collector.config.read_text(), collector.http
    for number in range(2):
        collector.http = free_port()
        collector.config.write_text(good.replace(f":{before}", f":{collector.http}"))
        since = len(manager)
        _says_hup(collector)
        if number == 0:
            manager.wait("STATUS", "opening the store", since)
    manager.wait("STATUS", f"ready: HTTP on 127.0.0.1:{collector.http}", since)
    assert collector.get("/readyz") is not None


def test_a_configuration_that_cannot_be_started_with_gives_way_to_the_one_before(
    stack: Stack, tmp_path: Path
) -> None:
    """Its values are good, but the port is another's: the collector goes on as it was, and says why."""
    manager = Manager(tmp_path)
    collector = _served(stack, manager)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        text = collector.config.read_text()
        collector.config.write_text(text.replace(f":{collector.http}", f":{other.getsockname()[1]}"))
        since = len(manager)
        _says_hup(collector)
        said = manager.wait("READY", "1", since)["STATUS"]
    assert said.startswith("CONFIG NOT TAKEN, the one before stays in force: ")
    assert collector.get("/readyz") is not None


def test_an_end_in_order_is_no_error(stack: Stack, tmp_path: Path) -> None:
    """A collector that was told to begin anew, and then to stop, has nothing to complain of in its log."""
    collector = _served(stack, Manager(tmp_path))
    process = collector.process
    assert process is not None
    _says_hup(collector)
    until("it began anew", lambda: "config_taken" in process.log.read_text())
    assert process.stop() == 0
    assert '"error"' not in process.log.read_text()
