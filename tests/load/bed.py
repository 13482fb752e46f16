"""Where a bench runs: built programs, a folder on a real disk, what it was asked for, and where figures go."""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.harness import Process, Stack, free_port, stack, until
from tests.load.report import Report, Row

ROOT = Path(__file__).resolve().parents[2]
WAIT_S = 120.0


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much bench `layouts` stores in each of its cells."""

    series: tuple[int, ...] = (1_000, 10_000, 100_000)
    samples: int = 2_000_000
    rows: int = 500_000
    orders: tuple[bool, ...] = (False, True)
    """Whether a fifth is late."""


class Bed:
    """Given to every bench."""

    sizes = Sizes()

    def __init__(
        self,
        seconds: int,
        data: Path | None,
        folder: Path,
        report: Report,
        backlog_gib: float,
        *,
        install: bool = False,
    ) -> None:
        """Take options."""
        self.seconds = seconds
        self.data = data
        self.install = install
        self.folder = folder
        self.backlog_gib = backlog_gib
        self._report = report
        self._release = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "agent/target")) / "release"
        self._count = 0
        stack.AGENT = self.agent

    @property
    def agent(self) -> Path:
        """The agent's binary as packages have it, profile dist."""
        return self._release.parent / "dist/telemetryx-agent"

    def example(self, name: str) -> Path:
        """Return a measuring program of one of the agent's crates."""
        return self._release / "examples" / name

    def built_before(self, *, agent: bool) -> None:
        """Say which programs are measured, or which is missing: without a build they may be of any age."""
        programs = [
            self.example(name) for name in ("line_load", "mqtt_load", "measure", "score_rate", "fold_rate")
        ]
        for program in [*programs, *([self.agent] if agent else [])]:
            if not program.exists():
                raise SystemExit(
                    f"{program} is missing: leave out --no-build, or set CARGO_TARGET_DIR to where it was built"
                )
            age = time.strftime("%Y-%m-%d %H:%M", time.localtime(program.stat().st_mtime))
            print(f"not built now: {program}, of {age}")

    def build(self, *, agent: bool) -> None:
        """Build what benches run: the agent as it is packaged, the rest in the release profile."""
        packages = ["inputs", "score", "wire", "fold"]
        cargo = ["cargo", "build", "--quiet", "--locked"]
        wanted = [word for package in packages for word in ("-p", package)]
        subprocess.run([*cargo, "--release", *wanted, "--examples"], cwd=ROOT / "agent", check=True)
        if agent:
            words = [*cargo, "--profile", "dist", "-p", "telemetryx-agent"]
            subprocess.run(words, cwd=ROOT / "agent", check=True)

    def add(
        self,
        bench: str,
        name: str,
        value: float,
        unit: str,
        target: float | None = None,
        **more: Any,  # noqa: ANN401 - Row's other fields
    ) -> None:
        """Report a figure."""
        self._report.add(Row(bench, name, value, unit, target, **more))

    def show(self) -> None:
        """Print what is known so far."""
        self._report.show()

    def note(self, text: str) -> None:
        """Report what a reader must know."""
        self._report.note(text)

    @contextmanager
    def place(self) -> Iterator[Path]:
        """Give a fresh folder and remove it afterwards."""
        self._count += 1
        folder = self.folder / f"run{self._count}"
        folder.mkdir(parents=True)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    @contextmanager
    def stack(self) -> Iterator[Stack]:
        """Give a place for collectors and agents; stop them afterwards."""
        with self.place() as folder:
            running = Stack(folder)
            try:
                yield running
            finally:
                running.close()

    def load(self, program: str, *words: object) -> dict[str, float]:
        """Run a load generator to its end and return the JSON of its last line."""
        return last_json([self.example(program), *words], timeout=self.seconds + WAIT_S)

    @contextmanager
    def serving(self, program: str, *words: object) -> Iterator[tuple[Process, int]]:
        """Run a generator's own server (inputs and journal alone) on a free port."""
        with self.place() as folder:
            port = free_port()
            command = [
                str(self.example(program)),
                "--serve",
                str(folder / "data"),
                "--port",
                str(port),
                *map(str, words),
            ]
            process = Process(program, command, folder / "log")
            try:
                listening(process, port)
                yield process, port
            finally:
                process.signal(signal.SIGINT)
                until(f"{program} ended", lambda: not process.running)


def listening(process: Process, port: int) -> None:
    """Wait until a process accepts connections on a port."""

    def look() -> bool:
        assert process.running, process.tail()
        return stack.listens(port)

    until(f"{process.name} listens on {port}", look)


def last_json(command: list[object], timeout: float, env: dict[str, str] | None = None) -> dict[str, float]:
    """Run a program and return the JSON object that is its last line."""
    done = subprocess.run(
        [str(word) for word in command],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        env={**os.environ, **(env or {})},
    )
    if done.returncode:
        raise RuntimeError(
            f"{Path(str(command[0])).name} failed ({done.returncode}): {done.stderr.strip()[-2000:]}"
        )
    return dict(json.loads(done.stdout.splitlines()[-1]))


def settle(seconds: float = 1.0) -> None:
    """Leave the machine alone, so that what one measurement left behind doesn't weigh on the next."""
    os.sync()
    time.sleep(seconds)
