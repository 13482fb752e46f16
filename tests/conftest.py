"""Fixtures of the tests that look at the whole."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness import Stack, small_disk


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
    """Put tests that mostly wait first, the longest before all: with several workers nobody waits for them at the end."""

    def seconds(item: pytest.Item) -> float:
        mark = item.get_closest_marker("waits")
        return float(mark.kwargs["seconds"]) if mark else 0.0

    items.sort(key=seconds, reverse=True)
