"""P5: a damaged enrolment, or a file that `[uplink]` names and that can't be used, never stops a start.

The agent takes and keeps readings, says which file is wrong and what to do, removes nothing, and connects once it is mended.
"""

import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.harness import Agent, Collector, Stack, until
from tests.harness.agent_tools import ask
from tests.harness.processes import PATIENCE
from tests.harness.stack import AGENT
from tests.journeys.test_enrolment import MUTUAL, doctor, enroll, joined, link, telemetryx

FILES = ("key.pem", "ca.pem", "joined.json", "cert.pem")


def truncated(path: Path) -> None:
    """Cut it in half."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def emptied(path: Path) -> None:
    """Leave no byte, as some file systems do after a power cut."""
    path.write_bytes(b"")


def flipped(path: Path) -> None:
    """Change the bytes of a stretch in the middle."""
    content = bytearray(path.read_bytes())
    for at in range(len(content) // 2, min(len(content), len(content) // 2 + 16)):
        content[at] ^= 0x81
    path.write_bytes(content)


def altered(path: Path) -> None:
    """Change one letter, so that it still reads as what it is."""
    content = path.read_text()
    at = len(content) // 2
    while not content[at].isalnum():
        at += 1
    other = "A" if content[at] != "A" else "B"
    path.write_text(content[:at] + other + content[at + 1 :])


def removed(path: Path) -> None:
    """Take it away."""
    path.unlink()


def a_folder(path: Path) -> None:
    """Put a folder in its place."""
    path.unlink()
    path.mkdir()


def forbidden(path: Path) -> None:
    """Let nobody read it."""
    path.chmod(0)


NOT_FOR_ROOT = pytest.mark.skipif("os.geteuid() == 0", reason="nothing is unreadable to root")
DAMAGES = (truncated, emptied, flipped, removed, a_folder, pytest.param(forbidden, marks=NOT_FOR_ROOT))


class Host:
    """A host that joined, whose files are damaged and put back."""

    def __init__(self, stack: Stack) -> None:
        """Join a collector, and be known to it."""
        self.collector = stack.collector(MUTUAL)
        self.agent = joined(stack, self.collector, "pump")
        self.folder = self.agent.data / "identity"
        self.good = {name: (self.folder / name).read_bytes() for name in FILES}
        self.sent = 0
        self.send()
        self.arrived()

    def send(self) -> None:
        """Give the agent one more reading."""
        self.sent += 1
        assert self.agent.write(f"one n={self.sent}i") == 204

    def arrived(self) -> None:
        """Wait until each reading so far is stored, and each once."""
        wanted = [float(number) for number in range(1, self.sent + 1)]
        until("all is stored", lambda: numbers(self.collector) == wanted)
        self.agent.wait_drained()
        assert numbers(self.collector) == wanted

    def stopped(self) -> None:
        """End the agent as a power cut would."""
        assert self.agent.process is not None
        if self.agent.process.running:
            self.agent.process.kill()

    def mended(self, name: str) -> None:
        """Put a file back as it was."""
        path = self.folder / name
        if path.is_dir():
            path.rmdir()
        path.unlink(missing_ok=True)
        path.touch(0o600)
        path.write_bytes(self.good[name])


def numbers(collector: Collector) -> list[float]:
    """Return what is stored of the readings, in order."""
    return sorted(value for values in collector.values("one.n") for value in values)


@pytest.fixture(scope="module", name="joined_host")
def _joined_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    stack = Stack(tmp_path_factory.mktemp("enrolled"))
    try:
        yield Host(stack)
    finally:
        stack.close()


@pytest.fixture(name="host")
def _host(joined_host: Host) -> Iterator[Host]:
    """Give the host with its agent down and its files whole."""
    joined_host.stopped()
    try:
        yield joined_host
    finally:
        joined_host.stopped()
        for name in FILES:
            joined_host.mended(name)
        for kept in joined_host.folder.glob("cert.pem.damaged.*"):
            kept.rmdir() if kept.is_dir() else kept.unlink()


def log_of(agent: Agent, since: int) -> str:
    """Return what the agent has logged since it was so long."""
    return (agent.folder / "agent.log").read_bytes()[since:].decode()


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", [name for name in FILES if name != "cert.pem"])
def test_it_starts_says_which_file_is_wrong_and_connects_once_that_is_mended(
    host: Host, name: str, damage: Callable[[Path], None]
) -> None:
    """Readings are taken meanwhile; status, doctor and log name the file and the way out; nothing of the folder is removed."""
    agent, path = host.agent, host.folder / name
    damage(path)
    damaged = path.read_bytes() if path.is_file() and damage is not forbidden else None
    before = (agent.folder / "agent.log").stat().st_size
    agent.start()
    host.send()
    said = until("the status names the file", lambda: _names(agent, name))
    assert "enroll the host again" in said
    assert "telemetryx enroll token" in said
    assert not link(agent)["connected"]
    assert name in ask("status", "--config", agent.config).stdout
    found = doctor(agent)["identity"]
    assert found["level"] == "problem"
    assert name in found["found"]
    assert "enroll the host again" in found["remedy"]
    until("the log names it too", lambda: str(path) in log_of(agent, before))
    checked = subprocess.run(
        [AGENT, "check", "--config", agent.config],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert checked.returncode == 3
    assert name in checked.stderr
    healthy = ask("status", "--healthy", "--config", agent.config)
    assert healthy.returncode == 0, "readings are taken and kept"
    if damaged is not None:
        assert path.read_bytes() == damaged
    for other in FILES:
        if other != name:
            assert (host.folder / other).read_bytes() == host.good[other]
    host.mended(name)
    until("the link is up", lambda: link(agent)["connected"])
    host.arrived()
    assert agent.status()["agent"] == "pump"


def _names(agent: Agent, name: str) -> str | None:
    said = link(agent)["last_error"]
    return said if name in said else None


@pytest.mark.parametrize("damage", [*DAMAGES, altered])
def test_a_damaged_certificate_is_asked_for_again_with_the_hosts_key(
    host: Host, damage: Callable[[Path], None]
) -> None:
    """Nobody has to do anything: the agent gets the next certificate, and keeps what it found of the old one."""
    agent, path = host.agent, host.folder / "cert.pem"
    kept = host.folder / "cert.pem.damaged.1"
    damage(path)
    damaged = path.read_bytes() if path.is_file() and damage is not forbidden else None
    agent.start()
    host.send()
    host.arrived()
    assert b"BEGIN CERTIFICATE" in path.read_bytes()
    assert (host.folder / "key.pem").read_bytes() == host.good["key.pem"]
    if damaged is not None:
        assert kept.read_bytes() == damaged
    if damage is a_folder:
        assert kept.is_dir()
    host.good["cert.pem"] = path.read_bytes()


def test_sighup_takes_up_a_mended_enrolment(host: Host) -> None:
    """Whoever has put the file back needs no restart."""
    agent = host.agent
    removed(host.folder / "joined.json")
    agent.start()
    host.send()
    until("the status names the file", lambda: _names(agent, "joined.json"))
    pid = agent.status()["pid"]
    host.mended("joined.json")
    assert agent.process is not None
    agent.process.signal(signal.SIGHUP)
    host.arrived()
    assert agent.status()["pid"] == pid


def test_a_damaged_host_that_is_enrolled_again_goes_on_as_the_same_agent(stack: Stack) -> None:
    """The way out that is told works while the agent runs: with a token for its name its readings arrive, the old files are kept."""
    host = Host(stack)
    agent = host.agent
    host.stopped()
    flipped(host.folder / "joined.json")
    truncated(host.folder / "key.pem")
    key = (host.folder / "key.pem").read_bytes()
    agent.start()
    host.send()
    until("the status names a file", lambda: _names(agent, "joined.json"))
    command = f"telemetryx-agent enroll http://127.0.0.1:{host.collector.http} --token txe1.none"
    kept = enroll(agent, command, "--if-needed")
    assert kept.returncode == 0, "what starts behind it is to start"
    assert "joined.json" in kept.stderr
    assert (host.folder / "key.pem").read_bytes() == key

    line = telemetryx(host.collector, "enroll", "token", "--agent", "pump", "--replace")
    done = enroll(agent, line)
    assert done.returncode == 0, done.stderr
    host.arrived()
    assert agent.status()["agent"] == "pump"
    assert (agent.data / "identity.old/key.pem").read_bytes() == key


def one_line_more(path: Path) -> None:
    """Add a line, as an editor's slip does."""
    path.write_text(path.read_text() + "another\n")


def exposed(path: Path) -> None:
    """Let others read it."""
    path.chmod(0o644)


@pytest.mark.parametrize("damage", [emptied, flipped, removed, a_folder, one_line_more, exposed])
def test_a_token_file_that_cannot_be_used_stops_no_start(
    stack: Stack, damage: Callable[[Path], None]
) -> None:
    """The status names file and fault, readings are kept, and the next attempt uses the mended file."""
    collector = stack.collector()
    token = stack.folder / "token"
    token.touch(0o600)
    token.write_text("a-token-of-some-length\n")
    good = token.read_bytes()
    agent = stack.agent(collector, start=False)
    agent.config.write_text(
        agent.config.read_text().replace("[uplink]\n", f'[uplink]\ntoken_file = "{token}"\n')
    )
    damage(token)
    agent.start()
    assert agent.write("one n=1i") == 204
    until("the status names it", lambda: str(token) in link(agent)["last_error"])
    put_back(token, good)
    agent.wait_drained()
    assert numbers(collector) == [1.0]


@pytest.mark.parametrize("damage", [emptied, flipped, truncated, removed, a_folder])
def test_a_file_of_authorities_that_cannot_be_used_stops_no_start(
    stack: Stack, damage: Callable[[Path], None]
) -> None:
    """Nobody else is trusted in its place; the status names the file, and the next attempt uses the mended one."""
    collector = stack.collector('tls = "own"\n')
    authority = stack.folder / "ca.pem"
    good = (collector.folder / "data/ca/ca.pem").read_bytes()
    authority.write_bytes(good)
    agent = stack.agent(collector, start=False)
    plain = f'url = "http://127.0.0.1:{collector.grpc}"'
    config = agent.config.read_text()
    assert plain in config
    agent.config.write_text(
        config.replace(plain, f'url = "https://localhost:{collector.grpc}"\nca_file = "{authority}"')
    )
    damage(authority)
    agent.start()
    assert agent.write("one n=1i") == 204
    until("the status names it", lambda: str(authority) in link(agent)["last_error"])
    put_back(authority, good)
    agent.wait_drained()
    assert numbers(collector) == [1.0]


def put_back(path: Path, content: bytes) -> None:
    """Mend a file."""
    if path.is_dir():
        path.rmdir()
    path.unlink(missing_ok=True)
    path.touch(0o600)
    path.write_bytes(content)
