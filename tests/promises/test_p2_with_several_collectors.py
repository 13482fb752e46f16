"""P1, P2 and P6 with several collectors on one database: whichever is killed, paused or cut off, and wherever an agent lands."""

import asyncio
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.fault.kill import Kill
from tests.fault.load import Load
from tests.fault.proxy import Proxy
from tests.fault.rounds import rounds
from tests.harness import Agent, Collector, Stack, until
from tests.harness.ledger import settled
from tests.harness.mosquitto import Mosquitto
from tests.harness.postgres import PostgresServer, section
from tests.harness.processes import PATIENCE

RULES = """
rules:
  - name: hot
    select: c.n
    agg: last
    window: 10s
    when: "> 1000"
"""


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    """Start a server that fsyncs, as one in the field does."""
    server = PostgresServer(fsync=True)
    try:
        server.start()
        yield server
    finally:
        server.remove()


def children(collector: Collector) -> list[int]:
    """Return the ids of the workers that run now."""
    assert collector.process is not None
    pid = collector.process.pid
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


class KillOneOfThree(Kill):
    """kill -9 of the agent and of one of three workers on the same port; the parent starts it again."""

    def __init__(self, server: PostgresServer) -> None:
        """Take the server."""
        super().__init__()
        self._store = section(server, server.database(), 'compact_interval = "1s"\n')

    def collector(self, stack: Stack) -> Collector:
        """Add three workers, started."""
        return stack.collector(self._store, ("--workers", "3"))

    def strike(self, part: Agent | Collector, draw: random.Random) -> None:
        """Kill the agent, or a worker; when all three are dead and not started again yet, the next that is."""
        if isinstance(part, Agent):
            super().strike(part, draw)
            return
        until("a worker is killed", lambda: killed(children(part), draw))


def killed(workers: list[int], draw: random.Random) -> bool:
    """Kill one of these; not so when there is none, or when it had ended and its parent has just heard of that."""
    try:
        os.kill(draw.choice(workers), signal.SIGKILL)
    except (IndexError, ProcessLookupError):
        return False
    return True


def test_killing_one_of_three_workers_again_and_again_loses_nothing_and_stores_nothing_twice(
    stack: Stack, server: PostgresServer
) -> None:
    """Under load, with agents killed too; the sums hold, all three are there at the end, and the work has an owner."""
    fault = KillOneOfThree(server)
    report = rounds(stack, fault, 8, seed=11, collector_every=1)
    assert report.acknowledged > 500
    assert report.collector_strikes == 8
    assert (report.acknowledged_and_lost, report.stored_twice, report.books_off) == (0, 0, 0)
    assert report.failures_to_start == 0
    collector = stack.collectors[0]
    until("three workers run again", lambda: len(children(collector)) == 3)
    until("somebody does the work", lambda: owner(collector, "rules") and owner(collector, "compaction"))
    verified = subprocess.run(
        [sys.executable, "-m", "telemetryx", "store", "verify", "--config", collector.config],
        check=False, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert collector.process is not None
    os.kill(collector.process.pid, signal.SIGKILL)
    left = children_of_all(collector.folder)
    until("workers whose parent was killed stop by themselves", lambda: not alive(left))


def children_of_all(folder: Path) -> list[int]:
    """Find the processes that run with a configuration in this folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if str(folder).encode() in words:
                found.append(int(entry.name))
    return found


def alive(pids: list[int]) -> list[int]:
    """Return those that still run."""
    return [pid for pid in pids if Path(f"/proc/{pid}").exists() and "Z" not in state(pid)]


def state(pid: int) -> str:
    """Return the kernel's letter for how a process is; "Z" once it has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


def owner(collector: Collector, part: str) -> str:
    """Return who does a piece of work, as this collector says."""
    parts = {one["name"]: one["owner"] for one in collector.get("/readyz")["parts"]}
    return str(parts[part] or "")


def doer(asked: Collector, part: str, collectors: list[Collector]) -> Collector:
    """Wait until the one asked knows who does a piece of work, which for seconds may be nobody, and find it by its name."""
    name = until(f"somebody does the {part}", lambda: owner(asked, part))
    for one in collectors:
        node = (one.folder / "data/node").read_text().strip()
        if f"-{node}/" in name:
            return one
    raise AssertionError(f"{name} is none of ours")


def three(stack: Stack, server: PostgresServer, through: Proxy | None = None) -> list[Collector]:
    """Start three collectors on one database, each with a data directory and ports of its own; the first maybe through a proxy."""
    rules = stack.folder / "rules.yaml"
    rules.write_text(RULES)
    text = section(server, server.database()) + f'[rules]\nfiles = ["{rules}"]\n'
    own = text if through is None else text.replace(f":{server.port}/", f":{through.port}/")
    collectors = [stack.collector(own)]
    until("the first does all work", lambda: owner(collectors[0], "rules"))
    return [*collectors, stack.collector(text), stack.collector(text)]


def alerts(collector: Collector) -> list[tuple[str, str, float]]:
    """Return the alerts there are, as this collector says; "unknown" is a firing one whose data is old, as all is here."""
    found = collector.get("/api/v1/alerts", state="all")["alerts"]
    return sorted((one["rule"], one["state"].replace("unknown", "firing"), one["value"]) for one in found)


#: Event times of the readings: half a minute apart, from a while ago on, so that each is judged as soon as it is stored.
TIMES = itertools.count(time.time_ns() - 3_600_000_000_000, 30_000_000_000)


def write(agent: Agent, value: float) -> None:
    """Send one reading and wait until it is stored."""
    assert agent.write(f"c n={value} {next(TIMES)}") == 204
    agent.wait_drained()


def test_what_the_killed_owner_did_is_done_by_another_within_seconds(
    stack: Stack, server: PostgresServer
) -> None:
    """The process that judges gets a kill -9: alerts go on by another, every process tells the same, and its sessions are closed."""
    collectors = three(stack, server)
    first, second, third = collectors
    agent = stack.agent(second)
    write(agent, 2_000.0)
    until(
        "the alert is seen by all",
        lambda: all(alerts(one) == [("hot", "firing", 2_000.0)] for one in collectors),
    )
    until("the third knows who judges", lambda: owner(third, "rules") == owner(first, "rules"))
    assert first.process is not None
    first.process.kill()
    killed = time.monotonic()
    until("another judges", lambda: doer(third, "rules", collectors) is not first)
    taken = owner(third, "rules")
    print(f"taken over after {time.monotonic() - killed:.1f} s by {taken}")
    write(agent, 1.0)
    until(
        "the alert ends",
        lambda: all(alerts(one) == [("hot", "resolved", 2_000.0)] for one in (second, third)),
    )
    first.start()
    assert alerts(first) == alerts(second)
    assert until("the first knows who judges", lambda: owner(first, "rules")) == taken


def test_an_owner_that_was_paused_or_cut_off_does_no_harm_when_it_comes_back(
    stack: Stack, server: PostgresServer
) -> None:
    """SIGSTOP, then a link that passes nothing: each time another takes over, and whoever comes back changes nothing."""
    proxy = Proxy(server.port)
    try:
        collectors = three(stack, server, proxy)
        first, second, third = collectors
        agent = stack.agent(second)
        write(agent, 2_000.0)
        until("the alert fires", lambda: alerts(third) == [("hot", "firing", 2_000.0)])
        assert first.process is not None
        os.kill(first.process.pid, signal.SIGSTOP)
        try:
            until("another judges", lambda: doer(third, "rules", collectors) is not first)
            write(agent, 1.0)
            until("the alert ends", lambda: alerts(third) == [("hot", "resolved", 2_000.0)])
        finally:
            os.kill(first.process.pid, signal.SIGCONT)
        until("the paused one sees who judges", lambda: doer(first, "rules", collectors) is not first)
        for other in (second, third):  # whoever has it leaves it to the first
            assert other.process is not None
            os.kill(other.process.pid, signal.SIGSTOP)
        until("the first judges again", lambda: doer(first, "rules", collectors) is first)
        for other in (second, third):
            assert other.process is not None
            os.kill(other.process.pid, signal.SIGCONT)
        proxy.black_hole()
        until("another judges", lambda: doer(third, "rules", collectors) is not first)
        write(agent, 3_000.0)
        until(
            "it fires again",
            lambda: alerts(third) == [("hot", "firing", 3_000.0), ("hot", "resolved", 2_000.0)],
        )
        proxy.mend()
        until("the first is ready again and tells the same", lambda: alerts(first) == alerts(third))
        assert doer(third, "rules", collectors) is not first
    finally:
        proxy.mend()


#: The reading that is there before anybody listens.
BEFORE = 1.0


def test_a_live_client_sees_what_came_in_through_another_process(
    stack: Stack, server: PostgresServer
) -> None:
    """Samples and alerts reach a WebSocket on a process that neither took the readings nor judged them; a resume skips nothing."""
    first, second, third = three(stack, server)
    agent = stack.agent(second)
    write(agent, BEFORE)

    async def watch() -> tuple[list[float], set[str], int]:
        values: list[float] = []
        states: set[str] = set()
        cursor = 0
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(f"http://127.0.0.1:{third.http}/api/v1/live") as socket,
        ):
            # With a cursor, so that it is answered: before that the subscription doesn't stand.
            subscription = {"match": "c.n", "alerts": True}
            await socket.send_str(json.dumps({"subscribe": subscription, "cursor": 0, "max_hz": 4}))
            async with asyncio.timeout(PATIENCE):
                while json.loads((await socket.receive()).data)["type"] != "resumed":
                    pass
            writing: asyncio.Future[Any] = asyncio.get_running_loop().run_in_executor(None, send)
            async with asyncio.timeout(PATIENCE):
                while len(values) < 20 or "firing" not in states:
                    heard = json.loads((await socket.receive()).data)
                    cursor = max(cursor, heard.get("cursor", 0))
                    if heard["type"] == "samples":
                        came = [value for part in heard["series"].values() for value in part["values"]]
                        # What was there before may be read back.
                        values += [value for value in came if value != BEFORE]
                    elif heard["type"] == "alert":
                        states.add(heard["alert"]["state"].replace("unknown", "firing"))
            await writing
        return values, states, cursor

    def send() -> None:
        for value in range(1, 21):
            write(agent, 1_990.0 + value)

    values, states, cursor = asyncio.run(watch())
    assert values == [1_990.0 + value for value in range(1, 21)]
    assert "firing" in states
    write(agent, 5.0)

    async def resume() -> list[float]:
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(f"http://127.0.0.1:{first.http}/api/v1/live") as socket,
        ):
            await socket.send_str(json.dumps({"subscribe": {"match": "c.n"}, "cursor": cursor, "max_hz": 4}))
            async with asyncio.timeout(PATIENCE):
                while True:
                    heard = json.loads((await socket.receive()).data)
                    if heard["type"] == "resumed":
                        assert not heard["gap"]
                    if heard["type"] == "samples" and heard["series"]:
                        return [value for part in heard["series"].values() for value in part["values"]]

    assert asyncio.run(resume()) == [5.0]


def test_more_than_one_worker_on_sqlite_is_refused_with_what_to_do(stack: Stack) -> None:
    """The command ends at once and names the remedy."""
    collector = stack.collector(start=False)
    done = subprocess.run(
        [sys.executable, "-m", "telemetryx", "collector", "--config", collector.config, "--workers", "2"],
        check=False, capture_output=True, text=True, timeout=PATIENCE,
    )  # fmt: skip
    assert done.returncode == 1
    assert "name a PostgreSQL database in [store] url" in done.stderr


class Roaming(Proxy):
    """A balancer in front of several collectors: agents are moved from one to another, in the middle of what they send."""

    def move(self, target: int) -> None:
        """Reset what is connected; whoever comes again lands there."""
        self._target = target
        self.reset()


def test_an_agent_that_is_moved_between_collectors_under_load_loses_and_doubles_nothing(
    stack: Stack, server: PostgresServer
) -> None:
    """Two dozen moves, with batches on the way that the one before may or may not have stored: the sums hold."""
    collectors = three(stack, server)
    draw = random.Random(3)
    roaming = Roaming(collectors[0].grpc)
    agent = stack.agent(collectors[0], start=False)
    text = agent.config.read_text()
    agent.config.write_text(text.replace(f":{collectors[0].grpc}", f":{roaming.port}"))
    agent.start()
    load = Load(agent)
    load.start()
    try:
        for number in range(1, 25):
            # Random points of a real run are what this is about; nothing is awaited here.
            time.sleep(draw.uniform(0.1, 0.6))
            roaming.move(collectors[number % 3].grpc)
        for one in collectors:
            # On a busy machine it may have been moved on before it had come.
            roaming.move(one.grpc)
            until("it lands there", lambda one=one: reached(one) > 1)
    finally:
        load.stop()
    settled(collectors[0], agent, load.acknowledged)
    assert load.acknowledged > 1_000
    for collector in collectors:
        assert load.judge(collector) == (0, 0)
    assert min(map(reached, collectors)) > 1, "each of them had the agent"


def reached(collector: Collector) -> int:
    """Return how often an agent's session began there."""
    assert collector.process is not None
    return collector.process.tail(100_000).count("gateway.opened")


def test_a_sites_broker_is_served_by_one_of_them_and_by_another_when_it_is_gone(
    stack: Stack, server: PostgresServer, tmp_path: Path
) -> None:
    """An agent behind a broker: each reading is stored once, before and after kill -9 of the process that served it."""
    broker = Mosquitto(tmp_path / "broker")
    broker.start()
    try:
        text = f'[gateway.mqtt]\nurl = "{broker.url}"\n' + section(server, server.database())
        pair = [stack.collector(text), stack.collector(text)]
        first = doer(pair[1], "site", pair)
        (other,) = [one for one in pair if one is not first]
        agent = stack.agent(first, start=False)
        grpc = f'url = "http://127.0.0.1:{first.grpc}"'
        agent.config.write_text(agent.config.read_text().replace(grpc, f'url = "{broker.url}"'))
        agent.start()
        for value in range(30):
            write(agent, float(value))
        assert first.process is not None
        first.process.kill()
        for value in range(30, 60):
            assert agent.write(f"c n={value} {next(TIMES)}") == 204
        agent.wait_drained()
        until("the other serves it", lambda: doer(other, "site", pair) is other)
        assert other.values("c.n") == [[float(value) for value in range(60)]]
    finally:
        broker.kill()
