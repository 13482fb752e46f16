"""An agent that is in trouble says so on its page of the console, in its own words."""

import json

from playwright.sync_api import Page, Route, expect

from tests.harness import Stack, until
from tests.harness.browser import picture

WHY = "no space is left on the disk of the data folder (0 B free)"
REMEDY = "free some space: it goes on by itself once there is"


def test_the_agents_page_says_what_keeps_the_agent_from_its_work(stack: Stack, page: Page) -> None:
    """A disk below the floor of a real agent, and what others may say; nothing where nothing is wrong."""
    collector = stack.collector()
    stack.agent(collector, "well").linked()
    full = stack.agent(collector, "full", extra='[spool]\nmin_free = "1000TiB"\n')
    full.linked()
    assert full.write("level v=7") == 204
    until("it has seen its disk", lambda: full.status()["spool"]["floor"])
    told = page.get_by_role("group", name="Trouble")

    page.goto(f"{collector.home}/agent?name=full")
    expect(told).to_contain_text("less than spool.min_free")
    expect(told.get_by_role("listitem")).to_have_count(1)
    picture(page, "agent-trouble")

    page.goto(f"{collector.home}/agent?name=well")
    expect(page.get_by_role("group", name="Inputs")).to_contain_text("mqtt")
    expect(told).to_have_count(0)
    # Nothing came from it yet: "never" stands there once.
    expect(page.locator("dl.facts").first.locator("dd").nth(1)).to_have_text("never")

    def worse(route: Route) -> None:
        answer = route.fetch()
        agent = answer.json()
        agent["status"]["refusing"] = {"cause": "disk", "why": WHY, "remedy": REMEDY}
        agent["status"]["journal"]["poisoned"] = "fsync: I/O error"
        agent["status"]["fold"]["blocked"] = agent["status"]["spool"]["trouble"] = "no <b>room</b>"
        agent["status"]["config"]["refused"] = {"at_ns": 1, "why": "agent.toml:3: no such key"}
        route.fulfill(response=answer, body=json.dumps(agent))

    page.route("**/api/v1/agents/well", worse)
    page.reload()
    expect(told.get_by_role("listitem")).to_have_text(
        [
            f"readings are refused: {WHY}; {REMEDY}",
            "the journal acknowledges nothing: fsync: I/O error",
            "rows can't be spooled: no <b>room</b>",
            "the changed configuration isn't in force: agent.toml:3: no such key",
        ]
    )
