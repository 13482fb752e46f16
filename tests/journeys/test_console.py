"""The operator's journeys in a real Chromium: fleet, device, events, alerts; live, by keyboard, in both themes."""

import re
import subprocess

from playwright.sync_api import Page, WebSocketRoute, expect

from tests.harness import Agent, Collector, until
from tests.harness.browser import picture


def publish(agent: Agent, topic: str, payload: str) -> None:
    """Publish with QoS 1 as a sensor does."""
    subprocess.run(
        ["mosquitto_pub", "-p", str(agent.mqtt), "-q", "1", "-t", topic, "-m", payload],
        check=True,
        timeout=120,
    )


def test_a_published_reading_appears_on_the_device_page_and_the_next_one_comes_live(
    running: tuple[Collector, Agent], page: Page
) -> None:
    """From mosquitto_pub to the fleet page, to the device page, to a live chart and its table."""
    collector, agent = running
    publish(agent, "plant1/pump7/temperature", "21.5")
    page.goto(f"http://127.0.0.1:{collector.http}/")
    expect(page.get_by_role("row", name="edge").first).to_contain_text("live")
    page.get_by_role("link", name="pump7").click()
    card = page.locator(".card", has=page.get_by_role("heading", name="temperature"))
    expect(card).to_contain_text("last 21.5")
    picture(page, "device")

    publish(agent, "plant1/pump7/temperature", "22.25")
    expect(card).to_contain_text("last 22.25")
    card.get_by_role("button", name="Table").click()
    expect(card.get_by_role("cell", name="22.25")).to_be_visible()
    expect(card.get_by_role("cell", name="21.5")).to_be_visible()

    # What is new on the page doesn't close what somebody has open.
    publish(agent, "plant1/pump7/pressure", "3.5")
    expect(page.get_by_role("heading", name="pressure")).to_be_visible()
    expect(card.get_by_role("cell", name="22.25")).to_be_visible()


def test_the_fleet_filters_and_sorts_on_the_server_and_the_address_says_so(
    running: tuple[Collector, Agent], page: Page
) -> None:
    """A filter that fits nothing empties the table; the address keeps it; the heading tells its direction."""
    collector, _ = running
    page.goto(f"http://127.0.0.1:{collector.http}/")
    agents = page.get_by_role("table", name="Agents")
    expect(agents.get_by_role("link", name="edge")).to_be_visible()
    picture(page, "fleet")
    page.get_by_label("Find an agent").fill("nobody")
    expect(agents.get_by_role("link", name="edge")).to_have_count(0)
    expect(page).to_have_url(re.compile("filter=nobody"))
    page.get_by_label("Find an agent").fill("")
    expect(agents.get_by_role("link", name="edge")).to_be_visible()
    page.get_by_role("button", name="Last seen").click()
    expect(page.get_by_role("columnheader", name="Last seen")).to_have_attribute("aria-sort", "ascending")


def test_a_page_that_is_asked_again_before_its_answer_is_there_goes_on(
    running: tuple[Collector, Agent], page: Page
) -> None:
    """A question is given up for the next, be it before or within its answer: the page draws the last one's answer, without an error."""
    collector, _ = running
    page.goto(f"http://127.0.0.1:{collector.http}/")
    link = page.get_by_role("table", name="Agents").get_by_role("link", name="edge")
    expect(link).to_be_visible()
    page.evaluate(
        "(async () => { for (let i = 0; i < 300; i++) { dispatchEvent(new Event('telemetryx:navigate'));"
        " await new Promise((next) => setTimeout(next, i % 12)); } })()"
    )
    expect(link).to_be_visible()
    expect(page.get_by_role("alert")).to_have_count(0)


def test_events_are_found_by_severity_and_text_and_markup_stays_text(
    running: tuple[Collector, Agent], page: Page
) -> None:
    """An event's body is data: tags in it are shown, not run."""
    collector, agent = running
    body = '[{"source":"app","severity":"error","body":"disk <img src=x onerror=alert(1)> full"},{"source":"app","severity":"info","body":"all well"}]'
    assert agent.write(body, "/v1/events", {"Content-Type": "application/json"}) == 204
    page.goto(f"http://127.0.0.1:{collector.http}/events")
    expect(page.get_by_text("all well")).to_be_visible()
    expect(page.get_by_text("disk <img src=x onerror=alert(1)> full")).to_be_visible()
    picture(page, "events")
    page.get_by_label("Severity").select_option("error")
    expect(page.get_by_text("all well")).to_have_count(0)
    page.get_by_label("Text").fill("disk")
    expect(page.get_by_text("disk <img")).to_be_visible()


def test_what_comes_between_the_first_answer_and_the_live_stream_is_shown(
    running: tuple[Collector, Agent], page: Page
) -> None:
    """On a slow link the stream opens long after the page was drawn: nothing falls between the two."""
    collector, agent = running
    home = f"http://127.0.0.1:{collector.http}"
    publish(agent, "plant1/pump7/temperature", "21.5")
    until("it is stored", lambda: collector.latest("temperature"))

    def late(stream: WebSocketRoute) -> None:
        if "/events" in page.url:
            body = '{"source":"app","severity":"info","body":"in between"}'
            assert agent.write(body, "/v1/events", {"Content-Type": "application/json"}) == 204
            until("it is stored", lambda: collector.get("/api/v1/events")["events"])
        else:
            publish(agent, "plant1/pump7/temperature", "22.25")
            until("it is stored", lambda: collector.latest("temperature")[0]["latest"]["value"] == 22.25)
        stream.connect_to_server()

    page.route_web_socket(re.compile("/api/v1/live$"), late)
    page.goto(f"{home}/events")
    expect(page.get_by_text("in between")).to_be_visible()
    page.goto(f"{home}/device?agent=edge&site=plant1&device=pump7")
    # By itself, or in the mean of one step of the chart with the first.
    expect(page.locator(".card")).to_contain_text(re.compile(r"last (22\.25|21\.875)"))


def test_a_chart_is_walked_with_the_arrow_keys_and_the_theme_can_be_switched(
    running: tuple[Collector, Agent], page: Page
) -> None:
    """The chart is a named figure; a step says time and value to assistive technology."""
    collector, agent = running
    publish(agent, "plant1/pump7/temperature", "21.5")
    page.goto(f"http://127.0.0.1:{collector.http}/device?agent=edge&site=plant1&device=pump7")
    figure = page.get_by_role("img", name="Chart of temperature")
    expect(page.locator(".card")).to_contain_text("last 21.5")
    figure.focus()
    page.keyboard.press("End")
    expect(page.locator("#spoken")).to_contain_text("21.5")
    before = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.locator("header").get_by_role("button").click()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != before
    page.reload()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != before


def test_the_host_page_draws_real_metrics_on_a_narrow_screen_too(
    running: tuple[Collector, Agent], page: Page
) -> None:
    """At 320 px nothing is wider than the screen but what scrolls in its own box."""
    collector, _ = running
    page.set_viewport_size({"width": 320, "height": 800})
    page.goto(f"http://127.0.0.1:{collector.http}/")
    page.get_by_role("table", name="Devices").get_by_role("link").first.click()
    expect(page.get_by_role("heading", name="system.cpu.utilization")).to_be_visible()
    picture(page, "host-narrow")
    assert page.evaluate("document.documentElement.scrollWidth") <= 320


def test_an_agent_that_is_offline_is_shown_in_a_neutral_colour_and_not_as_a_fault(
    running: tuple[Collector, Agent], page: Page
) -> None:
    """A site may be offline for days: "silent" has the colour of quiet text, never that of a firing alert, in both themes."""
    collector, agent = running
    page.goto(f"http://127.0.0.1:{collector.http}/")
    badge = page.get_by_role("table", name="Agents").locator(".state")
    expect(badge).to_have_text("live")
    assert agent.process is not None
    agent.process.stop()
    expect(badge).to_have_text("silent")
    expect(page.get_by_text("0 of 1 agents live, 0 catching up, 1 silent.")).to_be_visible()
    picture(page, "fleet-silent")
    for theme in ("dark", "light"):
        page.emulate_media(color_scheme=theme)  # type: ignore[arg-type]
        shown, quiet = (
            page.evaluate(f"getComputedStyle(document.querySelector('{one}')).color")
            for one in ("table .state", ".lead")
        )
        bad = page.evaluate("getComputedStyle(document.documentElement).getPropertyValue('--bad').trim()")
        assert shown == quiet
        assert shown != "rgb({}, {}, {})".format(*(int(bad[at : at + 2], 16) for at in (1, 3, 5)))
    page.get_by_role("link", name="edge").first.click()
    expect(page.locator("main .state").first).to_have_class("state off")
