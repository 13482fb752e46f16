"""Remote care from the command line, against a whole collector with an agent that a test speaks for."""

import asyncio
import itertools
import json
import os
import pty
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
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


@pytest.fixture(scope="module")
def collector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    """A whole collector in a thread, as `telemetryx collector` runs it."""
    folder = tmp_path_factory.mktemp("collector")
    path = folder / "collector.toml"
    path.write_text(
        f'[collector]\ndata_dir = "{folder}"\n[api]\nlisten = "127.0.0.1:0"\n[gateway]\nlisten = "127.0.0.1:0"\n'
    )
    loop, stop, started, found = asyncio.new_event_loop(), asyncio.Event(), threading.Event(), []

    def ready(addresses: app.Addresses) -> None:
        found.append(addresses)
        started.set()

    async def serve() -> None:
        await app.run(config.load(path), stop=stop, ready=ready)

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    assert started.wait(30)
    yield Collector(f"http://127.0.0.1:{found[0].http}", found[0].grpc)
    loop.call_soon_threadsafe(stop.set)
    thread.join(30)
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
    async with asyncio.timeout(60):
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
