"""Remote care from the command line, against a whole collector with an agent that a test speaks for."""

import asyncio
import getpass
import itertools
import json
import os
import pty
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import pytest

from reference_agent import Link, ReferenceAgent
from telemetryx import app, config
from telemetryx.wire._pb2 import link_pb2 as pb

NASTY = "no \x1b[31mroute <b>"


@dataclass(frozen=True)
class Collector:
    """A running collector."""

    url: str
    grpc: int
    config: Path


@pytest.fixture(scope="module")
def collector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    """A whole collector in a thread, as `telemetryx collector` runs it."""
    with running(tmp_path_factory.mktemp("collector")) as started:
        yield started


@pytest.fixture
def closed(tmp_path: Path) -> Iterator[Collector]:
    """One that asks everybody who they are."""
    with running(tmp_path, "accounts = true\n") as started:
        yield started


@contextmanager
def running(folder: Path, api: str = "") -> Iterator[Collector]:
    """Run a collector in a folder."""
    path = folder / "collector.toml"
    path.write_text(
        f'[collector]\ndata_dir = "{folder}"\n[api]\nlisten = "127.0.0.1:0"\n{api}[gateway]\nlisten = "127.0.0.1:0"\n'
    )
    loop, stop, started, found = asyncio.new_event_loop(), asyncio.Event(), threading.Event(), []

    def ready(addresses: app.Addresses) -> None:
        found.append(addresses)
        started.set()

    async def serve() -> None:
        await app.run(config.load(path), stop=stop, ready=ready)

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    assert started.wait(120)
    yield Collector(f"http://127.0.0.1:{found[0].http}", found[0].grpc, path)
    loop.call_soon_threadsafe(stop.set)
    thread.join(60)
    loop.close()


async def run(collector: Collector, *arguments: str, status: int = 0) -> "subprocess.CompletedProcess[str]":
    """Run `telemetryx agents …` as a process of its own, without a terminal."""

    def call() -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "telemetryx", "agents", *arguments],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            stdin=subprocess.DEVNULL,
            cwd=Path(__file__).parents[2] / "src",
            env={**os.environ, "TELEMETRYX_URL": collector.url, "PYTHONIOENCODING": "utf-8"},
        )

    done = await asyncio.to_thread(call)
    assert done.returncode == status, (done.returncode, done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    return done


@asynccontextmanager
async def agent(collector: Collector, name: str, **labels: str) -> AsyncIterator[tuple[ReferenceAgent, Link]]:
    """An agent that fails at configurations with `bad` in them, applies the others, and answers what it is asked."""
    one = ReferenceAgent(name, config=pb.ConfigState(phase=pb.CONFIG_NONE), requests=True, labels=labels)

    async def lives(link: Link) -> None:
        for seen in itertools.count():
            await link.until(lambda seen=seen: len(one.received) > seen, 600)
            frame = one.received[seen]
            if frame.WhichOneof("frame") == "config":
                bad = "bad" in frame.config.toml
                phase = pb.CONFIG_FAILED if bad else pb.CONFIG_APPLIED
                if not frame.config.version:
                    phase = pb.CONFIG_NONE
                known = sha256(frame.config.toml.encode()).digest()
                assert frame.config.digest == known
                await link.send(
                    pb.ConfigState(
                        version=frame.config.version,
                        digest=known if frame.config.version else b"",
                        phase=phase,
                        reason=NASTY if bad else "",
                        in_force=0 if bad else frame.config.version,
                    )
                )
            elif frame.WhichOneof("frame") == "request":
                bundle = b"" if frame.request.HasField("log_level") else b"zst" * 50_000
                for at in range(0, len(bundle), 1 << 16):
                    await link.send(
                        pb.Answer(id=frame.request.id, offset=at, data=bundle[at : at + (1 << 16)])
                    )
                await link.send(pb.Answer(id=frame.request.id, offset=len(bundle), done=True))

    async with one.session(collector.grpc) as link:
        living = asyncio.create_task(lives(link))
        try:
            yield one, link
        finally:
            living.cancel()
            with suppress(asyncio.CancelledError):
                await living


async def settled(collector: Collector, name: str, phase: str) -> dict[str, object]:
    """Wait until an agent is in a phase, as `status --json` says."""
    async with asyncio.timeout(120):
        while True:
            rows = json.loads((await run(collector, "config", "status", "--json")).stdout)["agents"]
            for row in rows:
                if row["agent"] == name and row["phase"] == phase:
                    return dict(row)
            await asyncio.sleep(0.05)


async def test_from_a_push_to_a_bundle(collector: Collector, tmp_path: Path) -> None:
    """Check, push, a bad one that fails, diff, take back, push again, log level, bundle, and times that run out."""
    good, bad = tmp_path / "good.toml", tmp_path / "bad.toml"
    good.write_text("[fold]\nlateness = '3s'\n")
    bad.write_text("[fold]\nlateness = 'bad'\n")
    async with agent(collector, "pump", site="plant1"), agent(collector, "valve", site="plant2"):
        await settled(collector, "pump", "none")
        await settled(collector, "valve", "none")
        said = await run(collector, "config", "push", str(good), "--match", 'site="plant1"', "--check")
        assert "It reaches 1 agent: pump." in said.stdout
        assert "+lateness = '3s'" in said.stdout
        assert "no configuration was pushed" in (await run(collector, "config", "list")).stderr
        refused = await run(collector, "config", "push", str(good), "--all", status=2)
        assert "give --yes" in refused.stderr
        await run(collector, "config", "push", str(good), status=2)
        said = await run(
            collector, "config", "push", str(good), "--match", 'site="plant1"', "--yes", "--note", "why"
        )
        assert 'configuration 1 for {site="plant1"}: pushed to 1 agent' in said.stdout
        row = await settled(collector, "pump", "applied")
        assert (row["wanted"], row["in_force"]) == (1, 1)
        made = json.loads(
            (await run(collector, "config", "push", str(bad), "--agent", "pump", "--yes", "--json")).stdout
        )
        assert made["config"]["version"] == 2
        row = await settled(collector, "pump", "failed")
        assert (row["wanted"], row["version"], row["in_force"]) == (2, 2, 0)
        table = (await run(collector, "config", "status", "--phase", "failed")).stdout
        assert "\x1b" not in table
        assert "no \\x1b[31mroute <b>" in table
        differs = (await run(collector, "config", "diff", "1", "2", status=1)).stdout
        assert "-lateness = '3s'" in differs
        assert "+lateness = 'bad'" in differs
        await run(collector, "config", "diff", "2", "2")
        assert (await run(collector, "config", "show", "2")).stdout == bad.read_text()
        assert "taken back" in (await run(collector, "config", "take-back", "2")).stdout
        assert (await settled(collector, "pump", "applied"))["wanted"] == 1
        await run(collector, "config", "push-again", "1", "--canary", "1")
        listed = json.loads((await run(collector, "config", "list", "--json")).stdout)["configs"]
        assert [one["version"] for one in listed] == [3, 2, 1]
        said = await run(collector, "log-level", "pump", "debug", "--for", "5m")
        assert "agent pump logs at debug for 5m" in said.stdout
        file = tmp_path / "bundle.tar.zst"
        said = await run(collector, "diagnostics", "pump", "-o", str(file))
        assert file.read_bytes() == b"zst" * 50_000
        assert (
            "would be overwritten"
            in (await run(collector, "diagnostics", "pump", "-o", str(file), status=2)).stderr
        )
        assert not (tmp_path / ".bundle.tar.zst.part").exists()
        said = await run(
            collector, "diagnostics", "pump", "-o", str(file), "--force", "--request", "2", "--json"
        )
        assert json.loads(said.stdout)["id"] == 2
        assert (
            "isn't for diagnostics"
            in (
                await run(
                    collector, "diagnostics", "pump", "-o", str(file), "--force", "--request", "1", status=1
                )
            ).stderr
        )
    late = await run(
        collector, "diagnostics", "valve", "-o", str(tmp_path / "no.zst"), "--timeout", "1", status=1
    )
    assert "didn't take the request within 1 s" in late.stderr
    assert not (tmp_path / "no.zst").exists()
    assert "no agent is called" in (await run(collector, "log-level", "nobody", "info", status=1)).stderr
    assert "agents config list" in (await run(collector, "config", "show", "99", status=1)).stderr


async def test_a_look_at_a_push_for_a_name_that_no_agent_has_says_so(
    collector: Collector, tmp_path: Path
) -> None:
    """Exit code 1: it would wait for one of that name."""
    file = tmp_path / "new.toml"
    file.write_text('[agent]\nlog = "info"\n')
    said = await run(collector, "config", "push", str(file), "--agent", "nobody", "--check", status=1)
    assert "no agent is called 'nobody'" in said.stderr


async def test_what_may_not_be_pushed_is_said_with_its_key(collector: Collector, tmp_path: Path) -> None:
    """Before anything is asked or sent."""
    file = tmp_path / "evil.toml"
    file.write_text('[uplink]\nurl = "https://elsewhere"\n')
    refused = await run(collector, "config", "push", str(file), "--all", "--yes", status=2)
    assert "uplink.url" in refused.stderr
    assert "leave it to the file on the host" in refused.stderr
    await run(collector, "config", "push", str(tmp_path / "none.toml"), "--all", "--yes", status=2)


async def typed(collector: Collector, answer: bytes, *arguments: str) -> tuple[int, str]:
    """Run `telemetryx agents …` at a terminal, type an answer when it asks; return its exit code and what was on the screen."""

    def call() -> tuple[int, str]:
        ours, theirs = pty.openpty()
        process = subprocess.Popen(
            # With the terminal as its own, so that Ctrl-C there is a signal to it.
            ["setsid", "--ctty", sys.executable, "-m", "telemetryx", "agents", *arguments],  # noqa: S607
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            cwd=Path(__file__).parents[2] / "src",
            env={**os.environ, "TELEMETRYX_URL": collector.url, "PYTHONIOENCODING": "utf-8", "TERM": "dumb"},
        )
        os.close(theirs)
        screen, answered = b"", False
        with suppress(OSError):  # EIO: nobody holds the other end any more
            while piece := os.read(ours, 4_096):
                screen += piece
                if not answered and b"[y/N]" in screen:
                    answered = True
                    os.write(ours, answer)
        os.close(ours)
        return process.wait(120), screen.decode()

    return await asyncio.to_thread(call)


@pytest.mark.parametrize(
    ("answer", "pushed"),
    [(b"y\n", True), (b"Y\n", True), (b"n\n", False), (b"\n", False), (b"\x04", False), (b"\x03", False)],
)
async def test_a_push_asks_at_a_terminal_and_only_a_yes_pushes(
    collector: Collector, tmp_path: Path, answer: bytes, *, pushed: bool
) -> None:
    """Whom it reaches and what changes stands above the question; no, nothing, end of input and Ctrl-C leave all as it was."""
    text = tmp_path / "slower.toml"
    text.write_text(f'[agent]\nlog = "debug"\n# {tmp_path.name}\n')
    before = json.loads((await run(collector, "config", "list", "--json")).stdout)["configs"]
    async with agent(collector, "asked"):
        code, screen = await typed(collector, answer, "config", "push", str(text), "--agent", "asked")
        after = json.loads((await run(collector, "config", "list", "--json")).stdout)["configs"]
        assert "It reaches 1 agent: asked." in screen
        assert '+log = "debug"' in screen
        assert screen.index("It reaches") < screen.index("[y/N]")
        assert "Traceback" not in screen
        assert (code == 0) is pushed, screen
        assert len(after) - len(before) == int(pushed), screen
        if pushed:
            await run(collector, "config", "take-back", str(after[0]["version"]))


async def audited(collector: Collector) -> list[dict[str, object]]:
    """Return the audit log, newest first."""
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "telemetryx", "audit", "--json", "--config", str(collector.config)],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
        cwd=Path(__file__).parents[2] / "src",
    )
    return list(json.loads(done.stdout)["audit"])


async def test_on_its_machine_its_configuration_takes_the_place_of_a_login(
    closed: Collector, tmp_path: Path
) -> None:
    """A push, its end, the log level and a bundle, straight in the store: the running collector does them, the audit log says who it was."""
    straight = ("--config", str(closed.config))
    text, bundle = tmp_path / "text.toml", tmp_path / "bundle.zst"
    text.write_text("[fold]\nlateness = '3s'\n")
    for asked in (
        ("config", "push", str(text), "--all", "--yes"),
        ("config", "status"),
        ("log-level", "pump", "debug"),
        ("diagnostics", "pump", "-o", str(bundle)),
    ):
        refused = await run(closed, *asked, status=4)
        assert "on the collector's machine its configuration with --config" in refused.stderr, asked
    async with agent(closed, "pump", site="plant1"):

        async def phase(wanted: str) -> dict[str, object]:
            async with asyncio.timeout(120):
                while True:
                    said = await run(closed, "config", "status", "--json", *straight)
                    rows = json.loads(said.stdout)["agents"]
                    if [row["phase"] for row in rows] == [wanted]:
                        return dict(rows[0])

        await phase("none")
        match = ("--match", 'site="plant1"')
        said = await run(closed, "config", "push", str(text), *match, "--check", *straight)
        assert "It reaches 1 agent: pump." in said.stdout
        said = await run(closed, "config", "push", str(text), *match, "--yes", "--note", "why", *straight)
        assert 'configuration 1 for {site="plant1"}: pushed to 1 agent' in said.stdout
        assert (await phase("applied"))["in_force"] == 1
        assert (await run(closed, "config", "show", "1", *straight)).stdout == text.read_text()
        listed = json.loads((await run(closed, "config", "list", "--json", *straight)).stdout)["configs"]
        who = listed[0]["author"]
        assert "taken back" in (await run(closed, "config", "take-back", "1", *straight)).stdout
        await phase("none")
        await run(closed, "config", "push-again", "1", *straight)
        await phase("applied")
        said = await run(closed, "log-level", "pump", "debug", "--for", "5m", *straight)
        assert "agent pump logs at debug for 5m" in said.stdout
        await run(closed, "diagnostics", "pump", "-o", str(bundle), *straight)
        assert bundle.read_bytes() == b"zst" * 50_000
    entries = await audited(closed)
    assert [entry["action"] for entry in reversed(entries)] == [
        "config.push",
        "config.take_back",
        "config.push_again",
        "agent.log_level",
        "agent.diagnostics",
    ]
    assert {(entry["actor"], entry["via"]) for entry in entries} == {(who, "cli")}
    assert who == (os.environ.get("SUDO_USER") or getpass.getuser())


async def test_what_the_api_refuses_is_refused_in_the_store_too(closed: Collector, tmp_path: Path) -> None:
    """With the same words and exit codes; nothing is changed."""
    straight = ("--config", str(closed.config))
    evil, good = tmp_path / "evil.toml", tmp_path / "good.toml"
    evil.write_text('[uplink]\nurl = "https://elsewhere"\n')
    good.write_text("[fold]\nlateness = '3s'\n")
    push = ("config", "push")
    for status, sentence, asked in (
        (2, "uplink.url", (*push, str(evil), "--all", "--yes")),
        (2, "names no label", (*push, str(good), "--match", '__name__="x"', "--yes")),
        (
            2,
            "--note: it is longer than 500 characters",
            (*push, str(good), "--all", "--yes", "--note", "x" * 9_999),
        ),
        (1, "`telemetryx agents config list`", ("config", "show", "99")),
        (1, "no agent is called", ("log-level", "nobody", "info")),
        (2, "--for", ("log-level", "nobody", "info", "--for", "soon")),
        (1, "there is no request 7", ("diagnostics", "pump", "-o", str(tmp_path / "b"), "--request", "7")),
    ):
        refused = await run(closed, *asked, *straight, status=status)
        assert sentence in refused.stderr, refused.stderr
    assert not await audited(closed)
