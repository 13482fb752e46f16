"""Enrolment in a browser: an admin makes a token, lets a host in, rejects one and revokes one; an operator looks, a viewer has no such page."""

from playwright.sync_api import Locator, Page, expect

from tests.harness import Agent, Collector, Stack, until
from tests.harness.browser import browser_page, picture
from tests.journeys.test_accessibility import grave
from tests.journeys.test_accounts import (
    ANA,
    REFUSED,
    asked,
    first_link,
    leave,
    make_admin,
    sign_in,
)
from tests.journeys.test_care_on_console import EVIL, STAPLE, add_people, nothing_was_run
from tests.journeys.test_enrolment import MUTUAL, enroll, link, stranger


def waiting_for_approval(stack: Stack) -> Collector:
    """Start a collector with accounts, whose hosts wait until somebody lets them in."""
    collector = stack.collector(f'{MUTUAL}[enroll]\napprove = "operator"\n', start=False)
    collector.config.write_text(collector.config.read_text().replace("[api]\n", "[api]\naccounts = true\n"))
    collector.start()
    return collector


def row_of(page: Page, name: str) -> Locator:
    """Find an agent's row."""
    table = page.get_by_role("table", name="enrolled agent")
    return table.get_by_role("row").filter(has=page.get_by_role("rowheader", name=name, exact=True))


def row_of_token(page: Page, number: int) -> Locator:
    """Find a token's row."""
    table = page.get_by_role("table", name="Enrolment tokens")
    return table.get_by_role("row").filter(has=page.get_by_role("rowheader", name=str(number), exact=True))


def make_token(page: Page, site: str, hosts: str) -> str:
    """Make a token and return its line, which one click copies and no other look at the page shows."""
    form = page.get_by_role("form", name="New enrolment token")
    form.get_by_label("Site").fill(site)
    form.get_by_label("Hosts").fill(hosts)
    form.get_by_label("Holds for").select_option("8h")
    form.get_by_role("button", name="Make the token").click()
    line = page.get_by_role("group", name="Line to paste")
    expect(line).to_be_visible()
    text = line.inner_text()
    page.get_by_role("button", name="Copy the line").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == text
    assert grave(page) == []
    picture(page, f"enrolment-line-{hosts}")
    page.reload()
    expect(row_of_token(page, 1)).to_be_visible()
    secret = text.split("--token ")[1].split()[0]
    assert secret.split(".")[1] not in page.content()
    return text


def join(agent: Agent, line: str, name: str) -> None:
    """Paste the line on a host, and start its agent."""
    agent.name = name
    done = enroll(agent, line, "--name", name)
    assert done.returncode == 0, done.stderr
    agent.start()


def decide(page: Page, verb: str, name: str, says: str, yes: str) -> None:
    """Press a button, say no, press it again, and say yes; each time what it does is said."""
    button = page.get_by_role("button", name=f"{verb} {name}", exact=True)
    dialog = page.get_by_role("dialog")
    button.click()
    expect(dialog).to_contain_text(says)
    # Who presses Enter without reading has done nothing; the focus is back where it was.
    page.keyboard.press("Enter")
    expect(dialog).to_have_count(0)
    expect(button).to_be_focused()
    button.click()
    assert grave(page) == []
    picture(page, f"enrolment-{verb.lower()}-{name.replace(' ', '-')}")
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    button.click()
    dialog.get_by_role("button", name=yes).click()
    expect(dialog).to_have_count(0)
    expect(button).to_have_count(0)


def as_admin(page: Page, stack: Stack, collector: Collector) -> Agent:
    """From the token to the revoked agent, whose link is cut while one looks; return another that stays."""
    page.get_by_role("link", name="Enrolment").click()
    expect(page.get_by_text("No agent has joined")).to_be_visible()
    line = make_token(page, "plant1", "3")
    expect(row_of_token(page, 1)).to_contain_text("3 of 3")
    expect(row_of_token(page, 1)).to_contain_text("ana")
    hosts = {name: stranger(stack, collector) for name in ("pump", "rogue", "valve")}
    for name, agent in hosts.items():
        join(agent, line, name)
    # Nobody has to load the page again to see who knocks.
    expect(row_of(page, "pump")).to_contain_text("pending")
    expect(row_of(page, "pump")).to_contain_text("none yet")
    expect(row_of_token(page, 1)).to_contain_text("used up")
    expect(page.get_by_text("Agents wait for approval")).to_be_visible()
    expect(row_of(page, "valve")).to_be_visible()
    picture(page, "enrolment-pending")

    decide(page, "Approve", "pump", "what it has gathered", "Let pump in")
    expect(row_of(page, "pump")).to_contain_text("active")
    until("it has fetched its certificate and is connected", lambda: link(hosts["pump"])["connected"])
    expect(row_of(page, "pump")).not_to_contain_text("none yet")
    decide(page, "Reject", "rogue", "nothing takes that back", "Reject rogue")
    expect(row_of(page, "rogue")).to_contain_text("revoked")
    until("the host says that it was rejected", lambda: "was rejected" in link(hosts["rogue"])["last_error"])
    decide(page, "Revoke", "pump", "cut at once and for good", "Revoke pump for good")
    expect(row_of(page, "pump")).to_contain_text("revoked")
    until("the link is cut", lambda: "was revoked" in link(hosts["pump"])["last_error"])
    decide(page, "Approve", "valve", "what it has gathered", "Let valve in")

    make_token(page, EVIL, "1")
    expect(row_of_token(page, 2)).to_contain_text(EVIL)
    nothing_was_run(page)
    decide(page, "Revoke", "token 2", "Nobody joins with it any more", "Revoke token 2")
    expect(row_of_token(page, 2)).to_contain_text("revoked")

    page.get_by_label("State").select_option("revoked")
    expect(row_of(page, "pump")).to_be_visible()
    expect(row_of(page, "valve")).to_have_count(0)
    page.get_by_label("Name", exact=True).fill("rog")
    expect(row_of(page, "pump")).to_have_count(0)
    expect(row_of(page, "rogue")).to_be_visible()
    return hosts["valve"]


def at_all_sizes(page: Page, collector: Collector) -> None:
    """Wide and narrow, dark and light, nothing serious for who can't see it as others do; the page itself never scrolls sideways."""
    for theme in ("dark", "light"):
        page.emulate_media(color_scheme=theme, reduced_motion="reduce")  # type: ignore[arg-type]
        page.goto(f"http://127.0.0.1:{collector.http}/enrolment")
        expect(row_of(page, "valve")).to_contain_text("active")
        for width in (1280, 320):
            page.set_viewport_size({"width": width, "height": 900})
            assert grave(page) == []
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
            picture(page, f"enrolment-{theme}-{width}")
            page.get_by_role("button", name="Revoke valve").click()
            expect(page.get_by_role("dialog")).to_be_visible()
            assert grave(page) == []
            picture(page, f"enrolment-{theme}-{width}-dialog")
            page.get_by_role("button", name="No", exact=True).click()
            expect(page.get_by_role("dialog")).to_have_count(0)
    page.set_viewport_size({"width": 1280, "height": 900})


def as_operator(page: Page) -> None:
    """Both lists, and nothing to press."""
    page.get_by_role("link", name="Enrolment").click()
    expect(row_of(page, "valve")).to_contain_text("active")
    expect(row_of_token(page, 1)).to_contain_text("0 of 3")
    expect(page.get_by_role("form", name="New enrolment token")).to_have_count(0)
    expect(page.locator("main").get_by_role("button")).to_have_count(0)
    for verb in ("approve", "reject", "revoke"):
        assert asked(page, "POST", f"/api/v1/enroll/agents/valve/{verb}") == 403
    assert asked(page, "POST", "/api/v1/enroll/tokens", "{}") == 403


def as_viewer(page: Page, home: str) -> None:
    """No such page."""
    expect(page.get_by_role("link", name="Enrolment")).to_have_count(0)
    page.goto(f"{home}/enrolment")
    expect(page.get_by_text("This page is for operators and admins.")).to_be_visible()
    assert asked(page, "GET", "/api/v1/enroll/tokens") == 403


def test_who_joins_is_decided_on_the_console(stack: Stack) -> None:
    """Real hosts join with the pasted line, wait, come in, are rejected and cut off; the audit log names who decided."""
    collector = waiting_for_approval(stack)
    home = f"http://127.0.0.1:{collector.http}"
    with browser_page(expected=REFUSED) as page:
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        page.goto(home)
        make_admin(page, first_link(collector.folder / "collector.log"))
        add_people(page)
        valve = as_admin(page, stack, collector)
        at_all_sizes(page, collector)
        leave(page)
        for name in ("operator", "viewer"):
            sign_in(page, name, STAPLE)
            expect(page.get_by_title("What you may do")).to_have_text(name)
            if name == "operator":
                as_operator(page)
            else:
                as_viewer(page, home)
            leave(page)
        sign_in(page, "ana", ANA)
        expect(page.get_by_title("What you may do")).to_have_text("admin")
        page.goto(f"{home}/audit?action=enrolment")
        entries = page.get_by_role("table", name="entr")
        for action, count in (("approve", 2), ("reject", 1), ("revoke", 1), ("token_revoke", 1)):
            rows = entries.get_by_role("row").filter(has=page.get_by_text(f"enrolment.{action}", exact=True))
            expect(rows).to_have_count(count)
            expect(rows.first).to_contain_text("ana")
        nothing_was_run(page)
    until("who was let in is connected", lambda: link(valve)["connected"])
