"""Remote care in a browser: an admin pushes, sees why it failed and takes it back, an operator asks, a viewer only looks."""

from typing import Final

from playwright.sync_api import Locator, Page, expect

from tests.harness import Collector, Stack
from tests.harness.browser import browser_page, picture
from tests.harness.care import Patient, connected
from tests.journeys.test_accessibility import grave
from tests.journeys.test_accounts import (
    ANA,
    REFUSED,
    asked,
    first_link,
    leave,
    make_admin,
    sign_in,
    with_accounts,
)

EVIL: Final = "<img src=x onerror=alert(1)><b>no sensor</b>"
BAD: Final = f"# bad {EVIL}\n[fold]\nlateness = '3s'\n"
GOOD: Final = "[fold]\nlateness = '4s'\n"
STAPLE: Final = "staple of the others"


def fact(page: Page, name: str) -> Locator:
    """Find what stands beside a name in the facts of remote care."""
    return page.locator("h2:has-text('Remote care') ~ dl").locator(f"dt:text-is('{name}') + dd").first


def push(page: Page, toml: str, note: str) -> None:
    """Check a configuration, and push it."""
    form = page.get_by_role("form", name="Push a configuration")
    form.get_by_label("Configuration for this agent").fill(toml)
    form.get_by_label("Why").fill(note)
    form.get_by_role("button", name="Check and push").click()
    expect(page.get_by_role("status").filter(has_text="It reaches this agent")).to_be_visible()
    page.get_by_role("button", name="Push it").click()
    expect(fact(page, "Wanted")).to_contain_text(note)


def add_people(page: Page) -> None:
    """Give an operator and a viewer accounts."""
    page.get_by_role("link", name="Accounts").click()
    for name in ("operator", "viewer"):
        form = page.get_by_role("form", name="New account")
        form.get_by_label("Name").fill(name)
        form.get_by_label("Role").select_option(name)
        form.get_by_label("Password").fill(STAPLE)
        form.get_by_role("button", name="Add the account").click()
        expect(page.get_by_role("table", name="People").get_by_role("row", name=name).first).to_be_visible()


def nothing_was_run(page: Page) -> None:
    """See that what came from people and agents stayed text."""
    expect(page.locator("main img")).to_have_count(0)
    expect(page.locator("main b")).to_have_count(0)


def as_admin(page: Page, agent: str) -> None:
    """Push what fails, what is good, take it back."""
    page.goto(agent)
    expect(fact(page, "Wanted")).to_contain_text("none: the file on its host")
    expect(fact(page, "Phase")).to_contain_text("none")
    push(page, BAD, EVIL)
    expect(fact(page, "Phase")).to_contain_text("failed")
    expect(fact(page, "Phase")).to_contain_text(EVIL)
    expect(fact(page, "In force")).to_contain_text("the file on its host")
    page.get_by_role("button", name="Show its text").click()
    expect(page.get_by_role("group", name="Text of the configuration")).to_contain_text(f"# bad {EVIL}")
    nothing_was_run(page)
    assert grave(page) == []
    picture(page, "care-failed")
    form = page.get_by_role("form", name="Push a configuration")
    form.get_by_label("Configuration for this agent").fill('[uplink]\nurl = "x"')
    form.get_by_role("button", name="Check and push").click()
    expect(page.get_by_role("alert")).to_contain_text("uplink.url")
    push(page, GOOD, "slower")
    expect(fact(page, "Phase")).to_contain_text("applied")
    expect(fact(page, "In force")).to_contain_text("version 2")
    page.get_by_role("button", name="Take back").click()
    page.get_by_role("button", name="No", exact=True).click()
    page.get_by_role("button", name="Take back").click()
    page.get_by_role("button", name="Take version 2 back").click()
    expect(fact(page, "Wanted")).to_contain_text("version 1")
    expect(fact(page, "Phase")).to_contain_text("failed")


def as_operator(page: Page, agent: str, pump: Patient) -> None:
    """Another log level, and a bundle, which downloads; configurations are not for an operator."""
    page.goto(agent)
    form = page.get_by_role("form", name="Log level")
    form.get_by_role("combobox", name="Log level").select_option("trace")
    form.get_by_label("For").select_option("1h")
    form.get_by_role("button", name="Set it").click()
    table = page.get_by_role("table", name="Asked of this agent")
    expect(table.get_by_role("row", name="log level")).to_contain_text("done")
    assert pump.levels == ["trace 3600"]
    form.get_by_role("button", name="Ask for diagnostics").click()
    with page.expect_download() as download:
        table.get_by_role("link", name="Download").click()
    assert download.value.path().read_bytes() == b"bundle"
    assert download.value.suggested_filename.endswith(".tar.zst")
    assert grave(page) == []
    picture(page, "care-operator")
    expect(page.get_by_role("form", name="Push a configuration")).to_have_count(0)
    expect(page.get_by_role("button", name="Take back")).to_have_count(0)
    assert asked(page, "POST", "/api/v1/configs", '{"toml": "a = 1"}') == 403


def as_viewer(page: Page, agent: str) -> None:
    """Wanted, phase and reason; no form, no button, no text."""
    page.goto(agent)
    expect(fact(page, "Phase")).to_contain_text("failed")
    expect(page.locator("main").get_by_role("button")).to_have_count(0)
    expect(page.locator("main form")).to_have_count(0)
    assert asked(page, "POST", "/api/v1/agents/pump/diagnostics", "{}") == 403
    assert asked(page, "GET", "/api/v1/configs/1") == 403
    page.goto(agent.replace("pump", "old"))
    expect(fact(page, "Phase")).to_contain_text("unsupported")
    expect(fact(page, "Phase")).to_contain_text("older version")


def test_an_admin_pushes_an_operator_asks_and_a_viewer_looks(stack: Stack) -> None:
    """Each role on the same agent; its words and those of people stay text; the audit log names who did what."""
    collector: Collector = with_accounts(stack)
    pump, old = Patient("pump", reason=EVIL), Patient("old", old=True)
    home = f"http://127.0.0.1:{collector.http}"
    agent = f"{home}/agent?name=pump"
    with connected(collector.grpc, pump, old), browser_page(expected=REFUSED) as page:
        page.goto(home)
        make_admin(page, first_link(collector.folder / "collector.log"))
        add_people(page)
        as_admin(page, agent)
        leave(page)
        for name in ("operator", "viewer"):
            page.goto(home)
            sign_in(page, name, STAPLE)
            expect(page.get_by_title("What you may do")).to_have_text(name)
            if name == "operator":
                as_operator(page, agent, pump)
            else:
                as_viewer(page, agent)
            leave(page)
        sign_in(page, "ana", ANA)
        expect(page.get_by_title("What you may do")).to_have_text("admin")
        page.goto(f"{home}/audit?action=config")
        entries = page.get_by_role("table", name="entr")
        expect(entries.get_by_role("row").filter(has_text="config.push")).to_have_count(2)
        expect(entries.get_by_role("row").filter(has_text="config.take_back")).to_contain_text("ana")
        nothing_was_run(page)
