"""Signing in at a provider on the console: the button, the provider's page and back, the role, the way out, and a sentence for who isn't let in."""

from playwright.sync_api import Page, expect

from tests.harness import Collector, Stack
from tests.harness.browser import browser_page, picture
from tests.harness.oidc import CLIENT, SECRET, Running
from tests.journeys.test_accessibility import grave
from tests.journeys.test_accounts import REFUSED, first_link, leave, make_admin, sign_in

BUTTON = "Sign in with The plant"


def with_provider(stack: Stack, provider: Running) -> Collector:
    """Start a collector that knows the provider."""
    collector = stack.collector(start=False)
    secret = collector.folder / "oidc-secret"
    secret.write_text(f"{SECRET}\n")
    secret.chmod(0o600)
    trusted = "" if provider.authority is None else f'ca_file = "{provider.authority}"\n'
    collector.config.write_text(
        collector.config.read_text()
        + f'[api.oidc]\nissuer = "{provider.provider.issuer}"\nname = "The plant"\nclient_id = "{CLIENT}"\n'
        f'client_secret_file = "{secret}"\nadmins = ["boss"]\noperators = ["field"]\n{trusted}'
    )
    collector.start()
    return collector


def through_the_provider(page: Page, who: str) -> None:
    """Click, and say at the provider who it is."""
    page.get_by_role("link", name=BUTTON).click()
    expect(page.get_by_role("heading", name="The provider")).to_be_visible()
    page.get_by_label("Who").fill(who)
    page.get_by_role("button", name="Enter").click()


def test_people_sign_in_at_a_provider_and_out_of_it(stack: Stack) -> None:
    """With the role of their group; who has none, and a provider that is away, are sentences, and passwords go on."""
    with Running() as provider, browser_page(expected=REFUSED) as page:
        collector = with_provider(stack, provider)
        home = f"http://127.0.0.1:{collector.http}/"
        page.goto(home)
        expect(page.get_by_role("link", name=BUTTON)).to_be_visible()
        assert grave(page) == []
        picture(page, "sign-in")
        through_the_provider(page, "ana")
        expect(page.get_by_text("operator", exact=True)).to_be_visible()
        expect(page.get_by_role("link", name="Accounts")).to_have_count(0)
        assert page.url == home
        (cookie,) = page.context.cookies(home)
        assert (cookie["name"], cookie["httpOnly"], cookie["sameSite"]) == (
            "telemetryx_session",
            True,
            "Strict",
        )
        page.reload()
        page.get_by_role("link", name="ana", exact=True).click()
        expect(page.get_by_text("your password is there")).to_be_visible()
        expect(page.get_by_label("Old password")).to_have_count(0)
        # Out of both, by way of the provider's page.
        page.get_by_role("button", name="Log out", exact=True).click()
        expect(page.get_by_role("link", name=BUTTON)).to_be_visible()
        assert page.context.cookies(home) == []
        assert "/leave" in provider.provider.asked

        provider.provider.person = {"sub": "2", "preferred_username": "eve", "groups": ["guests"]}
        page.get_by_role("link", name=BUTTON).click()
        expect(page.get_by_role("alert")).to_contain_text("you have no role here")
        assert page.url == home
        assert grave(page) == []
        # It doesn't know this collector's secret any more.
        provider.provider.knows_clients = False
        page.get_by_role("link", name=BUTTON).click()
        expect(page.get_by_role("alert")).to_contain_text("accounts with a password go on working")
        expect(page.get_by_label("User")).to_be_visible()
    log = (collector.folder / "collector.log").read_text()
    assert SECRET not in log


def out(page: Page) -> None:
    """Log out, by way of the provider's page."""
    page.get_by_role("button", name="Log out", exact=True).click()
    expect(page.get_by_role("link", name=BUTTON)).to_be_visible()


def test_a_provider_over_tls_changes_keys_and_roles_and_nobody_comes_in_with_a_forged_token(
    stack: Stack,
) -> None:
    """As over the years: another key, of another kind, another group; and then somebody in the provider's place signs with what everybody knows."""
    with Running(stack.folder / "provider") as running, browser_page(REFUSED, trusting=True) as page:
        provider = running.provider
        provider.rotate("ES256", "of this year")
        provider.person = {"sub": "1", "preferred_username": "ana", "groups": ["field"]}
        collector = with_provider(stack, running)
        page.goto(f"http://127.0.0.1:{collector.http}/")
        page.get_by_role("link", name=BUTTON).click()
        expect(page.get_by_title("What you may do")).to_have_text("operator")
        out(page)

        provider.rotate("RS256", "of the next")
        provider.person = {"sub": "1", "preferred_username": "renamed", "groups": ["guests", "boss"]}
        page.get_by_role("link", name=BUTTON).click()
        expect(page.get_by_title("What you may do")).to_have_text("admin")
        # Who it is says the subject; the name is the first one's.
        expect(page.get_by_role("link", name="ana", exact=True)).to_be_visible()
        page.get_by_role("link", name="Audit").click()
        entries = page.get_by_role("table", name="entr")
        expect(entries.get_by_role("row").filter(has_text="user.role")).to_contain_text("operator → admin")
        out(page)

        provider.person = {"sub": "1", "preferred_username": "ana", "groups": ["boss"]}
        provider.forge = lambda claims: provider.key.sign(claims, alg="HS256")
        page.get_by_role("link", name=BUTTON).click()
        expect(page.get_by_role("alert")).to_be_visible()
        expect(page.get_by_role("link", name=BUTTON)).to_be_visible()
        expect(page.get_by_title("What you may do")).to_have_count(0)
        assert page.context.cookies(page.url) == []
    assert "oidc.refused" in (collector.folder / "collector.log").read_text()


def test_a_provider_admin_is_shown_beside_an_account_with_a_password(stack: Stack) -> None:
    """The first account is made by the link, as ever; the page of accounts says who signs in where, and offers no other role for them."""
    with Running() as provider, browser_page(expected=REFUSED) as page:
        collector = with_provider(stack, provider)
        make_admin(page, first_link(collector.folder / "collector.log"))
        leave(page)
        provider.provider.person = {"sub": "1", "preferred_username": "bea", "groups": ["boss"]}
        page.get_by_role("link", name=BUTTON).click()
        page.get_by_role("link", name="Accounts").click()
        people = page.get_by_role("table", name="People")
        expect(people.get_by_role("row", name="bea")).to_contain_text(provider.provider.issuer)
        expect(page.get_by_label("Role of bea")).to_have_count(0)
        expect(page.get_by_label("Role of ana")).to_have_value("admin")
        picture(page, "accounts-provider")
        page.get_by_role("button", name="Remove ana").click()
        page.get_by_role("button", name="Remove ana").click()
        expect(page.get_by_role("alert")).to_contain_text("only admin with a password")
        page.get_by_role("button", name="Log out", exact=True).click()
        sign_in(page, "ana", "correct horse battery")
        expect(page.get_by_text("admin", exact=True)).to_be_visible()
