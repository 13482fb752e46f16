"""What every store must keep of people's accounts, tokens, sessions and wrong logins."""

import asyncio
from dataclasses import replace

import pytest

from store_batches import Opener
from telemetryx.clock import ManualClock
from telemetryx.store.accounts import (
    MAX_DEVICES,
    MAX_SESSIONS,
    Account,
    AccountRefused,
    Arrival,
    Guess,
    NewSession,
    Role,
    digest,
)
from telemetryx.store.audit import Actor, AuditQuery
from telemetryx.store.tables.store import TableStore

S = 1_000_000_000
BY = Actor("root", "cli", "host")
SECRET = "$argon2id$made-up"


async def make(store: TableStore, name: str = "ana", role: Role = Role.ADMIN) -> Account:
    """An account."""
    return await store.accounts.add(name, role, SECRET, BY)


async def log_in(store: TableStore, account: Account, number: int = 0, lasts_ns: int = 100 * S) -> bytes:
    """Log a browser in; return its session's digest."""
    mark = digest(f"{account.name} {number}")
    new = NewSession(
        mark, store._clock.now_ns() + lasts_ns, account.id, device=digest(f"device {account.name} {number}")
    )
    await store.accounts.open_session(new, Actor(account.name, "console", "192.0.2.1"))
    return mark


async def actions(store: TableStore) -> list[str]:
    """What the audit log holds, newest first."""
    return [f"{row.action} {row.target}" for row in await store.audited(AuditQuery())]


async def test_accounts_are_kept_and_every_change_is_in_the_audit_log(
    store: TableStore, open_store: Opener
) -> None:
    """With what it was before and after, and never a password."""
    assert not await store.accounts.any()
    await make(store)
    await make(store, "bob", Role.VIEWER)
    changed = await store.accounts.change_role("bob", Role.OPERATOR, BY)
    assert changed.role is Role.OPERATOR
    await store.accounts.change_password("bob", "$argon2id$other", BY)
    again = await open_store()
    assert [(one.name, one.role, one.password) for one in await again.accounts.all()] == [
        ("ana", Role.ADMIN, SECRET),
        ("bob", Role.OPERATOR, "$argon2id$other"),
    ]
    await again.accounts.remove("bob", BY)
    assert await again.accounts.account("bob") is None
    log = await store.audited(AuditQuery())
    assert [f"{row.action} {row.target}" for row in log] == [
        "user.remove bob",
        "user.password bob",
        "user.role bob",
        "user.add bob",
        "user.add ana",
    ]
    assert (log[2].before, log[2].after) == (
        {"name": "bob", "role": "viewer"},
        {"name": "bob", "role": "operator"},
    )
    assert log[2].actor == BY
    assert "argon2" not in str(log)


@pytest.mark.parametrize(
    "name",
    ["", "Ana", "a b", ".a", "a" * 65, "a\n", "а", "../a", "a/b", "a\x00", "<b>", "a\r\nSet-Cookie: x"],
)
async def test_a_name_that_could_be_mistaken_for_another_is_refused(store: TableStore, name: str) -> None:
    """Or that a log, a path or a header would read as more than a name."""
    with pytest.raises(AccountRefused, match="no account's name"):
        await make(store, name)


async def test_the_last_admin_stays(store: TableStore) -> None:
    """Neither removed nor made less, also when two who could be are taken at once."""
    await make(store)
    for change in (store.accounts.remove("ana", BY), store.accounts.change_role("ana", Role.VIEWER, BY)):
        with pytest.raises(AccountRefused, match="only admin"):
            await change
    await make(store, "bob")
    ended = await asyncio.gather(
        store.accounts.remove("ana", BY),
        store.accounts.change_role("bob", Role.VIEWER, BY),
        return_exceptions=True,
    )
    assert sum(isinstance(one, AccountRefused) for one in ended) == 1
    assert sum(one.role is Role.ADMIN for one in await store.accounts.all()) == 1


async def test_what_is_not_there_is_refused_as_missing(store: TableStore) -> None:
    """And a name is taken once."""
    await make(store)
    for change in (
        store.accounts.remove("bob", BY),
        store.accounts.change_password("bob", SECRET, BY),
        store.accounts.revoke_token(7, BY),
    ):
        with pytest.raises(AccountRefused) as refused:
            await change
        assert refused.value.missing
    with pytest.raises(AccountRefused, match="already"):
        await make(store)


async def test_a_first_link_makes_one_admin_once(store: TableStore, clock: ManualClock) -> None:
    """In its hour, whoever comes at the same time; then no link is given or taken any more."""
    link, other = digest("link"), digest("other")
    assert await store.accounts.offer_first(link, clock.now_ns() + 10 * S)
    assert await store.accounts.offer_first(other, clock.now_ns() + 5 * S)
    assert await store.accounts.redeem_first(digest("wrong"), "ana", SECRET, "p") is None
    clock.advance(5 * S)
    assert await store.accounts.redeem_first(other, "ana", SECRET, "p") is None
    made = await asyncio.gather(
        *(store.accounts.redeem_first(link, name, SECRET, "192.0.2.1") for name in ("ana", "bob", "eve"))
    )
    (admin,) = [one for one in made if one is not None]
    assert [one.name for one in await store.accounts.all()] == [admin.name]
    assert admin.role is Role.ADMIN
    assert not await store.accounts.offer_first(link, clock.now_ns() + 10 * S)
    assert await store.accounts.redeem_first(link, "late", SECRET, "p") is None
    assert await actions(store) == [f"user.add {admin.name}"]


async def test_a_session_holds_until_its_end_its_logout_or_a_new_password(
    store: TableStore, clock: ManualClock, open_store: Opener
) -> None:
    """In every process on the store; other people's sessions stay."""
    ana, bob = await make(store), await make(store, "bob", Role.VIEWER)
    short, one, two = (
        await log_in(store, ana, 1, 5 * S),
        await log_in(store, ana, 2),
        await log_in(store, ana, 3),
    )
    other = await log_in(store, bob)
    second = await open_store()
    found = await second.accounts.session(one)
    assert found is not None
    assert found.account is not None
    assert (found.account.name, found.account.role) == ("ana", Role.ADMIN)
    clock.advance(5 * S)
    assert await second.accounts.session(short) is None
    assert await second.accounts.close_session(two, BY)
    assert not await second.accounts.close_session(two, BY)
    assert await store.accounts.session(two) is None
    assert await second.accounts.knows_device(digest("device ana 2"), "ana")
    await second.accounts.change_password("ana", "$argon2id$other", BY)
    assert await store.accounts.session(one) is None
    assert not await second.accounts.knows_device(digest("device ana 2"), "ana")
    assert await store.accounts.session(other) is not None


async def test_a_role_that_changes_and_an_account_that_goes_count_at_once(store: TableStore) -> None:
    """A session says who somebody is, not what they could do when it began."""
    await make(store)
    bob = await make(store, "bob")
    session = await log_in(store, bob)
    await store.accounts.change_role("bob", Role.VIEWER, BY)
    found = await store.accounts.session(session)
    assert found is not None
    assert found.account is not None
    assert found.account.role is Role.VIEWER
    await store.accounts.remove("bob", BY)
    assert await store.accounts.session(session) is None


async def test_with_somebody_go_the_tokens_that_they_made_if_it_is_wanted(
    store: TableStore, clock: ManualClock
) -> None:
    """Those that they made with a token of theirs too, also with one that has ended; nobody else's, and none is forgotten unsaid."""
    await make(store)
    await make(store, "bob")

    async def token(name: str, maker: str, lasts_ns: int = 100 * S) -> int:
        by = Actor(maker, "console", "192.0.2.1")
        made = await store.accounts.add_token(name, digest(name), Role.ADMIN, clock.now_ns() + lasts_ns, by)
        return made.id

    await token("bobs", "bob")
    ended = await token("ended", "token bobs", 1)
    revoked = await token("revoked", "bob")
    await token("third", "token revoked")
    await token("anas", "ana")
    await store.accounts.revoke_token(revoked, BY)
    clock.advance(S)
    assert [(one.name, one.tokens) for one in await store.accounts.all()] == [("ana", 1), ("bob", 2)]

    left = await store.accounts.remove("bob", BY)
    assert {(one.name, one.revoked_ns) for one in left} == {("bobs", None), ("third", None)}
    assert await store.accounts.token(digest("third")) is not None
    (entry,) = await store.audited(AuditQuery(action="user.remove"))
    assert entry.before is not None
    assert set(entry.before["programs"]) == {"bobs", "third"}

    await make(store, "bob")
    session = NewSession(digest("by token"), clock.now_ns() + S, token=left[0].id)
    await store.accounts.open_session(session, BY)
    gone = await store.accounts.remove("bob", BY, revoke_tokens=True)
    assert {(one.name, one.revoked_ns) for one in gone} == {
        ("bobs", clock.now_ns()),
        ("third", clock.now_ns()),
    }
    assert await store.accounts.token(digest("bobs")) is None
    assert await store.accounts.token(digest("third")) is None
    assert await store.accounts.session(digest("by token")) is None
    assert await store.accounts.token(digest("anas")) is not None
    assert sorted((await actions(store))[:3]) == [
        "token.revoke bobs",
        "token.revoke third",
        "user.remove bob",
    ]
    assert [one.revoked_ns for one in await store.accounts.tokens() if one.id == ended] == [None]


async def test_a_new_login_ends_the_browsers_old_session(store: TableStore, clock: ManualClock) -> None:
    """And an account isn't logged in from more browsers than is sensible."""
    ana = await make(store)
    old = await log_in(store, ana, 0)
    new = NewSession(digest("new"), clock.now_ns() + S, ana.id, replaces=old)
    await store.accounts.open_session(new, BY)
    assert await store.accounts.session(old) is None
    for number in range(1, MAX_SESSIONS + 3):
        clock.advance(1)
        last = await log_in(store, ana, number, 1_000 * S)
    (shown,) = await store.accounts.all()
    assert shown.sessions == MAX_SESSIONS
    assert await store.accounts.session(last) is not None
    assert await store.accounts.session(digest("new")) is None
    known = [
        await store.accounts.knows_device(digest(f"device ana {n}"), "ana") for n in range(MAX_SESSIONS + 3)
    ]
    assert sum(known) == MAX_DEVICES
    assert known[-1]


async def test_a_token_holds_until_its_end_or_its_revocation(
    store: TableStore, clock: ManualClock, open_store: Opener
) -> None:
    """With the sessions that began with it."""
    short = await store.accounts.add_token("short", digest("s"), Role.VIEWER, clock.now_ns() + 5 * S, BY)
    made = await store.accounts.add_token("ci", digest("t"), Role.OPERATOR, clock.now_ns() + 900 * S, BY)
    with pytest.raises(AccountRefused, match="already"):
        await store.accounts.add_token("ci", digest("u"), Role.ADMIN, clock.now_ns() + S, BY)
    assert await store.accounts.token(digest("t")) == made
    assert await store.accounts.token(digest("x")) is None
    session = NewSession(digest("cookie"), clock.now_ns() + 900 * S, token=made.id)
    await store.accounts.open_session(session, BY)
    clock.advance(61 * S)
    await store.accounts.seen(None, made.id)
    second = await open_store()
    assert await second.accounts.token(digest("s")) is None
    assert [(one.name, one.used_ns) for one in await second.accounts.tokens()] == [
        ("ci", clock.now_ns()),
        ("short", None),
    ]
    found = await second.accounts.session(digest("cookie"))
    assert found is not None
    assert found.token is not None
    assert found.token.role is Role.OPERATOR
    assert (await second.accounts.revoke_token(made.id, BY)).revoked_ns == clock.now_ns()
    assert await store.accounts.token(digest("t")) is None
    assert await store.accounts.session(digest("cookie")) is None
    assert short.id != made.id
    assert await actions(store) == [
        "token.revoke ci",
        "session.begin root",
        "token.create ci",
        "token.create short",
    ]


# --- wrong logins


def pair(source: str = "192.0.2.66") -> list[Guess]:
    """What an attempt to log in as ana from somewhere counts under."""
    return [
        Guess(f"pair {source}", 5, S, 300 * S, 3_600 * S),
        Guess(f"source {source}", 5, S, 300 * S, 3_600 * S),
        Guess("account ana", 10, S, 30 * S, 3_600 * S, share=3),
    ]


async def test_ten_thousand_wrong_logins_slow_their_source_down_and_nobody_else(
    store: TableStore, clock: ManualClock, open_store: Opener
) -> None:
    """Waits grow and are bounded, in every process; the real person gets in at once from elsewhere."""
    second, taken, waits = await open_store(), 0, []
    for number in range(400):
        wait = await (store if number % 2 else second).accounts.attempt(pair())
        taken += wait == 0
        waits.append(wait)
        clock.advance(S // 10)
    assert taken <= 12
    assert max(waits) <= 300 * S
    assert waits[-1] > waits[10] > 0
    assert await store.accounts.attempt(pair("198.51.100.7")) == 0
    clock.advance(300 * S)
    assert await store.accounts.attempt(pair()) == 0  # bounded: never for ever
    assert await store.accounts.attempt(pair()) > 30 * S
    clock.advance(3_600 * S)
    assert [await store.accounts.attempt(pair()) for _ in range(5)] == [0] * 5  # forgotten


async def test_attempts_at_once_are_counted_each(store: TableStore) -> None:
    """A hundred at the same moment aren't a hundred guesses for the price of one."""
    waits = await asyncio.gather(*(store.accounts.attempt(pair()) for _ in range(100)))
    assert waits.count(0) == 5


async def test_many_sources_slow_the_account_down_but_not_its_person_at_first_try(store: TableStore) -> None:
    """Who hasn't guessed wrong yet isn't made to wait for what others did; a second try is."""
    for number in range(12):
        assert await store.accounts.attempt(pair(f"192.0.2.{number}")) == 0
    assert await store.accounts.attempt(pair("198.51.100.7")) == 0
    assert 0 < await store.accounts.attempt(pair("198.51.100.7")) <= 30 * S


async def test_others_who_never_stop_guessing_do_not_keep_the_real_person_out(
    store: TableStore, clock: ManualClock
) -> None:
    """From new addresses all the time, of a botnet or an IPv6 block: who mistyped once waits half a minute since then, and gets in."""
    assert await store.accounts.attempt(pair("198.51.100.7")) == 0
    for number in range(300):
        clock.advance(S // 10)
        assert await store.accounts.attempt(pair(f"2001:db8:0:{number:x}::/64")) == 0
        waits = await store.accounts.attempt(pair("198.51.100.7")) if number == 100 else 30 * S
        assert 0 < waits <= 30 * S
    assert await store.accounts.attempt(pair("198.51.100.7")) == 0
    # One that guesses again and again from the same address waits as before.
    assert await store.accounts.attempt(pair("198.51.100.7")) == 30 * S


async def test_a_right_login_is_taken_back_but_wrong_ones_of_before_still_count(store: TableStore) -> None:
    """Or an attacker with an account of their own would start anew after each."""
    for _ in range(4):
        assert await store.accounts.attempt(pair()) == 0
    for _ in range(3):
        assert await store.accounts.attempt(pair()) == 0
        await store.accounts.succeeded(pair())
    assert await store.accounts.attempt(pair()) == 0
    assert await store.accounts.attempt(pair()) > 0


async def test_who_comes_from_a_provider_is_known_by_issuer_and_subject_alone(store: TableStore) -> None:
    """The role is what the provider says now; a name that is taken isn't given twice, and nothing of it is changed here."""
    accounts = store.accounts
    await make(store, "root", Role.ADMIN)
    ana = Arrival("https://login.example", "1", "ana", Role.OPERATOR)
    first = await accounts.arrive(ana, BY)
    assert (first.name, first.role, first.issuer, first.password) == ("ana", Role.OPERATOR, ana.issuer, "")
    again = await accounts.arrive(replace(ana, name="ana.married", role=Role.ADMIN), BY)
    assert (again.id, again.name, again.role) == (first.id, "ana", Role.ADMIN)
    for other in (
        replace(ana, subject="2"),
        replace(ana, issuer="https://evil.example"),
        replace(ana, subject="3", name="root"),
    ):
        with pytest.raises(AccountRefused, match="already"):
            await accounts.arrive(other, BY)
    for change in (accounts.change_role("ana", Role.VIEWER, BY), accounts.change_password("ana", SECRET, BY)):
        with pytest.raises(AccountRefused, match="signs in at https"):
            await change
    for change in (accounts.remove("root", BY), accounts.change_role("root", Role.VIEWER, BY)):
        with pytest.raises(AccountRefused, match="only admin with a password"):
            await change
    done = [row.action for row in await store.audited(AuditQuery(action="user"))]
    assert done == ["user.role", "user.add", "user.add"]
    await accounts.remove("ana", BY)
    assert (await accounts.arrive(ana, BY)).id != first.id
