"""What every store must keep of the audit log."""

import asyncio
from dataclasses import replace

import pytest

from store_batches import Opener
from telemetryx.clock import ManualClock
from telemetryx.store.alerts import AlertChange, AlertState, ChangeKind, RulesCommit
from telemetryx.store.audit import HIDDEN, MAX_TEXT, Actor, AuditQuery, Entry, Seldom
from telemetryx.store.interface import Retention
from telemetryx.store.tables import audit
from telemetryx.store.tables.rules import StoredRules
from telemetryx.store.tables.store import TableStore

S = 1_000_000_000
ANA = Actor("ana", "console", "192.0.2.7")
EVIL = 'a"b\n<script>; DROP TABLE audit; --'


async def test_a_change_is_found_as_it_was_noted_after_a_restart_too(
    store: TableStore, clock: ManualClock, open_store: Opener
) -> None:
    """Who, when, from where, what, before and after; whatever is in the texts."""
    entry = Entry(
        Actor(EVIL, "api", EVIL), "rule.change", EVIL, {"for": 5, "who": EVIL}, {"for": [7.5, None]}
    )
    await store.audit(entry)
    (row,) = await (await open_store()).audited(AuditQuery())
    assert row.at_ns == clock.now_ns()
    assert Entry(row.actor, row.action, row.target, row.before, row.after) == entry


async def test_the_log_is_filtered_and_paged_newest_first(store: TableStore, clock: ManualClock) -> None:
    """By person, thing, time, and an action or all actions of a noun."""
    begun = clock.now_ns()
    for name, action, target in (
        ("ana", "user.add", "bob"),
        ("ana", "user.role", "bob"),
        ("bob", "username.odd", "x"),
        ("bob", "silence.add", "7"),
    ):
        await store.audit(Entry(replace(ANA, name=name), action, target))
        clock.advance(S)

    async def found(wanted: AuditQuery) -> list[str]:
        return [row.action for row in await store.audited(wanted)]

    assert await found(AuditQuery()) == ["silence.add", "username.odd", "user.role", "user.add"]
    assert await found(AuditQuery(actor="bob")) == ["silence.add", "username.odd"]
    assert await found(AuditQuery(action="user")) == ["user.role", "user.add"]
    assert await found(AuditQuery(action="user.add")) == ["user.add"]
    assert await found(AuditQuery(target="bob", end_ns=begun + S)) == ["user.add"]
    assert await found(AuditQuery(start_ns=begun + 3 * S)) == ["silence.add"]
    first = await store.audited(AuditQuery(limit=2))
    assert await found(AuditQuery(limit=2, before=first[-1].id)) == ["user.role", "user.add"]


async def test_secrets_stay_out_of_the_log_whoever_writes_the_entry(store: TableStore) -> None:
    """By the name that they stand under, however deep; and a text is cut, not refused."""
    before = {"password": "hunter2", "nested": [{"api_token": "t", "client_secret": "s", "tokenId": "x"}]}
    after = {
        "token_id": 7,
        "password_file": "/run/p",
        "raw": b"bytes",
        "long": "x" * 5_000,
        "code": "c",
        "key": "k",
    }
    await store.audit(Entry(ANA, "webhook.change", "w", before, after))
    (row,) = await store.audited(AuditQuery())
    assert row.before == {
        "password": HIDDEN,
        "nested": [{"api_token": HIDDEN, "client_secret": HIDDEN, "tokenId": HIDDEN}],
    }
    assert row.after is not None
    assert (row.after["token_id"], row.after["password_file"]) == (7, "/run/p")
    assert (row.after["raw"], row.after["code"], row.after["key"]) == (HIDDEN, HIDDEN, HIDDEN)
    assert len(row.after["long"]) == MAX_TEXT + 1


async def test_a_change_that_fails_leaves_no_entry(store: TableStore) -> None:
    """The entry is in the change's own transaction."""

    def work(db: audit.Database) -> None:
        audit.note(db, 1, Entry(ANA, "user.add", "bob"))
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await store.write(work)
    assert await store.audited(AuditQuery()) == []


async def test_what_people_say_about_alerts_is_in_the_log_with_what_it_was_before(
    store: TableStore, clock: ManualClock
) -> None:
    """A change that changes nothing leaves no entry, nor does the collector's own work."""
    now = clock.now_ns()
    made = await store.add_silence("hot", now, now + 90 * S, "ana", "why", by=ANA)
    await store.add_silence("cold", now, now + 90 * S, "ana", "")
    clock.advance(S)
    for _ in range(2):
        await store.end_silence(made.id, by=ANA)
    change = AlertChange(ChangeKind.STANDS, "hot", "g", now, now, AlertState.FIRING, fired_ns=now)
    (alert,) = await StoredRules(store).rules_commit(RulesCommit("rules", changes=[change]))
    await store.acknowledge(alert.id, "ana", "mine", by=ANA)
    await store.acknowledge(alert.id, "bob", "no, mine", by=ANA)
    for _ in range(2):
        await store.withdraw_acknowledgement(alert.id, by=ANA)
    assert await store.acknowledge(999, "ana", "", by=ANA) is None
    log = [(row.action, row.target, row.before, row.after) for row in await store.audited(AuditQuery())]
    silence = {"match": "hot", "starts_ns": now, "ends_ns": now + 90 * S, "author": "ana", "comment": "why"}
    mine, other = {"author": "ana", "comment": "mine"}, {"author": "bob", "comment": "no, mine"}
    assert log[::-1] == [
        ("silence.add", str(made.id), None, silence),
        ("silence.end", str(made.id), silence, {**silence, "ends_ns": now + S}),
        ("alert.acknowledge", str(alert.id), None, mine),
        ("alert.acknowledge", str(alert.id), mine, other),
        ("alert.withdraw", str(alert.id), other, None),
    ]


async def test_entries_noted_at_once_are_all_kept(store: TableStore) -> None:
    """Each with a number of its own."""
    await asyncio.gather(*(store.audit(Entry(ANA, "user.add", str(n))) for n in range(50)))
    rows = await store.audited(AuditQuery())
    assert sorted(int(row.target) for row in rows) == list(range(50))
    assert len({row.id for row in rows}) == 50


async def test_entries_go_when_their_retention_ends(store: TableStore, clock: ManualClock) -> None:
    """And not before."""
    await store.audit(Entry(ANA, "user.add", "old"))
    clock.advance(10 * S)
    await store.audit(Entry(ANA, "user.add", "new"))
    await store.apply_retention(Retention(audit_ns=10 * S), clock.now_ns() + 1)
    assert [row.target for row in await store.audited(AuditQuery())] == ["new"]
    await store.apply_retention(Retention(), clock.now_ns() + 1_000 * S)
    assert len(await store.audited(AuditQuery())) == 1


def test_what_repeats_itself_is_entered_once_in_a_while_and_strangers_fill_nothing() -> None:
    """The same again after its time; of different things so many in that time; a clock that is set back keeps nothing out."""
    seldom = Seldom(60 * S, most=3)
    assert [seldom.first(at * S, "used", "192.0.2.1") for at in (0, 1, 59, 60, 61)] == [
        True,
        False,
        False,
        True,
        False,
    ]
    assert [seldom.first(62 * S, "used", str(n)) for n in range(10)] == [True] * 2 + [False] * 8
    assert seldom.first(121 * S, "used", "192.0.2.1")
    assert seldom.first(5 * S, "used", "192.0.2.1")
