"""What journeys with the tools beside the agent share: running them, and agents with something in their spools."""

import hashlib
import json
import random
import subprocess
import time
from pathlib import Path
from typing import Any

from tests.harness import Agent, Stack, until
from tests.harness.processes import PATIENCE
from tests.harness.stack import AGENT

SECOND = 1_000_000_000
#: Debian's and everybody's user without any right.
NOBODY = 65_534
#: Small segments, so that there are several.
SMALL = '[spool]\nsegment_bytes = "256KiB"\n[journal]\nsegment_bytes = "256KiB"\n'


def ask(*words: str | Path, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run the agent's program."""
    return subprocess.run(
        [AGENT, *map(str, words)], capture_output=True, text=True, timeout=PATIENCE, check=False, input=stdin
    )


def lines(said: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    """Read what it printed as a JSON object a line."""
    return [json.loads(line) for line in said.stdout.splitlines()]


def content(folder: Path) -> dict[str, str]:
    """Give a hash of every file, to see what changed."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def stopped(agent: Agent) -> None:
    """Stop an agent once all it took is in batches."""
    until("all of it is in batches", agent.in_batches)
    assert agent.process is not None
    agent.process.stop()


def readings(count: int, seed: int = 1) -> list[tuple[int, float]]:
    """Give times and values that can be told apart."""
    noise, at = random.Random(seed), time.time_ns() - 600 * SECOND
    return [(at + number * 1_000_003, noise.uniform(-1e9, 1e9)) for number in range(count)]


def send(agent: Agent, name: str, sent: list[tuple[int, float]]) -> None:
    """Write samples in bodies of two thousand lines."""
    for first in range(0, len(sent), 2_000):
        body = "\n".join(f"{name},rack=r\\ 1 value={v!r} {t}" for t, v in sent[first : first + 2_000])
        assert agent.write(body) == 204


def offline(stack: Stack, extra: str = SMALL) -> Agent:
    """Give a running agent whose collector is away."""
    return stack.agent(stack.collector(start=False), extra=extra)


def damaged(stack: Stack) -> tuple[Agent, int]:
    """Give a stopped agent with a spool of several segments, one byte of the second changed; and its batches."""
    agent = offline(stack)
    for seed in range(8):
        send(agent, "load", readings(8_000, seed=seed))
        until("it is in batches", agent.in_batches)
    stopped(agent)
    batches = lines(ask("spool", "ls", "--json", "--config", agent.config))[-1]["batches"]
    segment = sorted((agent.data / "spool/log").glob("*.seg"))[1]
    bytes_ = bytearray(segment.read_bytes())
    bytes_[len(bytes_) // 2] ^= 1
    segment.write_bytes(bytes_)
    return agent, batches
