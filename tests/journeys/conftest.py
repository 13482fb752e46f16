"""Fixtures of the journeys: a browser's page, and something to look at."""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page

from tests.harness import Agent, Collector, Stack
from tests.harness.agent_tools import NOBODY
from tests.harness.browser import browser_page
from tests.harness.stack import AGENT


@pytest.fixture(name="page")
def _page() -> Iterator[Page]:
    """Give a page whose script errors and refused resources fail the test."""
    with browser_page() as page:
        yield page


@pytest.fixture(name="running")
def _running(stack: Stack) -> tuple[Collector, Agent]:
    """Give a collector and an agent with host metrics every second."""
    collector = stack.collector()
    agent = stack.agent(collector, extra='[input.host]\ninterval = "1s"\n')
    return collector, agent


@pytest.fixture(name="others_folder")
def _others_folder() -> Iterator[Path]:
    """Give a folder that other users reach, as a test's own isn't."""
    if os.geteuid() != 0:
        pytest.skip("only root may act as another user")
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="telemetryx-") as folder:
        path = Path(folder)
        path.chmod(0o755)
        reached = subprocess.run(
            ["setpriv", f"--reuid={NOBODY}", "--clear-groups", "test", "-x", str(AGENT)], check=False
        )
        if reached.returncode:
            pytest.skip("another user may not run the agent's program here")
        yield path
