"""Tests that mostly wait run beside the others: in a pytest of their own that starts first and is joined last.

A test is marked with `@pytest.mark.beside(seconds=300)`: about how long it waits. In its place stands an item that waits for
that other pytest and has its result. Where few other tests run there is nothing to hide it behind: it is skipped then, unless
TELEMETRYX_SLOW is set.
"""

import os
import signal
import subprocess
import sys
import tempfile
from typing import Any

import pytest

from tests.harness.stack import ROOT

#: Set for the other pytest, which runs the test itself.
INSIDE = "TELEMETRYX_BESIDE"
#: So many other tests take minutes.
MANY = 50
#: Longest wait at the end.
PATIENCE = 900.0


class Beside(pytest.Item):
    """Stands for a test that runs in another pytest."""

    def __init__(self, *, path_and_name: str, **more: Any) -> None:
        """Know which."""
        super().__init__(**more)
        self._which = path_and_name
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the process
        self._child: subprocess.Popen[bytes] | None = None

    def begin(self) -> None:
        """Start it."""
        self._child = subprocess.Popen(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", self._which],
            cwd=ROOT,
            env={**os.environ, INSIDE: "1"},
            stdout=self._output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
        )

    def runtest(self) -> None:
        """Join it."""
        assert self._child is not None
        code = self._child.wait(PATIENCE)
        self._output.seek(0)
        said = self._output.read().decode(errors="replace")
        self.add_report_section("call", "the other pytest", said)
        if code:
            pytest.fail(f"it ended with {code}", pytrace=False)

    def end(self) -> None:
        """Leave nothing behind: the other pytest cleans up when it is interrupted."""
        if self._child is not None and self._child.poll() is None:
            self._child.send_signal(signal.SIGINT)
            try:
                self._child.wait(60)
            except subprocess.TimeoutExpired:
                self._child.kill()
                self._child.wait(60)
        self._output.close()

    def reportinfo(self) -> tuple[Any, int | None, str]:
        """Say where it is."""
        return self.path, 0, self.name


def place(items: list[pytest.Item]) -> None:
    """Put the stand-ins of marked tests at the end."""
    if INSIDE in os.environ:
        return
    marked = [item for item in items if item.get_closest_marker("beside")]
    others = [item for item in items if item not in marked]
    for item in marked:
        assert item.parent is not None
        stands = Beside.from_parent(item.parent, name=item.name, path_and_name=f"{item.path}::{item.name}")
        if len(others) < MANY and "TELEMETRYX_SLOW" not in os.environ:
            mark = item.get_closest_marker("beside")
            assert mark is not None
            stands.add_marker(
                pytest.mark.skip(
                    f"waits for {mark.kwargs['seconds']} s: runs beside all tests, or with TELEMETRYX_SLOW=1"
                )
            )
        others.append(stands)
    items[:] = others


def begin(items: list[pytest.Item]) -> None:
    """Start what runs beside."""
    for item in items:
        if isinstance(item, Beside) and not item.get_closest_marker("skip"):
            item.begin()


def end(items: list[pytest.Item]) -> None:
    """End what still runs."""
    for item in items:
        if isinstance(item, Beside):
            item.end()
