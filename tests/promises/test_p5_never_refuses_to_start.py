"""P5: the agent starts, whatever is missing or damaged in its data folder; it says so, wipes nothing, and what is intact arrives.

One data folder is made once: a backlog of several segments, a client's session with a retained message, remembered
idempotency keys, the fold's checkpoint. Each test damages one part of a copy of it.
"""

import os
import random
import re
import shutil
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest

from tests.fault.proxy import Proxy
from tests.harness import Agent, Collector, Stack, until
from tests.harness.ledger import ledger, sums
from tests.harness.processes import PATIENCE
from tests.harness.small_disk import fill
from tests.harness.stack import AGENT, listens

SECOND = 1_000_000_000
#: Small segments, so that one of several can be damaged.
SMALL = '[spool]\nsegment_bytes = "256KiB"\n[journal]\nsegment_bytes = "256KiB"\n'
READINGS = 100_000
LINES = 2_000

#: What the data folder has, by the path of its files.
PARTS = {
    "journal": "journal/*.seg",
    "spool": "spool/log/*.seg",
    "cursor": "spool/cursor",
    "heads": "spool/heads/*",
    "sessions": "sessions/*.seg",
    "http-keys": "http-keys/*.seg",
    "checkpoint": "fold.checkpoint",
}
#: Of which a damaged part is kept in quarantine.
LOGS = ("journal", "spool", "sessions", "http-keys")
#: What the log says when a part was overwritten. The heads only save reading the segments.
TOLD = {
    "journal": r"journal open .*quarantined: \[\"",
    "spool": "a batch in the spool is damaged and is reported as lost",
    "cursor": "cursor_lost: true",
    "sessions": "the MQTT session store was damaged",
    "http-keys": "the remembered idempotency keys were damaged",
    "checkpoint": "the fold's checkpoint is damaged",
}
#: A link to this is refused to everybody, as wrong rights refuse a file to all but root.
REFUSED = "x" * 300
#: Backlog, the reading of the second start, the retained message, and the new reading of each test.
RECEIVED = READINGS + 3


def flipped(files: list[Path]) -> None:
    """Change a random byte in every 64 of each file but the first, or of the only one."""
    noise = random.Random(5)
    for path in files[1:] or files:
        content = bytearray(path.read_bytes())
        for stretch in range(0, len(content) - 64, 64):
            content[stretch + noise.randrange(64)] ^= noise.randrange(1, 256)
        path.write_bytes(content)


def truncated(files: list[Path]) -> None:
    """Cut the newest file in half."""
    os.truncate(files[-1], files[-1].stat().st_size // 2)


def emptied(files: list[Path]) -> None:
    """Leave a file of no bytes, as some file systems do after a power cut."""
    os.truncate(files[-1], 0)


def removed(files: list[Path]) -> None:
    """Remove all of it."""
    for path in files:
        path.unlink()


DAMAGES = (flipped, truncated, emptied, removed)


@dataclass(frozen=True)
class Template:
    """A data folder to copy, and the collector that takes what comes of the copies."""

    data: Path
    collector: Collector


@pytest.fixture(scope="module", name="template")
def _template(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Template]:
    """Make the data folder once: without a collector, and killed in the end."""
    stack = Stack(tmp_path_factory.mktemp("template"))
    try:
        collector = stack.collector(start=False)
        agent = stack.agent(collector, extra=SMALL)
        noise, at = random.Random(1), time.time_ns() - 3_600 * SECOND
        for first in range(0, READINGS, LINES):
            body = "\n".join(
                f"old v={noise.uniform(-1e9, 1e9)!r} {at + number * 1_000_000}"
                for number in range(first, first + LINES)
            )
            assert agent.write(body, headers={"Idempotency-Key": f"body {first}"}) == 204
        keep_a_session(agent)
        # A checkpoint is written every ten seconds, or when there is much to let go of.
        until("all of it is in batches", agent.in_batches)
        assert agent.process is not None
        agent.process.stop()
        agent.start()
        assert agent.write("old v=0.5") == 204
        until("the last of it too", agent.in_batches)
        agent.process.kill()
        collector.start()
        yield Template(agent.data, collector)
    finally:
        stack.close()


def keep_a_session(agent: Agent) -> None:
    """Leave a session with a subscription, and a retained message."""
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="kept", clean_session=False)
    client.connect("127.0.0.1", agent.mqtt)
    client.loop_start()
    client.subscribe("plant/#", qos=1)
    info = client.publish("plant/valve/state", "1", qos=1, retain=True)
    info.wait_for_publish(PATIENCE)
    assert info.is_published()
    client.disconnect()
    client.loop_stop()


def copy_of(stack: Stack, template: Template, name: str) -> Agent:
    """Give an agent that isn't started, on a copy of the data folder."""
    agent = stack.agent(template.collector, name, SMALL, start=False)
    shutil.copytree(template.data, agent.data, ignore=shutil.ignore_patterns("*.sock"))
    return agent


def log_of(agent: Agent) -> str:
    """Return what the agent has logged, but that it looks for its collector."""
    text = (agent.folder / "agent.log").read_text()
    return "\n".join(line for line in text.splitlines() if "link down" not in line)


def stored(collector: Collector, agent: Agent, metric: str) -> list[float]:
    """Return one agent's values of a metric."""
    known = collector.get("/api/v1/series", agent=agent.name, limit=1000)["series"]
    (number,) = [one["id"] for one in known if one["name"] == metric]
    answer = collector.get(
        "/api/v1/query_range", series=[number], start="-1d", end="now", agg="raw", max_points=1_000_000
    )
    return list(answer["series"][0]["values"])


def arrived(template: Template, agent: Agent, received: int = RECEIVED) -> Counter[float]:
    """Wait until so many readings are accounted for, and return how often each of the backlog's values is stored."""
    until("all of it arrives", lambda: ledger(template.collector, agent.name).get("received", 0) >= received)
    until("nothing is left", agent.drained)
    counts = ledger(template.collector, agent.name)
    assert (counts["received"], *sums(counts)) == (received, 0, 0), counts
    assert stored(template.collector, agent, "new.v") == [1.0]
    backlog = Counter(stored(template.collector, agent, "old.v"))
    # Beside the new reading there is the retained message, which may have been in the damaged part.
    assert counts["stored"] - backlog.total() in {1, 2}
    return backlog


def sessions(agent: Agent) -> bool:
    """Whether the client's session is still there."""
    with socket.create_connection(("127.0.0.1", agent.mqtt), timeout=PATIENCE) as link:
        link.sendall(b"\x10\x10\x00\x04MQTT\x04\x00\x00\x3c\x00\x04kept")
        with link.makefile("rb") as answers:
            greeting = answers.read(4)
    assert greeting[:2] == b"\x20\x02"
    assert greeting[3] == 0
    return greeting[2] == 1


@pytest.mark.parametrize(
    ("part", "damage"),
    [
        *((part, damage) for part in PARTS for damage in DAMAGES if (part, damage) != ("spool", removed)),
    ],
    ids=lambda one: one if isinstance(one, str) else one.__name__,
)
def test_it_starts_with_any_part_damaged_or_missing(
    stack: Stack, template: Template, part: str, damage: Callable[[list[Path]], None]
) -> None:
    """Its inputs open, what was intact arrives once, the books balance, and the log tells of the damage."""
    agent = copy_of(stack, template, f"{part}-{damage.__name__}")
    files = sorted(agent.data.glob(PARTS[part]))
    assert files
    damage(files)
    agent.start()
    assert agent.write("new v=1") == 204
    backlog = arrived(template, agent)
    assert max(backlog.values()) == 1
    if part != "spool":
        # The rest of the folder has all of it.
        assert len(backlog) == READINGS + 1
    assert len(backlog) > LINES, "the first segment is intact"
    if part != "sessions":
        assert sessions(agent)
    if damage is flipped and part in TOLD:
        assert re.search(TOLD[part], log_of(agent)), log_of(agent)
        if part in LOGS:
            assert list(agent.data.glob(f"{part}/**/quarantine/*"))


def test_it_starts_without_the_spools_segments(stack: Stack, template: Template) -> None:
    """Nothing brings the backlog back, but the cursor knows of it: the log says so, and new readings arrive."""
    agent = copy_of(stack, template, "spool-removed")
    removed(sorted(agent.data.glob(PARTS["spool"])))
    agent.start()
    assert "batches in the spool are damaged and are reported as lost" in log_of(agent)
    assert agent.write("new v=1") == 204
    until("it arrives", lambda: stored(template.collector, agent, "new.v") == [1.0])


def test_the_ledger_names_what_was_in_a_spool_without_segments(stack: Stack, template: Template) -> None:
    """The agent acknowledged 100,001 readings that are gone: the ledger has them as damaged."""
    agent = copy_of(stack, template, "spool-counted")
    removed(sorted(agent.data.glob(PARTS["spool"])))
    agent.start()
    until("the ledger has them", lambda: ledger(template.collector, agent.name).get("damaged", 0) >= READINGS)


def test_it_starts_with_everything_damaged_at_once(stack: Stack, template: Template) -> None:
    """All files of the folder overwritten: inputs open, and new readings arrive."""
    agent = copy_of(stack, template, "everything-flipped")
    for path in sorted(agent.data.rglob("*")):
        if path.is_file() and path.name != "lock":
            flipped([path])
    agent.start()
    assert agent.write("new v=1") == 204
    until("it arrives", lambda: stored(template.collector, agent, "new.v") == [1.0])
    assert len(list(agent.data.rglob("quarantine/*"))) > 3


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is unreadable to root")
@pytest.mark.parametrize("folder", ["http-keys", "sessions"])
def test_it_starts_with_a_folder_that_it_may_not_read(stack: Stack, template: Template, folder: str) -> None:
    """The input that needs it says why it does not run; the others go on."""
    agent = copy_of(stack, template, f"{folder}-unreadable")
    (agent.data / folder).chmod(0)
    try:
        agent.start(wait=False)
        until("it answers", lambda: agent.status()["inputs"])
        until("TCP takes readings", lambda: write_tcp(agent))
        broken = until(
            "it says so", lambda: [one["name"] for one in agent.status()["inputs"] if one["error"]]
        )
        assert broken == [{"http-keys": "http", "sessions": "mqtt"}[folder]]
    finally:
        (agent.data / folder).chmod(0o700)


@pytest.mark.parametrize("folder", ["http-keys", "sessions"])
def test_it_starts_with_a_file_where_a_folder_should_be(
    stack: Stack, template: Template, folder: str
) -> None:
    """The file gets another name, a folder is made in its place, and every input takes readings."""
    agent = copy_of(stack, template, f"{folder}-a-file")
    shutil.rmtree(agent.data / folder)
    (agent.data / folder).write_text("not a folder")
    agent.start()
    assert agent.write("new v=1") == 204
    assert not sessions(agent) or folder == "http-keys"
    assert agent.data.joinpath(f"{folder}.unreadable").read_text() == "not a folder"


def test_a_journal_that_somebody_took_away_is_told_of_once(stack: Stack, template: Template) -> None:
    """Nobody knows what was in it and in no batch: so it says, also after the next start."""
    agent = copy_of(stack, template, "no-journal")
    shutil.rmtree(agent.data / "journal")
    for _ in range(2):
        agent.start()
        (damage,) = [one for one in agent.status()["spool"]["damage"] if one["part"] == "journal"]
        assert (damage["first"], damage["readings"]) == (1, None)
        assert agent.write("new v=1") == 204
        assert agent.process is not None
        agent.process.stop()


@pytest.mark.parametrize("log", ["journal", "spool/log"])
def test_it_starts_with_a_segment_that_is_withheld_and_goes_on_once_it_is_given(
    stack: Stack, template: Template, log: str
) -> None:
    """As with wrong rights (here: a name too long): that is no damage, status says what it waits for, and all of it arrives."""
    agent = copy_of(stack, template, f"{log.replace('/', '-')}-withheld")
    newest = max((agent.data / log).glob("*.seg"))
    kept = newest.rename(agent.folder / "kept")
    newest.symlink_to(REFUSED)
    agent.start(wait=False)

    def says() -> bool:
        status = agent.status()
        return "name too long" in str(status["journal"]["poisoned"]) + str(status["spool"]["trouble"])

    until("it answers", lambda: agent.data.joinpath("agent.sock").is_socket() and agent.status())
    until("it says what it waits for", says)
    newest.unlink()
    kept.rename(newest)
    until("a reading is taken", lambda: listens(agent.http) and agent.write("new v=1") == 204)
    until("it arrives", lambda: stored(template.collector, agent, "new.v") == [1.0])
    until("the backlog is stored", lambda: len(stored(template.collector, agent, "old.v")) == READINGS + 1)
    assert max(Counter(stored(template.collector, agent, "old.v")).values()) == 1
    assert ledger(template.collector, agent.name).get("damaged", 0) == 0
    assert sums(ledger(template.collector, agent.name)) == (0, 0)


def write_tcp(agent: Agent) -> bool:
    """Send a line over TCP; whether it was taken."""
    with socket.create_connection(("127.0.0.1", agent.tcp), timeout=PATIENCE) as link:
        link.sendall(b"ACK\nnew v=1\n")
        with link.makefile("rb") as answers:
            return answers.readline().startswith(b"OK")


def test_it_starts_on_a_full_disk_sends_what_it_has_and_takes_readings_when_there_is_room(
    stack: Stack, template: Template, small_disk: Path
) -> None:
    """Full while it was down: it starts and says so, the backlog leaves, and readings are taken again once there is room."""
    agent = copy_of(stack, template, "full")
    shutil.copytree(agent.data, small_disk / "data")
    shutil.rmtree(agent.data)
    agent.data.symlink_to(small_disk / "data")
    ballast = fill(small_disk)
    with Proxy(template.collector.grpc) as link:
        # What leaves makes room: while it is looked at, nothing does.
        link.cut()
        text = agent.config.read_text()
        agent.config.write_text(text.replace(f":{template.collector.grpc}", f":{link.port}"))
        agent.start()
        refused = agent.write("new v=0")
        assert refused == 503
        status = agent.status()
        assert status["journal"]["disk_full"] or status["spool"]["trouble"], status
        link.mend()
        until(
            "the backlog is stored",
            lambda: len(stored(template.collector, agent, "old.v")) == READINGS + 1,
        )
        ballast.unlink()
        until("a reading is taken", lambda: agent.write("new v=1") == 204)
        until("it arrives", lambda: stored(template.collector, agent, "new.v") == [1.0])
    assert max(Counter(stored(template.collector, agent, "old.v")).values()) == 1


def test_it_starts_on_an_empty_folder_of_a_full_disk(
    stack: Stack, template: Template, small_disk: Path
) -> None:
    """The first start ever, without room for a single file: it waits for room."""
    agent = stack.agent(template.collector, "full-and-empty", SMALL, start=False)
    (small_disk / "data").mkdir()
    agent.data.symlink_to(small_disk / "data")
    ballast = fill(small_disk)
    agent.start(wait=False)
    assert agent.process is not None
    until("it says so", lambda: re.search("space|full", log_of(agent)))
    assert agent.process.running
    ballast.unlink()
    until("a reading is taken", lambda: agent.write("new v=1") == 204)
    until("it arrives", lambda: stored(template.collector, agent, "new.v") == [1.0])


def test_it_runs_without_the_files_that_its_config_names_and_uses_them_once_they_come(stack: Stack) -> None:
    """No token, no model: it takes readings, says what is missing, and connects when the token is put there."""
    collector = stack.collector()
    token = stack.folder / "token"
    agent = stack.agent(collector, extra=f'[model]\nhost_dir = "{stack.folder}/no-model"\n', start=False)
    config = agent.config.read_text()
    agent.config.write_text(config.replace("[uplink]\n", f'[uplink]\ntoken_file = "{token}"\n'))
    checked = subprocess.run(
        [AGENT, "check", "--config", agent.config],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert checked.returncode == 3
    assert str(token) in checked.stderr
    assert "no-model/manifest.json" in checked.stderr

    agent.start()
    assert agent.write("bench value=1") == 204
    until("it says what is missing", lambda: str(token) in agent.status()["link"]["last_error"])
    assert "no-model/manifest.json" in agent.status()["config"]["trouble"][0]
    token.touch(0o600)
    token.write_text("a-token-of-some-length\n")
    agent.wait_drained()
    assert collector.values("bench") == [[1.0]]


def test_it_starts_in_a_folder_whose_name_is_longer_than_a_sockets_address(stack: Stack) -> None:
    """The path of the control socket doesn't fit into a socket's address: status is answered all the same."""
    agent = stack.agent(stack.collector(start=False), start=False)
    far = agent.folder / ("a folder with a long name " * 9) / "data"
    agent.config.write_text(agent.config.read_text().replace(str(agent.data), str(far)))
    agent.start(wait=False)

    def status() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [AGENT, "status", "--config", agent.config], capture_output=True, text=True, check=False
        )

    until("it answers", lambda: status().returncode == 0)
    assert f"agent    {agent.name}" in status().stdout
    until("a reading is taken", lambda: agent.write("new v=1") == 204)
    assert (far / "agent.sock").is_socket()


def test_it_runs_without_a_control_socket_and_makes_it_once_that_can_be(stack: Stack) -> None:
    """Something else has its name: nobody can ask the agent, the log says so, and readings are taken."""
    agent = stack.agent(stack.collector(start=False), start=False)
    other = agent.data / "agent.sock"
    other.mkdir(parents=True)
    agent.start(wait=False)
    until("it says so", lambda: "the control socket can't be made" in log_of(agent))
    until("a reading is taken", lambda: listens(agent.http) and agent.write("new v=1") == 204)
    other.rmdir()
    until("it answers", lambda: other.is_socket() and agent.status()["inputs"])
