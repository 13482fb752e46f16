"""What only the PostgreSQL store does: servers that are down or not ours, partitions, words, and what its texts can hold."""

import asyncio
import json
import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import asyncpg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from postgres_server import PASSWORD, PostgresServer
from reference_agent import SECOND, T0, decoded, defined, events, samples
from telemetryx.clock import ManualClock
from telemetryx.errors import SchemaBroken, SchemaTooNew, StoreDamaged, StoreError, StoreUnavailable
from telemetryx.store.alerts import GroupRow, RulesCommit
from telemetryx.store.interface import EventQuery, Retention
from telemetryx.store.postgres import engine as opening
from telemetryx.store.postgres import places, words
from telemetryx.store.postgres.engine import PostgresEngine
from telemetryx.store.postgres.migrations import migrate
from telemetryx.store.postgres.statements import translated
from telemetryx.store.postgres.store import PostgresStore
from telemetryx.store.tables import planner
from telemetryx.store.tables.lease import Member
from telemetryx.store.tables.rules import StoredRules
from telemetryx.types import BatchKey, Decoded, Definition, Duplicate, Matcher, Refused, Stored
from telemetryx.wire.payload import Payload

EPOCH = bytes(16)
WEEK = places.WEEK


@pytest.fixture
def own() -> Iterator[PostgresServer]:
    """A server that a test may kill."""
    server = PostgresServer(fsync=True)
    try:
        server.start()
        yield server
    finally:
        server.remove()


def batch(seq: int, time_ns: int = T0, body: str = "words", agent: str = "a") -> Decoded:
    """One batch with a sample and an event."""
    content = Payload(samples({1: [(time_ns + seq, float(seq))]}), events=events((time_ns, 9, "s", body, {})))
    return decoded(BatchKey(agent, EPOCH, seq), content, defined("x"))


# --- starting


async def test_a_schema_made_later_before_that_of_the_tables_changes_nothing(
    database: PostgresEngine,
) -> None:
    """One with the user's name comes first in search_path; tables are looked for where their names lead."""
    store = await PostgresStore.open(database)
    await store.commit([batch(1)])
    await store.write(lambda db: db.execute("CREATE SCHEMA AUTHORIZATION CURRENT_USER"))
    for _ in range(2):
        await store.check_schema()
        assert await store.verify() == []
        await store.close()
        store = await PostgresStore.open(database)
    assert isinstance((await store.commit([batch(1)]))[0], Duplicate)
    while (report := await store.compact(everything=True)).more or report.batches:
        pass
    await store.write(lambda db: db.continue_ids(1))
    moved = await store.read(
        lambda db: db.execute(
            "SELECT count(*) FROM pg_class WHERE relnamespace = to_regnamespace(CURRENT_USER) AND NOT relispartition AND relkind = 'r'"
        ).fetchone()
    )
    assert moved[0] == 0
    await store.close()


async def test_tables_that_no_name_leads_to_are_looked_for_before_anything_is_restored(
    database: PostgresEngine,
) -> None:
    """The advice for a whole database is its search_path, not a backup over it."""
    store = await PostgresStore.open(database)
    await store.write(
        lambda db: db.script("CREATE SCHEMA elsewhere; ALTER TABLE silence SET SCHEMA elsewhere")
    )
    with pytest.raises(SchemaBroken, match=r"table silence is missing.*search_path.*if they are gone"):
        await store.check_schema()
    await store.close()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"password_file": None}, "password"),
        ({"password_file": Path("/nowhere/password")}, "/nowhere/password can't be read"),
        ({"url": "postgresql://collector@127.0.0.1:{port}/nothing"}, "create the database"),
        ({"url": "postgresql://collector@127.0.0.1:1/t"}, "can't be used now.*that it runs"),
        ({"url": "postgresql://nobody@127.0.0.1:{port}/postgres"}, "password authentication failed.*correct the user"),
    ],
)  # fmt: skip
async def test_a_database_that_cannot_be_used_is_named_with_what_to_do(
    postgres: PostgresServer,
    database: PostgresEngine,
    monkeypatch: pytest.MonkeyPatch,
    change: dict[str, str | Path | None],
    says: str,
) -> None:
    """Not reachable, wrong password or user, no such database: each has its sentence, and none has the password."""
    monkeypatch.setenv("PGPASSFILE", "/nowhere/pgpass")
    if isinstance(change.get("url"), str):
        change = {"url": str(change["url"]).format(port=postgres.port)}
    with pytest.raises(StoreError, match=says) as failed:
        await PostgresStore.open(replace(database, **change))  # type: ignore[arg-type]
    assert PASSWORD not in str(failed.value)
    assert "127.0.0.1" in str(failed.value) or "nowhere" in str(failed.value)


async def test_a_password_may_stand_in_a_passfile(
    postgres: PostgresServer, database: PostgresEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PGPASSFILE works as it does for every program of PostgreSQL's."""
    file = tmp_path / "pgpass"
    file.write_text(f"127.0.0.1:{postgres.port}:*:collector:{PASSWORD}\n")
    file.chmod(0o600)
    monkeypatch.setenv("PGPASSFILE", str(file))
    store = await PostgresStore.open(replace(database, password_file=None))
    assert await store.cursor() == 0
    await store.close()


async def test_a_newer_schema_is_refused(postgres: PostgresServer, database: PostgresEngine) -> None:
    """A database that a newer collector migrated isn't opened, and the message says what to do."""
    await (await PostgresStore.open(database)).close()
    name = database.url.rpartition("/")[2]
    postgres.sql("INSERT INTO schema_step (name) VALUES ('9999_future')", name)
    with pytest.raises(SchemaTooNew, match=r"9999_future.*upgrade"):
        await PostgresStore.open(database)


def test_collectors_that_start_together_migrate_once(database: PostgresEngine) -> None:
    """One applies the steps, the others wait for it and find nothing to do."""
    done: list[list[str]] = []

    def start() -> None:
        connection = database.open({}, 60.0)
        try:
            done.append(migrate(connection))
        finally:
            connection.finish()

    threads = [threading.Thread(target=start) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    nothing, none, all_steps = sorted(done)
    assert (nothing, none) == ([], [])
    assert all_steps == sorted(all_steps)
    assert all_steps[0] == "0001_base"


async def test_whoever_has_the_database_alone_keeps_collectors_out(
    database: PostgresEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy, a restore or a collector of an older version holds the lock alone; collectors share it with each other."""
    monkeypatch.setattr(opening, "TAKEOVER_S", 0.3)
    alone = await asyncio.to_thread(database.open_alone)
    with pytest.raises(StoreUnavailable, match="a copy or a restore writes"):
        await PostgresStore.open(database)
    await asyncio.to_thread(alone.finish)
    store = await PostgresStore.open(database, member=Member("a"))
    other = await PostgresStore.open(database, member=Member("b"))
    with pytest.raises(StoreUnavailable, match="a collector writes"):
        await asyncio.to_thread(database.open_alone)
    await store.close()
    await other.close()


# --- a server that goes away


@pytest.mark.parametrize("way", ["stop", "kill"])
async def test_a_server_that_is_down_is_unavailable_and_heals(own: PostgresServer, way: str) -> None:
    """Nothing is stored or read while it is down, the reason says so, and the same store goes on when it is back."""
    store = await PostgresStore.open(PostgresEngine(own.url(own.database()), own.password_file))
    await store.commit([batch(1)])
    assert len(await store.series()) == 1
    getattr(own, way)()
    with pytest.raises(StoreUnavailable, match="can't be used now") as failed:
        await store.commit([batch(2)])
    assert failed.value.reason == "io"
    with pytest.raises(StoreUnavailable):
        await store.series()
    own.start()
    assert [type(outcome) for outcome in await store.commit([batch(1), batch(2)])] == [Duplicate, Stored]
    assert len(await store.series()) == 1
    assert await store.verify() == []
    await store.close()


async def test_a_session_that_was_ended_is_opened_anew_unnoticed(
    postgres: PostgresServer, database: PostgresEngine
) -> None:
    """A restart between two commits costs nothing: what broke before work began is done on a new connection."""
    store = await PostgresStore.open(database)
    await store.commit([batch(1)])
    await store.series()
    name = database.url.rpartition("/")[2]
    postgres.sql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")  # noqa: S608 - ours
    assert isinstance((await store.commit([batch(2)]))[0], Stored)
    assert len(await store.series()) == 1
    await store.close()


async def test_a_server_killed_in_the_middle_of_commits_keeps_what_was_acknowledged(
    own: PostgresServer,
) -> None:
    """Five crashes under load: every acknowledged batch is there, once, and what wasn't is stored when it comes again."""
    store = await PostgresStore.open(PostgresEngine(own.url(own.database()), own.password_file))
    acked: set[int] = set()
    seq, failures = 1, 0
    for crash in range(5):
        timer: threading.Timer | None = None
        while True:
            try:
                outcomes = await store.commit([batch(n) for n in range(seq, seq + 3)])
                await store.compact(everything=True)
            except StoreUnavailable:
                failures += 1
                break
            assert all(isinstance(outcome, Stored | Duplicate) for outcome in outcomes)
            acked |= set(range(seq, seq + 3))
            seq += 3
            if timer is None:
                timer = threading.Timer(0.02 + 0.03 * crash, own.kill)
                timer.start()
        assert timer is not None
        timer.join()
        await asyncio.to_thread(own.start)
    await store.commit([batch(n) for n in range(seq, seq + 3)])
    acked |= set(range(seq, seq + 3))
    assert failures == 5
    held = (await store.holdings("a", [EPOCH]))[EPOCH]
    assert (held.upto, held.ranges) == (max(acked), ())
    (series,) = await store.series()
    values = (await store.samples([series.id], 0, 1 << 62)).values.tolist()
    assert values == [float(n) for n in range(1, max(acked) + 1)]
    assert await store.verify() == []
    await store.close()


async def test_what_another_session_locks_is_unavailable_and_heals(
    postgres: PostgresServer, database: PostgresEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A table that somebody holds makes the commit fail with its reason, whole; afterwards the same group is stored."""
    monkeypatch.setitem(opening._WRITER, "lock_timeout", "200ms")
    store = await PostgresStore.open(database)
    await store.commit([batch(1)])
    other = await asyncpg.connect(postgres.url(database.url.rpartition("/")[2]), password=PASSWORD)
    held = other.transaction()
    await held.start()
    await other.execute("LOCK TABLE latest")
    with pytest.raises(StoreUnavailable) as failed:
        await store.commit([batch(2), batch(3)])
    assert failed.value.reason == "locked"
    assert (await store.holdings("a", [EPOCH]))[EPOCH].upto == 1
    await held.rollback()
    await other.close()
    assert all(isinstance(outcome, Stored) for outcome in await store.commit([batch(2), batch(3)]))
    await store.close()


# --- partitions


async def test_data_of_any_week_has_its_partition_and_old_ones_are_dropped(
    postgres: PostgresServer, database: PostgresEngine
) -> None:
    """A partition is made when data of its week first comes, however late, and goes as a whole when it is past."""
    clock = ManualClock()
    store = await PostgresStore.open(database, clock=clock)
    name = database.url.rpartition("/")[2]
    weeks = [T0 // WEEK - 40, T0 // WEEK - 1, T0 // WEEK]
    far = [-(1 << 62), 1 << 62]
    for seq, time_ns in enumerate([*(week * WEEK + SECOND for week in weeks), *far], start=1):
        assert isinstance((await store.commit([batch(1, time_ns, agent=f"a{seq}")]))[0], Stored)
    while (report := await store.compact(everything=True)).more or report.batches:
        pass

    def partitions(table: str) -> list[str]:
        listed = postgres.sql(
            f"SELECT inhrelid::regclass FROM pg_inherits WHERE inhparent = '{table}'::regclass ORDER BY 1",  # noqa: S608 - ours
            name,
        )
        return sorted(listed.split("\n"))

    expected = sorted([*(f"chunk_w{week}" for week in weeks), "chunk_after", "chunk_before"])
    assert partitions("chunk") == expected
    every = [series.id for series in await store.series()]
    assert len(await store.samples(every, -(1 << 62), (1 << 62) + 100)) == 5
    deleted = await store.apply_retention(Retention(raw_ns=3 * WEEK), clock.now_ns())
    assert deleted == 2, "the sample of 40 weeks ago, with its partition, and that before 2000, as a row"
    assert partitions("chunk") == sorted(set(expected) - {f"chunk_w{weeks[0]}"})
    assert f"batch_w{weeks[0]}" not in partitions("batch")
    assert len(await store.samples(every, -(1 << 62), (1 << 62) + 100)) == 3
    assert isinstance((await store.commit([batch(9, weeks[0] * WEEK + SECOND)]))[0], Stored)
    await store.close()


async def test_a_partition_made_by_a_transaction_that_was_undone_is_made_again(
    database: PostgresEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the writer knows of partitions is what was committed."""
    store = await PostgresStore.open(database)
    with monkeypatch.context() as patch:
        patch.setattr("telemetryx.store.tables.commit._note", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            await store.commit([batch(1)])
    assert isinstance((await store.commit([batch(1)]))[0], Stored)
    await store.close()


async def test_answers_do_not_depend_on_where_rows_lie_in_their_tables(
    postgres: PostgresServer, database: PostgresEngine
) -> None:
    """PostgreSQL gives rows in any order unless told: rollups that were rewritten add up, also when no index orders them.

    A minute that late data had rewritten lay behind its neighbours, and took their place in coarser steps.
    """
    name = database.url.rpartition("/")[2]
    for setting in ("enable_indexscan", "enable_indexonlyscan", "enable_bitmapscan"):
        postgres.sql(f"ALTER DATABASE {name} SET {setting} = off")
    store = await PostgresStore.open(database)
    start = T0 // (3_600 * SECOND) * 3_600 * SECOND
    for seq, first in ((1, 0), (2, 1_800), (3, 130)):
        rows = [(start + (first + 10 * n) * SECOND, 1.0) for n in range(150 if seq < 3 else 1)]
        content = Payload(samples({1: rows}))
        await store.commit([decoded(BatchKey("a", EPOCH, seq), content, defined("x"))])
        while (report := await store.compact(everything=True)).more or report.batches:
            pass
    for step, counts in ((600, [61, 60, 30, 60, 60, 30]), (1_800, [151, 150]), (3_600, [301])):
        (row,) = (await store.range([1], start, start + 3_600 * SECOND, step * SECOND, "count")).series
        assert row.counts.tolist() == counts
    await store.close()


async def test_large_runs_are_planned_in_a_process(
    database: PostgresEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The child opens its own connection and plans what the thread would have."""
    monkeypatch.setattr(planner, "HEAVY", 2)
    store = await PostgresStore.open(database)
    await store.commit([batch(seq) for seq in range(1, 6)])
    await store.compact(everything=True)
    assert store._planner._process is not None
    await store.commit([batch(seq) for seq in range(6, 11)])
    assert (await store.compact(everything=True)).samples == 5
    assert (await store.usage()).chunks == 1
    assert await store.verify() == []
    await store.close()


# --- tables and numbers that aren't as they should be


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("ALTER TABLE latest DROP CONSTRAINT latest_pkey", "lacks a key"),
        ("ALTER TABLE agent ALTER COLUMN name TYPE BYTEA USING convert_to(name, 'UTF8')", "another type"),
    ],
)
async def test_tables_that_are_not_as_the_schema_has_them_are_damage(
    postgres: PostgresServer, database: PostgresEngine, change: str, says: str
) -> None:
    """Whoever asks is told what is wrong: it isn't a fault of ours with a reference into the log."""
    await (await PostgresStore.open(database)).close()
    postgres.sql(change, database.url.rpartition("/")[2])
    store = await PostgresStore.open(database)
    with pytest.raises(StoreDamaged, match=says):
        await store.commit([batch(1)])
    await store.close()


async def test_numbers_that_are_taken_hold_batches_and_refuse_none(
    postgres: PostgresServer, database: PostgresEngine
) -> None:
    """After a failover to a logical replica sequences begin anew; a refusal is for good, and the agent would let go of what it has."""
    name = database.url.rpartition("/")[2]
    store = await PostgresStore.open(database)
    assert isinstance((await store.commit([batch(1)]))[0], Stored)
    postgres.sql("SELECT setval('event_id', 1, false)", name)
    for _ in range(2):
        with pytest.raises(StoreDamaged, match=r"event_pkey.*sequences"):
            await store.commit([batch(2), batch(3)])
        # The number is used up whether or not the transaction holds.
        postgres.sql("SELECT setval('event_id', 1, false)", name)
    postgres.sql("SELECT setval('event_id', (SELECT max(id) FROM event))", name)
    assert [type(one) for one in await store.commit([batch(2), batch(3)])] == [Stored, Stored]
    assert len(await store.events(EventQuery())) == 3
    assert await store.verify() == []
    await store.close()


async def test_labels_that_differ_in_nul_alone_refuse_their_batch_and_hold_up_no_other(
    database: PostgresEngine,
) -> None:
    """That is of the batch's own making, not of the store's numbers."""
    store = await PostgresStore.open(database)
    odd = batch(1, agent="b")
    odd.definitions = [Definition(1, "x", {"l\0": "v", "l\u2400": "v"})]
    assert [type(one) for one in await store.commit([odd, batch(1)])] == [Refused, Stored]
    await store.close()


# --- texts


async def test_a_text_with_nul_is_stored_with_its_picture(database: PostgresEngine) -> None:
    """PostgreSQL's texts hold no NUL: a batch isn't lost for one in a log line or a label."""
    store = await PostgresStore.open(database)
    one = batch(1, body="before\0after")
    one.definitions = [Definition(1, "x\0y", {"l\0": "v\0"})]
    assert isinstance((await store.commit([one]))[0], Stored)
    assert [event.body for event in await store.events(EventQuery())] == ["before\u2400after"]
    assert [(series.name, dict(series.labels)) for series in await store.series()] == [
        ("x\u2400y", {"l\0": "v\0"})
    ]
    await store.close()


async def test_plain_rows_may_lie_in_a_table_of_the_administrators_own_making(
    postgres: PostgresServer, database: PostgresEngine
) -> None:
    """A table with the same columns in many parts, as a hypertable is, gets the rows, and loses those that are past and no others."""
    await (await PostgresStore.open(database)).close()
    name = database.url.rpartition("/")[2]
    postgres.sql(
        "ALTER TABLE sample RENAME TO sample_before; CREATE TABLE sample (LIKE sample_before) PARTITION BY RANGE (time);"
        "CREATE TABLE sample_old PARTITION OF sample FOR VALUES FROM (MINVALUE) TO ('2023-11-14 22:15:00');"
        "CREATE TABLE sample_new PARTITION OF sample FOR VALUES FROM ('2023-11-14 22:15:00') TO (MAXVALUE);",
        name,
    )
    store = await PostgresStore.open(database)
    store.keep_plain_rows(True)
    hour = 3600 * SECOND
    rows = [(T0 + i * 10 * SECOND + 1_234, float(i)) for i in range(100)]
    await store.commit([decoded(BatchKey("a", EPOCH, 1), Payload(samples({1: rows})), defined("x"))])
    while (report := await store.compact(everything=True)).more or report.batches:
        pass
    assert postgres.sql("SELECT count(*) FROM sample_old", name) == "10"
    assert (
        postgres.sql("SELECT min(time), max(value) FROM sample", name) == "2023-11-14 22:13:20.000001+00|99"
    )
    first = T0 // hour * hour
    await store.apply_retention(Retention(raw_ns=hour, windows_ns=hour), first + hour + 1200 * SECOND)
    left = int(postgres.sql("SELECT count(*) FROM sample", name))
    assert left == sum(time >= first + 1200 * SECOND for time, _ in rows)
    assert 0 < left < 90
    assert await store.verify() == []
    await store.close()


async def test_labels_longer_than_an_index_takes_are_stored(database: PostgresEngine) -> None:
    """Forty labels of a kilobyte are within the wire's limits: the series is found again, and rules may group by them."""
    store = await PostgresStore.open(database)
    labels = {f"l{n}": os.urandom(510).hex() for n in range(40)}
    for seq in (1, 2):
        one = batch(seq)
        one.definitions = [Definition(1, "x" * 512, labels)]
        assert isinstance((await store.commit([one]))[0], Stored)
    (found,) = await store.series([Matcher("l7", "=", labels["l7"])])
    assert found.labels == labels
    kept, group = StoredRules(store), json.dumps(labels)
    for state in (b"one", b"two"):
        await kept.rules_commit(RulesCommit("rules", groups=[GroupRow("hot", group, state)]))
    assert await kept.rules_groups("hot") == [GroupRow("hot", group, b"two")]
    await kept.rules_commit(RulesCommit("rules", groups=[GroupRow("hot", group, None)]))
    assert await kept.rules_groups("hot") == []
    await store.close()


async def test_words_are_found_whatever_they_look_like(database: PostgresEngine) -> None:
    """Accents and case don't count, an underscore separates, quotes and operators are no syntax."""
    store = await PostgresStore.open(database)
    await store.commit([batch(1, body="Überdruck in valve_7; it's o'clock & <-> ! \\ 50%")])
    for text, found in (
        ("uberdruck", 1), ("ÜBERDR", 1), ("valve 7", 1), ("it's", 1), ("o'clo", 1), ("\\", 1), ("& | !", 1), ("50%", 1),
        ("valve 8", 0), ("erdruck", 0),
    ):  # fmt: skip
        assert len(await store.events(EventQuery(q=text))) == found, text
    await store.close()


@given(st.text(max_size=60))
def test_any_text_is_a_query_that_postgresql_takes(text: str) -> None:
    """Only letters and digits stand between the quotes."""
    for word in words.query(text).removesuffix(":*").split(" & "):
        assert word == "" or (word[0] == word[-1] == "'" and word[1:-1].isalnum())


@pytest.mark.parametrize(
    ("given_", "text", "names"),
    [
        ("SELECT a FROM b WHERE c = ? AND d = ?", "SELECT a FROM b WHERE c = $1 AND d = $2", ()),
        ("UPDATE a SET b = ?2 WHERE c = ?1", "UPDATE a SET b = $2 WHERE c = $1", ()),
        ("SELECT :now, :x, :now", "SELECT $1, $2, $1", ("now", "x")),
        ("SELECT '?', ':x', a::text FROM b WHERE c = ?", "SELECT '?', ':x', a::text FROM b WHERE c = $1", ()),
        ("SELECT 1 FROM batch INDEXED BY batch_work WHERE instr(a, ?) > 0", "SELECT 1 FROM batch WHERE strpos(a, $1) > 0", ()),
    ],
)  # fmt: skip
def test_statements_are_translated(given_: str, text: str, names: tuple[str, ...]) -> None:
    """Parameters get numbers, texts and casts stay, hints go."""
    ready = translated(given_)
    assert (ready.text, ready.names) == (text, names)
