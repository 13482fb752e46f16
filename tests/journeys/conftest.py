"""Fixtures of the journeys: a browser's page, and something to look at."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page

from tests.harness import Agent, Collector, Stack
from tests.harness.browser import browser_page


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
