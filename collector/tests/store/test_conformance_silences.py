"""What every store must keep of what people say about alerts: silences and acknowledgements."""

import pytest

from store_batches import Opener
from telemetryx.clock import ManualClock
from telemetryx.errors import QueryRefused, SelectorError
from telemetryx.store import silences as said
from telemetryx.store.alerts import AlertChange, AlertState, ChangeKind, RulesCommit
from telemetryx.store.tables import silences
from telemetryx.store.tables.rules import StoredRules
from telemetryx.store.tables.store import TableStore

S = 1_000_000_000
EVIL = 'a"b\n<script>; DROP TABLE silence; --'


async def fired(store: TableStore, now_ns: int, group: str = "g") -> int:
    """An alert's id."""
    change = AlertChange(ChangeKind.STANDS, "hot", group, now_ns, now_ns, AlertState.FIRING, fired_ns=now_ns)
    (alert,) = await StoredRules(store).rules_commit(RulesCommit("rules", changes=[change]))
    return alert.id


async def test_silences_are_listed_by_their_end_until_they_are_over(
    store: TableStore, clock: ManualClock
) -> None:
    """Those to come among them; ended ones apart, newest first; whatever is in their texts."""
    now = clock.now_ns()
    long = await store.add_silence(f'{{site="{EVIL.replace(chr(34), "")}"}}', now, now + 90 * S, EVIL, EVIL)
    short = await store.add_silence("hot", now, now + 10 * S, "ana", "")
    coming = await store.add_silence("cold", now + 20 * S, now + 50 * S, "bob", "")
    assert [one.id for one in await store.silences()] == [short.id, coming.id, long.id]
    assert (await store.silences())[2] == long
    assert (long.author, long.comment, long.created_ns) == (EVIL, EVIL, now)
    clock.advance(10 * S)
    assert [one.id for one in await store.silences()] == [coming.id, long.id]
    ended = await store.end_silence(coming.id)
    assert ended is not None
    assert (ended.starts_ns, ended.ends_ns) == (clock.now_ns(), clock.now_ns())
    assert await store.end_silence(coming.id) == ended
    assert await store.end_silence(999) is None
    assert [one.id for one in await store.silences(ended=True)] == [coming.id, short.id]
    assert [one.id for one in await store.silences(limit=1)] == [long.id]


@pytest.mark.parametrize(
    ("match", "begin", "length", "words"),
    [
        ("{}", 0, 9, "everything"),
        ("hot", 0, 0, "end before"),
        ("hot", -60, 59, "end before"),
        ("hot{", 0, 9, "label"),
    ],
)
async def test_a_silence_needs_a_condition_and_a_time(
    store: TableStore, clock: ManualClock, match: str, begin: int, length: int, words: str
) -> None:
    """Silence about everything, or about nothing, is a mistake."""
    starts = clock.now_ns() + begin * S
    with pytest.raises((QueryRefused, SelectorError), match=words):
        await store.add_silence(match, starts, starts + length * S, "ana", "")
    assert await store.silences() == []


async def test_no_more_silences_than_a_limit_stand(
    store: TableStore, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each alert that is told is compared with all of them. What ended doesn't count."""
    monkeypatch.setattr(silences, "MAX_STANDING", 2)
    now = clock.now_ns()
    for _ in range(2):
        await store.add_silence("hot", now, now + 10 * S, "ana", "")
    with pytest.raises(QueryRefused, match="2 silences stand"):
        await store.add_silence("hot", now, now + 10 * S, "ana", "")
    clock.advance(11 * S)
    await store.add_silence("hot", clock.now_ns(), clock.now_ns() + 10 * S, "ana", "")


async def test_an_alert_is_taken_on_by_one_person_at_a_time(open_store: Opener, clock: ManualClock) -> None:
    """It is said of a known alert, replaced, taken back, kept over a restart, and forgotten with the alert."""
    store = await open_store()
    assert isinstance(store, TableStore)
    alert, other = await fired(store, clock.now_ns()), await fired(store, clock.now_ns(), "other")
    assert await store.acknowledge(999, "ana", "") is None
    await store.acknowledge(alert, "ana", "")
    clock.advance(S)
    newer = await store.acknowledge(alert, "bob", EVIL)
    assert newer == said.Acknowledgement(alert, clock.now_ns(), "bob", EVIL)
    again = await open_store()
    assert isinstance(again, TableStore)
    assert await again.acknowledged([alert, other]) == {alert: newer}
    await store.acknowledge(other, "ana", "")
    assert await store.withdraw_acknowledgement(other)
    assert not await store.withdraw_acknowledgement(other)
    change = AlertChange(ChangeKind.CLOSED, "hot", "g", clock.now_ns() - S, clock.now_ns())
    await StoredRules(store).rules_commit(RulesCommit("rules", changes=[change]))
    assert list(await store.acknowledged([alert])) == [alert]
    await StoredRules(store).rules_forget(clock.now_ns() + 1, 10)
    assert await store.acknowledged([alert]) == {}


def test_a_silence_is_about_rule_severity_and_labels() -> None:
    """A label that an alert hasn't got counts as empty, as in every selector."""
    about = {"agent": "gw1", "site": "north"}
    for match, holds in (
        ("hot", True),
        ("cold", False),
        ('{alertname="hot",site="north"}', True),
        ('{alertname="cold"}', False),
        ('{"hot"}', True),
        ('hot{site="north",severity="warning"}', True),
        ('{site=~"n.*",agent!="gw2"}', True),
        ('{__agent__="gw1"}', True),
        ('{severity="critical"}', False),
        ('{device="p7"}', False),
        ('hot{device=""}', True),
    ):
        one = said.Silence(1, match, 0, 1, "", "", 0)
        assert said.holds(one.matchers(), "hot", "warning", about) is holds, match
