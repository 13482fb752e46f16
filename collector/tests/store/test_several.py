"""Several collectors on one PostgreSQL: two write at once, readers skip nothing, work has one owner, partitions come and go."""

import asyncio
import random
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import asyncpg
import pytest

from postgres_server import PASSWORD, PostgresServer
from reference_agent import SECOND, T0, decoded, defined, samples
from telemetryx.clock import ManualClock
from telemetryx.errors import LeaseLost
from telemetryx.store.alerts import AlertChange, AlertState, ChangeKind, RulesCommit
from telemetryx.store.interface import Retention, SeriesQuery
from telemetryx.store.postgres import places
from telemetryx.store.postgres.engine import PostgresEngine
from telemetryx.store.postgres.migrations import migrate
from telemetryx.store.postgres.store import PostgresStore
from telemetryx.store.sqlite.store import SqliteStore
from telemetryx.store.tables import follow, lease
from telemetryx.store.tables.database import Database
from telemetryx.store.tables.lease import Held, Member
from telemetryx.store.tables.numbers import Numbers
from telemetryx.store.tables.rules import StoredRules
from telemetryx.store.tables.writer import Priority
from telemetryx.types import BatchKey, Committed, Decoded, Definition, Duplicate, Outcome, Stored
from telemetryx.wire.payload import Payload

EPOCH = bytes(range(16))
TTL = 60 * SECOND
Open = Callable[[str], Awaitable[PostgresStore]]


@pytest.fixture
async def member(database: PostgresEngine) -> AsyncIterator[Open]:
    """Opens the store for a member; all are closed at the end."""
    async with AsyncExitStack() as stack:

        async def opened(name: str) -> PostgresStore:
            store = await PostgresStore.open(database, member=Member(name), clock=ManualClock(), readers=2)
            stack.push_async_callback(store.close)
            return store

        yield opened


def batch(seq: int, agent: str = "a", epoch: bytes = EPOCH, time_ns: int = T0) -> Decoded:
    """One sample of an agent's series."""
    content = Payload(samples({1: [(time_ns + seq, float(seq))]}))
    return decoded(BatchKey(agent, epoch, seq), content, defined("x"))


async def other_session(postgres: PostgresServer, database: PostgresEngine) -> asyncpg.Connection:
    """Somebody else's session on the database."""
    return await asyncpg.connect(postgres.url(database.url.rpartition("/")[2]), password=PASSWORD)


# --- exactly once


async def test_a_batch_that_two_commit_at_once_is_stored_once(member: Open) -> None:
    """Whichever comes first stores it, the other finds it: for known epochs and for those that neither has seen."""
    one, two = await member("one"), await member("two")
    for number in range(1, 41):
        wanted = batch(number if number % 2 else 1, epoch=bytes([number // 2]) * 16)
        outcomes = [
            *await one.commit([]),
            *(await asyncio.gather(one.commit([wanted]), two.commit([wanted]))),
        ]
        kinds = sorted(type(outcome[0]).__name__ for outcome in outcomes)
        assert kinds == ["Duplicate", "Stored"], (number, outcomes)
    assert await one.verify() == []
    (series,) = await one.series()
    assert len(await two.samples([series.id], 0, 1 << 62)) == 40


async def test_groups_in_opposite_order_are_both_stored(member: Open) -> None:
    """Two processes that meet the same new agents in opposite orders don't refuse anybody: the server's victim does it again."""
    one, two = await member("one"), await member("two")
    for turn in range(10):
        names = [f"{turn}-{n}" for n in range(8)]
        forth = [batch(1, name) for name in names]
        back = [batch(1, name) for name in reversed(names)]
        first, second = await asyncio.gather(one.commit(forth), two.commit(back))
        assert all(isinstance(outcome, Stored | Duplicate) for outcome in (*first, *second))
        for index in range(8):
            kinds = {type(first[index]), type(second[7 - index])}
            assert kinds == {Stored, Duplicate}
    assert await one.verify() == []


async def test_two_epochs_of_one_agent_share_its_series(member: Open) -> None:
    """An agent whose spool began anew is on two processes for a moment: both enter the same series, neither is refused."""
    one, two = await member("one"), await member("two")

    def of(epoch: int, seq: int) -> Decoded:
        content = Payload(samples({seq: [(T0 + seq, 1.0)]}))
        definition = Definition(seq, f"x{seq}", {})
        return decoded(BatchKey("a", bytes([epoch]) * 16, seq), content, [definition])

    for seq in range(1, 41):
        first, second = await asyncio.gather(one.commit([of(1, seq)]), two.commit([of(2, seq)]))
        assert [type(outcome) for outcome in (*first, *second)] == [Stored, Stored]
    assert (await one.series_page(SeriesQuery())).total == 40


async def test_commits_do_not_wait_for_upkeep(member: Open) -> None:
    """A batch is stored and answered while a transaction of upkeep is open: these two write on connections of their own."""
    store = await member("one")
    begun, stored = threading.Event(), threading.Event()

    def slow(db: Database) -> bool:
        db.execute("INSERT INTO meta VALUES ('slow', 1)")
        begun.set()
        return stored.wait(60)

    upkeep = asyncio.create_task(store.write(slow, Priority.UPKEEP))
    await asyncio.to_thread(begun.wait)
    (outcome,) = await store.commit([batch(1)])
    assert isinstance(outcome, Stored)
    stored.set()
    assert await upkeep, "the batch was stored before it ended"
    assert store.longest_ns()["upkeep"] > 0


# --- readers by cursor


async def test_a_reader_skips_nothing_that_commits_late(
    member: Open, postgres: PostgresServer, database: PostgresEngine
) -> None:
    """Transactions that begin early and end late, some of them undone, among two busy writers: each commit is read once, in order."""
    one, two = await member("one"), await member("two")
    await one.commit([batch(1)])
    name = database.url.rpartition("/")[2]
    random_ = random.Random(7)
    done = asyncio.Event()
    stored: set[int] = set()

    def note(outcomes: list[Outcome]) -> None:
        stored.update(outcome.cursor for outcome in outcomes if isinstance(outcome, Stored))

    async def write(store: PostgresStore, agent: str) -> None:
        for seq in range(1, 61):
            note(await store.commit([batch(seq, agent)]))

    async def dawdle() -> None:
        """Write a batch row in a transaction that is held open while others commit after it."""
        session = await asyncpg.connect(postgres.url(name), password=PASSWORD)
        for seq in range(1, 31):
            transaction = session.transaction()
            await transaction.start()
            number = await session.fetchval(
                "INSERT INTO batch SELECT (SELECT value FROM meta WHERE key = 'commit_base') + "
                "pg_current_xact_id()::text::bigint * 4096, agent_id, epoch_id, seq + $1, lane, received_ns, t0_ns, t1_ns, "
                "clock_offset_ns, series, samples, windows, events, payload, clock_uncertain FROM batch ORDER BY id LIMIT 1 "
                "RETURNING id",
                1_000 + seq,
            )
            await asyncio.sleep(random_.random() * 0.03)
            if random_.random() < 0.3:
                await transaction.rollback()
            else:
                await transaction.commit()
                stored.add(number)
        await session.close()

    async def read() -> list[int]:
        reader, found, cursor = await member("three"), [], 0
        while True:
            last = done.is_set()
            while page := await reader.read_after(cursor, 7):
                found += [commit.cursor for commit in page]
                cursor = found[-1]
            if last and len(found) > len(stored):
                return found
            await asyncio.sleep(0)

    reading = asyncio.create_task(read())
    await asyncio.gather(write(one, "b"), write(two, "c"), dawdle())
    done.set()
    found = await asyncio.wait_for(reading, 60)
    assert found == sorted(found)
    assert set(found) - stored == {found[0]}, "the one of the beginning"
    assert len(found) == len(set(found)) == len(stored) + 1


async def test_an_open_transaction_delays_readers_and_nobody_else(
    member: Open, postgres: PostgresServer, database: PostgresEngine
) -> None:
    """While anybody's older transaction is open commits are stored and answered, and shown when it ends; who holds them is said."""
    store = await member("one")
    await store.commit([batch(1)])
    start = await store.cursor()
    session = await other_session(postgres, database)
    held = session.transaction()
    await held.start()
    await session.execute("CREATE TEMP TABLE anything (n int)")
    pid = session.get_server_pid()
    (outcome,) = await store.commit([batch(2)])
    assert isinstance(outcome, Stored)
    assert await store.read_after(start) == []
    assert await store.cursor() == start
    news = await store.news(start, {}, data=True)
    assert (list(news.commits), news.held_back) == ([], True)
    assert f"process {pid}" in await store.holder()
    while (report := await store.compact(everything=True)).more or report.batches:
        pass
    assert (await store.usage()).batches == 1, "what readers haven't seen stays as shipped"
    (series,) = await store.series()
    assert len(await store.samples([series.id], 0, 1 << 62)) == 2
    await held.commit()
    await session.close()
    (commit,) = await store.read_after(start)
    assert commit.cursor == outcome.cursor == await store.cursor()
    assert not (await store.news(start, {}, data=True)).held_back


async def test_news_takes_what_is_known_from_memory_and_alerts_along(member: Open) -> None:
    """Commits of this process aren't read again; alert changes come with the commits around them."""
    one, two = await member("one"), await member("two")
    (mine,) = await one.commit([batch(1)])
    change = AlertChange(ChangeKind.STANDS, "hot", "{}", T0, T0, AlertState.FIRING, fired_ns=T0)
    await StoredRules(two).rules_commit(RulesCommit("rules", changes=[change]))
    (theirs,) = await two.commit([batch(2)])
    assert isinstance(mine, Stored)
    assert isinstance(theirs, Stored)
    assert mine.committed is not None
    known: dict[int, Committed] = {mine.cursor: mine.committed}
    news = await one.news(0, known, data=True)
    assert news.commits[0] is mine.committed
    assert [commit.cursor for commit in news.commits] == [mine.cursor, theirs.cursor]
    assert [(alert.rule, alert.state) for alert in news.alerts] == [("hot", AlertState.FIRING)]
    first = await one.news(0, {}, data=True, limit=1)
    assert (first.cursor, first.more, list(first.alerts)) == (mine.cursor, True, [])
    rest = await one.news(first.cursor, {}, data=True)
    assert [commit.cursor for commit in rest.commits] == [theirs.cursor]
    assert len(rest.alerts) == 1

    # The server's own upkeep takes transactions too, and the cursor with them: only within one snapshot is it known exactly.
    def settled(db: Database) -> tuple[follow.News, int]:
        return follow.news(db, Numbers(), 0, 256, {}, data=False), db.settled()

    quiet, bound = await one.read(settled)
    assert (list(quiet.commits), len(quiet.alerts), quiet.cursor) == ([], 1, bound - 1)


async def test_numbers_go_on_when_the_servers_transactions_count_from_less(
    member: Open, postgres: PostgresServer, database: PostgresEngine
) -> None:
    """A dump in a new server, whose transaction ids are smaller: numbers are raised, so that no cursor is ahead of them."""
    store = await member("one")
    await store.commit([batch(1)])
    # As if the rows came from a server with a billion transactions behind it.
    far = 1_000_000_000 * 4_096
    name = database.url.rpartition("/")[2]
    postgres.sql(f"UPDATE batch SET id = id + {far}", name)  # noqa: S608 - ours

    def reopen() -> None:
        connection = database.open({}, 60.0)
        try:
            migrate(connection)
        finally:
            connection.finish()

    await asyncio.to_thread(reopen)
    (outcome,) = await store.commit([batch(2)])
    assert isinstance(outcome, Stored)
    assert outcome.cursor > far
    assert [commit.key.seq for commit in await store.read_after(0)] == [1, 2]


# --- leases


async def test_work_has_one_owner_until_it_is_silent_or_lets_go(member: Open) -> None:
    """The first who asks gets it and keeps it; when its time is over, or when it lets go, the next gets it with a higher number."""
    one, two = await member("one"), await member("two")
    mine = (await one.beat(["rules"], {}, TTL)).held
    assert mine == {"rules": Held("rules", "one", 1)}
    found = await two.beat(["rules"], {}, TTL)
    assert found.held == {}
    assert [(row.task, row.owner) for row in found.leases] == [("rules", "one")]
    assert [row.name for row in found.members] == ["one", "two"]
    assert (await one.beat(["rules"], mine, 1)).held == mine
    # A nanosecond has passed: it is anybody's, and it was a member of no more.
    taken = await two.beat(["rules"], {}, TTL)
    assert taken.held == {"rules": Held("rules", "two", 2)}
    assert list(taken.gone) == ["one"]
    assert (await one.beat(["rules"], mine, TTL)).held == {}
    await two.release(list(taken.held.values()), leave=True)
    back = await one.beat(["rules"], {}, TTL)
    assert back.held == {"rules": Held("rules", "one", 3)}
    assert [row.name for row in back.members] == ["one"]


async def test_a_process_that_comes_back_under_its_name_gets_its_work_at_once(member: Open) -> None:
    """One that was killed and started again needn't wait for its own lease to end."""
    await (await member("one")).beat(["rules"], {}, TTL)
    assert (await (await member("one")).beat(["rules"], {}, TTL)).held == {"rules": Held("rules", "one", 2)}


async def test_an_owner_whose_lease_is_over_writes_nothing(member: Open) -> None:
    """Paused beyond its lease, it goes on as if nothing had happened: each of its transactions is refused, whole."""
    one, two = await member("one"), await member("two")
    mine = (await one.beat(["rules"], {}, 1)).held["rules"]
    token = lease.current.set(mine)
    try:
        await one.register_consumer("rules", 1)  # nobody has taken over: it is still its own
        await two.beat(["rules"], {}, TTL)
        for write in (
            lambda: one.advance_consumer("rules", 2),
            lambda: StoredRules(one).outbox_claim("r", T0, 10),
            lambda: one.apply_retention(Retention(raw_ns=1), T0),
        ):
            with pytest.raises(LeaseLost, match="another collector does rules"):
                await write()
    finally:
        lease.current.reset(token)
    assert await two.consumer_cursor("rules") == 1
    assert isinstance((await one.commit([batch(1)]))[0], Stored), "what needs no lease goes on"


async def test_a_takeover_waits_for_the_owners_open_transaction(member: Open) -> None:
    """Between the look at the lease and the commit nobody else becomes the owner; and who asks isn't kept waiting."""
    one, two = await member("one"), await member("two")
    mine = (await one.beat(["rules"], {}, 1)).held["rules"]
    begun, end = threading.Event(), threading.Event()

    def work(db: Database) -> None:
        begun.set()
        assert end.wait(60)
        db.execute("INSERT INTO consumer VALUES ('rules', 7)")

    token = lease.current.set(mine)
    try:
        writing = asyncio.create_task(one.write(work))
    finally:
        lease.current.reset(token)
    await asyncio.to_thread(begun.wait, 30)
    assert (await two.beat(["rules", "upkeep"], {}, TTL)).held == {"upkeep": Held("upkeep", "two", 1)}
    end.set()
    await writing
    assert (await two.beat(["rules"], {}, TTL)).held == {"rules": Held("rules", "two", 2)}
    assert await two.consumer_cursor("rules") == 7


async def test_a_store_that_one_process_has_to_itself_grants_everything_for_good(tmp_path: object) -> None:
    """SQLite: no heartbeat is needed, and a lease of a process that was killed is in nobody's way, whatever its name was."""
    store = await SqliteStore.open(tmp_path / "t.db", member=Member("before"))  # type: ignore[operator]
    await store.beat(["rules"], {}, 1)
    await store.close()
    store = await SqliteStore.open(tmp_path / "t.db", member=Member("now"))  # type: ignore[operator]
    found = await store.beat(["rules"], {}, 1)
    assert found.held == {"rules": Held("rules", "now", 2)}
    assert found.leases[0].left_ns > 1_000_000 * SECOND
    await store.close()


# --- sessions


async def test_sessions_end_with_their_process_and_are_open_again_with_it(member: Open) -> None:
    """One process's start leaves another's sessions open; a silent one's are closed, and open again when it is heard again."""
    one = await member("one")
    await one.beat([], {}, 1)
    session = await one.session_opened("a", "peer", "1", {}, 0.0)
    two = await member("two")
    assert [row.closed_ns for row in await two.connections()] == [0]
    assert list((await two.beat([], {}, TTL)).gone) == ["one"]
    (row,) = await two.connections()
    assert (row.closed_ns > 0, row.reason) == (True, "the collector is gone")
    await one.sessions_seen([(session, None)])
    (row,) = await two.connections()
    assert (row.closed_ns, row.reason) == (0, "")
    await member("one")
    (row,) = await two.connections()
    assert (row.closed_ns > 0, row.reason) == (True, "the collector was restarted")


# --- partitions


async def test_a_partition_that_another_process_dropped_is_made_again(member: Open) -> None:
    """Its maker still believes in it: the batch is stored all the same, and nothing is refused."""
    one, two = await member("one"), await member("two")
    old = (T0 // places.WEEK - 30) * places.WEEK + SECOND
    await one.commit([batch(1, time_ns=old)])
    while (report := await two.compact(everything=True)).more or report.batches:
        pass
    assert await two.apply_retention(Retention(raw_ns=places.WEEK), T0) == 1
    (outcome,) = await one.commit([batch(2, time_ns=old)])
    assert isinstance(outcome, Stored)
    (series,) = await two.series()
    assert (await two.samples([series.id], 0, T0)).values.tolist() == [2.0]


async def test_a_partition_with_a_batch_under_way_is_not_dropped(
    member: Open, postgres: PostgresServer, database: PostgresEngine
) -> None:
    """A batch that another process is writing into an old week, empty so far, isn't dropped with it when it commits meanwhile."""
    one, two = await member("one"), await member("two")
    old = (T0 // places.WEEK - 30) * places.WEEK + SECOND
    await one.commit([batch(1, time_ns=old)])
    while (report := await two.compact(everything=True)).more or report.batches:
        pass
    session, watching = await other_session(postgres, database), await other_session(postgres, database)
    writing = session.transaction()
    await writing.start()
    await session.execute("INSERT INTO batch VALUES (1, 1, 1, 2, 0, 0, $1, $1, 0, 0, 0, 0, 0, '', 0)", old)
    dropping = asyncio.create_task(two.apply_retention(Retention(raw_ns=places.WEEK), T0))
    while not await watching.fetchval(
        "SELECT count(*) FROM pg_locks WHERE NOT granted AND mode = 'AccessExclusiveLock'"
    ):
        await asyncio.sleep(0)
    await writing.commit()
    await dropping
    assert await session.fetchval("SELECT count(*) FROM batch") == 1
    await session.close()
    await watching.close()


async def test_two_processes_make_the_same_partition_at_once(member: Open) -> None:
    """One waits for the other, and both batches are in it."""
    one, two = await member("one"), await member("two")
    for week in range(8):
        time_ns = (T0 // places.WEEK - week) * places.WEEK + SECOND
        found = await asyncio.gather(
            one.commit([batch(1, f"a{week}", time_ns=time_ns)]),
            two.commit([batch(1, f"b{week}", time_ns=time_ns)]),
        )
        assert [type(outcome) for (outcome,) in found] == [Stored, Stored]
