"""The console for everybody: axe-core finds nothing grave on any page in either theme, the keyboard reaches all, `/` is small."""

import re
import time
from typing import Any, Final

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, Request, expect

from tests.harness import Agent, Collector, Stack
from tests.harness.browser import browser_page, picture
from tests.harness.recording import Recording

HOST = "/device?agent=edge&site=&device=gw-1"
#: Each page by its address, and what is there once it has loaded.
PAGES: Final = {
    "/": "gw-1",
    "/agent?name=edge": "Loss ledger",
    HOST: "telemetryx.anomaly.score",
    "/events": "all well",
    "/alerts?state=all": "host metric anomalous",
    "/nowhere": "There is no such page",
}
GRAVE: Final = {"serious", "critical"}
#: Larger than what a first visit may transfer, headers included.
BUDGET: Final = 150_000


@pytest.fixture(name="full")
def _full(stack: Stack) -> tuple[Collector, Agent]:
    """Give a collector that has something for every page: metrics, a score, an alert, events."""
    collector = stack.collector()
    agent = stack.agent(collector)
    recording = Recording(calm=40, fault=7)
    for lines in recording.play(recording.start(time.time_ns())):
        assert agent.write(lines) == 204
    events = '[{"source":"app","severity":"error","body":"disk full"},{"source":"app","body":"all well"}]'
    assert agent.write(events, "/v1/events", {"Content-Type": "application/json"}) == 204
    return collector, agent


def show(page: Page, collector: Collector, path: str) -> None:
    """Open a page and wait for what it shows last."""
    page.goto(f"http://127.0.0.1:{collector.http}{path}")
    expect(page.get_by_text(PAGES[path]).first).to_be_visible()
    if path == HOST:
        # A chart asks for its readings when it comes near the screen.
        page.evaluate("scrollTo(0, document.documentElement.scrollHeight)")
        expect(page.get_by_text("Loading.")).to_have_count(0)


def grave(page: Page) -> list[str]:
    """Let axe-core look, and tell what is serious or critical."""
    found: list[dict[str, Any]] = Axe().run(page).response["violations"]
    return [
        f"{one['id']} at {', '.join(node['target'][0] for node in one['nodes'][:5])}: {one['help']}"
        for one in found
        if one["impact"] in GRAVE
    ]


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_axe_finds_nothing_serious_on_any_page(full: tuple[Collector, Agent], page: Page, theme: str) -> None:
    """On a wide screen and at 320 px, where tables scroll; charts as pictures and as tables."""
    collector, _ = full
    page.emulate_media(color_scheme=theme, reduced_motion="reduce")  # type: ignore[arg-type]
    found: dict[str, list[str]] = {}
    for path in PAGES:
        show(page, collector, path)
        for width in (1280, 320):
            page.set_viewport_size({"width": width, "height": 900})
            found[f"{path} at {width}"] = grave(page)
        if path == HOST:
            for button in page.get_by_role("button", name="Table").all():
                button.click()
            found[f"{path} as tables"] = grave(page)
    assert {where: what for where, what in found.items() if what} == {}


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_axe_finds_nothing_serious_where_a_token_is_asked_for(stack: Stack, theme: str) -> None:
    """The sign-in has a labelled field that has the focus, and says that a token was wrong."""
    token = stack.folder / "tokens"
    token.write_text("0123456789abcdef0123456789abcdef\n")
    token.chmod(0o600)
    collector = stack.collector(start=False)
    text = collector.config.read_text().replace("[api]\n", f'[api]\ntoken_file = "{token}"\n')
    collector.config.write_text(text)
    collector.start()
    with browser_page(expected="401 (Unauthorized)") as page:
        page.emulate_media(color_scheme=theme, reduced_motion="reduce")  # type: ignore[arg-type]
        page.goto(f"http://127.0.0.1:{collector.http}/")
        expect(page.get_by_label("User")).to_be_focused()
        assert grave(page) == []
        page.get_by_role("button", name="Use a token").click()
        expect(page.get_by_label("Token")).to_be_focused()
        page.keyboard.type("not the token")
        page.keyboard.press("Enter")
        expect(page.get_by_role("alert")).to_be_visible()
        picture(page, f"sign-in-{theme}")
        assert grave(page) == []


def stops(page: Page, most: int = 60) -> list[str]:
    """Press Tab from the top until the focus leaves the page, and name every stop."""
    page.evaluate("document.activeElement.blur(); getSelection().removeAllRanges(); scrollTo(0, 0)")
    names: list[str] = []
    for _ in range(most):
        page.keyboard.press("Tab")
        name = page.evaluate(
            "(() => { const on = document.activeElement; if (!on || on === document.body) return null;"
            " return on.labels?.length ? [...on.labels[0].childNodes].filter((one) => one.nodeType === 3).map((one) => one.data).join('').trim() :"
            " (on.getAttribute('aria-label') ?? on.textContent).trim(); })()"
        )
        if name is None:
            break
        names.append(str(name))
    return names


def in_order(names: list[str], *wanted: str) -> bool:
    """Whether names that begin like these come one after another."""
    rest = iter(names)
    return all(any(name.startswith(one) for name in rest) for one in wanted)


def test_tab_reaches_filters_rows_and_charts_in_the_order_in_which_they_stand(
    full: tuple[Collector, Agent], page: Page
) -> None:
    """From the skip link over filters and sortable headings to a row; Enter opens it; there on to a chart, walked by arrows."""
    collector, _ = full
    show(page, collector, "/")
    names = stops(page)
    wanted = (
        "Skip to content",
        "TelemetryX",
        "Fleet",
        "Alerts",
        "● live",
        "Find an agent",
        "Last seen",
        "edge",
        "Find a device",
        "gw-1",
    )
    assert in_order(names, *wanted), "\n".join(names)

    page.get_by_role("link", name="gw-1").focus()
    page.keyboard.press("Enter")
    chart = page.get_by_role("img", name="Chart of telemetryx.anomaly.score")
    expect(chart).to_have_accessible_name(re.compile(r" last \d"))
    names = stops(page)
    assert in_order(
        names,
        "Range",
        "Find a metric",
        "Table",
        "Chart of telemetryx.anomaly.score",
        "Table",
        "Chart of",
    ), "\n".join(names)
    chart.focus()
    page.keyboard.press("End")
    expect(page.locator("#spoken")).to_contain_text(":")

    for path, wanted in {
        "/events": ("Source", "Severity", "Text"),
        "/alerts?state=all": ("Show", "gw-1"),
        "/agent?name=edge": ("Fleet", "gw-1"),
    }.items():
        show(page, collector, path)
        names = stops(page)
        assert in_order(names, *wanted), "\n".join(names)


def test_the_first_visit_transfers_less_than_150_kilobytes(full: tuple[Collector, Agent], page: Page) -> None:
    """Everything that `/` loads, bodies as they were sent and headers, with an empty cache."""
    collector, _ = full
    answers: list[Request] = []

    def keep(request: Request) -> None:
        answers.append(request)

    page.on("requestfinished", keep)
    show(page, collector, "/")
    page.wait_for_load_state("networkidle")
    sizes = {request.url: request.sizes() for request in answers if not request.url.startswith("ws")}
    assert any(url.endswith("/app.js") for url in sizes)
    assert any("uPlot" in url for url in sizes)
    total = sum(size["responseBodySize"] + size["responseHeadersSize"] for size in sizes.values())
    assert 20_000 < total < BUDGET, {url: size["responseBodySize"] for url, size in sizes.items()}
