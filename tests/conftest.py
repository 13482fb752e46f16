"""Fixtures of the tests that look at the whole."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness import Stack, beside, small_disk


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    """Give collectors and agents in a folder of their own; their logs are shown when the test fails."""
    stack = Stack(tmp_path)
    try:
        yield stack
    finally:
        stack.close()


@pytest.fixture(name="small_disk")
def _small_disk(tmp_path: Path) -> Iterator[Path]:
    """Give a file system of its own with room for 96 MiB."""
    with small_disk.mounted(tmp_path / "disk") as folder:
        yield folder


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Add the processes' last words to a failed test's report."""
    report = yield
    if call.when == "call" and report.failed:
        stack = getattr(item, "funcargs", {}).get("stack")
        if isinstance(stack, Stack):
            for part in (*stack.collectors, *stack.agents):
                if part.process is not None:
                    report.sections.append((part.process.name, part.process.tail(60)))
    return report


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put tests that mostly wait last."""
    beside.place(items)


@pytest.hookimpl(wrapper=True)
def pytest_runtestloop(session: pytest.Session) -> Iterator[object]:
    """Let them run beside the others."""
    if not session.config.option.collectonly:
        beside.begin(session.items)
    try:
        return (yield)
    finally:
        beside.end(session.items)
