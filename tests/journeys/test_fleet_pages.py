"""A fleet of more agents and devices than one page holds, read through on the console while agents come and go."""

import asyncio
import hashlib

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from telemetryx.store.sqlite.store import SqliteStore
from telemetryx.types import BatchKey, Decoded, Definition, SampleBlock, Stored
from telemetryx.wire import payload as wire
from tests.harness import Collector, Stack

AGENTS = 120
T0 = 1_772_359_200_000_000_000


def filled(collector: Collector) -> None:
    """Store that many agents, each with a device of its name."""

    async def fill() -> None:
        store = await SqliteStore.open(collector.database)
        content = wire.encode(
            wire.Payload(
                SampleBlock(np.array([1]), np.array([0, 1]), np.array([T0]), np.array([1.0])), None, None, {}
            )
        )
        for number in range(AGENTS):
            name = f"a{number:03d}"
            batch = Decoded(
                key=BatchKey(name, b"e" * 16, 1),
                checksum=hashlib.sha256(content).digest()[:16],
                payload=content,
                samples=wire.decode(content).samples,
                definitions=[Definition(1, "t", {"site": "s", "device": f"d{number:03d}"})],
                t0_ns=T0,
                t1_ns=T0,
            )
            (outcome,) = await store.commit([batch])
            assert isinstance(outcome, Stored), outcome
        await store.close()

    asyncio.run(fill())


def place(first: int, last: int) -> str:
    """Say it as a pager does."""
    return f"{first}\u2013{last} of {AGENTS}"


@pytest.fixture(name="many")
def _many(stack: Stack) -> Collector:
    """Give a collector of that many agents. Before there is a page: the browser's driver runs a loop in this thread."""
    collector = stack.collector(start=False)
    collector.database.parent.mkdir(parents=True, exist_ok=True)
    filled(collector)
    collector.start()
    return collector


def test_both_lists_are_read_through_page_by_page_and_back(many: Collector, page: Page) -> None:
    """By the rows' own places, which the address says; another filter or order begins anew; sorted by what changes, by position."""
    page.goto(f"http://127.0.0.1:{many.http}/")
    for label, table, first, dialect in (
        ("agents", "Agents", "a", "after"),
        ("devices", "Devices", "d", "dafter"),
    ):
        pager = page.get_by_role("navigation", name=f"Pages of {label}")
        rows = page.get_by_role("table", name=table).get_by_role("rowheader")
        expect(pager).to_contain_text(place(1, 50))
        expect(pager.get_by_role("button", name="Previous")).to_be_disabled()
        pager.get_by_role("button", name="Next").click()
        expect(pager).to_contain_text(place(51, 100))
        expect(rows.first).to_have_text(f"{first}050")
        assert f"{dialect}=" in page.url
        pager.get_by_role("button", name="Next").click()
        expect(pager).to_contain_text(place(101, 120))
        expect(rows.last).to_have_text(f"{first}119")
        expect(pager.get_by_role("button", name="Next")).to_be_disabled()
        pager.get_by_role("button", name="Previous").click()
        expect(rows.first).to_have_text(f"{first}050")
    agents = page.get_by_role("navigation", name="Pages of agents")
    page.get_by_role("button", name="Last event").click()
    expect(agents).to_contain_text(place(1, 50))
    agents.get_by_role("button", name="Next").click()
    expect(agents).to_contain_text(place(51, 100))
    page.get_by_label("Find a device").fill("d11")
    expect(page.get_by_role("table", name="Devices").get_by_role("rowheader")).to_have_count(10)
    expect(agents).to_contain_text(place(1, 50))
