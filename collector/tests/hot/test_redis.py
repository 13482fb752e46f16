"""The hot view on a real Redis: what processes see of each other, and that every way of losing Redis costs nothing else."""

import asyncio
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import structlog

from certificates import make_ca
from redis_processes import PATIENT_S, TIMEOUT_S, Together, sharing, until
from redis_server import RedisServer
from reference_agent import T0, samples
from slow_proxy import slow_proxy
from telemetryx.hot import redis as module
from telemetryx.hot.address import Address
from telemetryx.hot.interface import Hot
from telemetryx.hot.redis import RedisHot
from telemetryx.types import BatchKey, Committed


def commit(rows: dict[int, list[tuple[int, float]]]) -> Committed:
    """A commit of agent a."""
    return Committed(1, BatchKey("a", bytes(16), 1), 0, 0, 0, samples(rows))


async def sees(hot: Hot, series: int, value: float) -> None:
    """Wait until a process answers this value."""

    async def does() -> bool:
        found = (await hot.newest([series])).get(series)
        return found is not None and found.value == value

    await until(does)


async def together_now(*hots: RedisHot) -> None:
    """Wait until each knows of all."""
    await until(lambda: all(hot.fleetwide().processes == len(hots) for hot in hots))


async def test_the_newest_by_event_time_counts_whichever_process_took_it_in(together: Together) -> None:
    """Late data that another process takes in doesn't hide what is newer, in either direction."""
    one, two = await together.join(), await together.join()
    await together_now(one, two)
    one.feed(commit({1: [(T0 + 10, 10.0)], 700: [(T0, 1.0)], 70_000: [(T0, 5.0)]}))
    two.feed(commit({1: [(T0, 3.0)], 700: [(T0 + 10, 2.0)]}))
    for hot in (one, two):
        await sees(hot, 1, 10.0)
        await sees(hot, 700, 2.0)
        await sees(hot, 70_000, 5.0)
    assert set(await two.newest([1, 2, 700, -5, 10**12])) == {1, 700}
    assert two.latest([70_000]) == {}


async def test_rates_of_all_processes_are_summed(together: Together) -> None:
    """Each tells its own."""
    one, two = await together.join(), await together.join()
    await together_now(one, two)
    for _ in range(50):
        one.feed(commit({1: [(T0 + i, 1.0) for i in range(100)]}))
    await until(lambda: two.fleetwide().readings_per_second > 0)
    assert two.rates() == {}


async def test_a_flushed_server_is_filled_again_by_everybody(together: Together, server: RedisServer) -> None:
    """FLUSHALL at any moment: what lay there comes back without a new reading."""
    one, two = await together.join(), await together.join()
    one.feed(commit({series: [(T0, float(series))] for series in range(0, 20_000, 50)}))
    await sees(two, 19_950, 19_950.0)
    assert server.command("FLUSHALL").startswith("+OK")
    assert (await two.newest([50])) == {}
    await sees(two, 50, 50.0)
    await sees(two, 19_950, 19_950.0)
    await together_now(one, two)


async def test_a_killed_server_is_noticed_once_and_filled_again_when_it_is_back(
    together: Together, server: RedisServer
) -> None:
    """One line when it goes, one when it comes; between, everything is answered from memory."""
    with structlog.testing.capture_logs() as lines:
        one, two = await together.join(), await together.join()
        one.feed(commit({1: [(T0, 1.0)]}))
        await sees(two, 1, 1.0)
        server.kill()
        await until(lambda: not (one.sharing().connected or two.sharing().connected))
        assert "Redis is away" in one.sharing().note
        one.feed(commit({1: [(T0 + 1, 2.0)]}))
        assert (await one.newest([1]))[1].value == 2.0
        assert await two.newest([1]) == {}
        server.start()
        await sees(two, 1, 2.0)
    said = [line["event"] for line in lines if line["event"].startswith("hot.redis")]
    assert sorted(said) == ["hot.redis_away"] * 2 + ["hot.redis_connected"] * 4
    assert one.sharing().failures >= 1


async def test_a_hanging_server_costs_one_time_out_and_then_nothing(
    impatient: Together, server: RedisServer
) -> None:
    """Feeding never waits; a reader waits once at most, and those after it aren't even asked to."""
    one, two = await impatient.join(), await impatient.join()
    await together_now(one, two)
    limit = one.bucket("api", 1.0, 1.0, lambda _: 7.0)
    server.freeze()
    one.feed(commit({1: [(T0, 1.0)]}))
    assert (await one.newest([1]))[1].value == 1.0
    await until(lambda: not one.sharing().connected)
    failures = one.sharing().failures
    assert [await limit.wait_s("peer") for _ in range(1_000)] == [7.0] * 1_000
    assert one.sharing().failures <= failures + 1
    server.thaw()
    await sees(two, 1, 1.0)


async def test_a_slow_server_is_given_up_until_it_is_fast_again(server: RedisServer) -> None:
    """Answers that take longer than the time-out are as good as none."""
    async with slow_proxy(server.port) as proxy:
        address = Address(f"redis://127.0.0.1:{proxy.port}/0", timeout_s=TIMEOUT_S)
        async with sharing(address) as together:
            one = await together.join()
            two = await together.join(address=replace(address, url=server.url))
            # Far beyond what is looked at here: an answer that nobody waits for any more may arrive in the end.
            proxy.delay_s = 3_600.0
            one.feed(commit({1: [(T0, 1.0)]}))
            await until(lambda: not one.sharing().connected)
            assert await two.newest([1]) == {}
            proxy.delay_s = 0.0
            await sees(two, 1, 1.0)


async def test_a_server_that_became_a_replica_is_used_again_when_it_is_a_primary(
    together: Together, server: RedisServer
) -> None:
    """READONLY is a reason like any other."""
    one, two = await together.join(), await together.join()
    other = RedisServer()
    try:
        other.start()
        assert server.command("REPLICAOF", "127.0.0.1", str(other.port)).startswith("+OK")
        one.feed(commit({1: [(T0, 1.0)]}))
        await until(lambda: not one.sharing().connected)
        assert one.sharing().note
        server.command("REPLICAOF", "NO", "ONE")
    finally:
        other.remove()
    await sees(two, 1, 1.0)


async def test_a_server_without_memory_is_used_again_when_it_has_some(
    together: Together, server: RedisServer
) -> None:
    """What is wrong and what to do is said in one log line and in the note, and counted once, however long it lasts."""
    with structlog.testing.capture_logs() as lines:
        one, two = await together.join(), await together.join()
        await together_now(one, two)
        server.command("CONFIG", "SET", "maxmemory", "1")
        one.feed(commit({1: [(T0, 1.0)]}))
        await until(lambda: not (one.sharing().connected or two.sharing().connected))
        for word in ("OOM command not allowed", "raise its maxmemory", "allkeys-lru", "wake-ups go on"):
            assert word in one.sharing().note
        assert "HSET" not in one.sharing().note
        # Limits are asked of it each time, and counted here.
        limit = one.bucket("api", 1.0, 1.0, lambda _: 7.0)
        assert [await limit.wait_s("peer") for _ in range(100)] == [7.0] * 100
        await asyncio.sleep(2 * module.TICK_S * module.BEAT_TICKS)
        assert one.sharing().failures == 1
        server.command("CONFIG", "SET", "maxmemory", "0")
        await sees(two, 1, 1.0)
        await until(lambda: one.sharing().connected and two.sharing().connected)
        assert await limit.wait_s("peer") == 0.0
    said = sorted(line["event"] for line in lines if line["event"].startswith("hot.redis"))
    assert (
        said
        == ["hot.redis_connected"] * 2 + ["hot.redis_takes_no_writes"] * 2 + ["hot.redis_takes_writes"] * 2
    )


async def test_a_server_without_room_for_the_newest_values_shares_the_rest(
    together: Together, server: RedisServer
) -> None:
    """The values are what takes some: they are given up first, so that processes, rates and limits are shared still."""
    one, two = await together.join(), await together.join()
    await together_now(one, two)
    used = int(server.command("INFO", "memory").partition("used_memory:")[2].partition("\r")[0])
    server.command("CONFIG", "SET", "maxmemory", str(used + (2 << 20)))
    one.feed(commit({series: [(T0, 1.0)] for series in range(0, 500_000, 256)}))
    await until(lambda: not one.sharing().connected)
    assert await one.bucket("api", 1.0, 1.0, lambda _: 7.0).wait_s("peer") == 0.0
    await together_now(one, two)
    server.command("CONFIG", "SET", "maxmemory", "0")
    await sees(two, 256, 1.0)
    await until(lambda: one.sharing().connected)


async def test_a_server_that_may_not_write_its_snapshots_is_used_again_when_it_may(
    together: Together, server: RedisServer
) -> None:
    """MISCONF refuses writes too, and its remedy is another."""
    one, two = await together.join(), await together.join()
    server.command("CONFIG", "SET", "dbfilename", "dump.rdb")
    (server.folder / "dump.rdb").mkdir()
    server.command("CONFIG", "SET", "save", "3600 1")
    server.command("BGSAVE")
    one.feed(commit({1: [(T0, 1.0)]}))
    await until(lambda: not one.sharing().connected)
    assert "MISCONF" in one.sharing().note
    assert "save none" in one.sharing().note
    server.command("CONFIG", "SET", "save", "")
    await sees(two, 1, 1.0)


async def test_a_server_that_is_away_is_one_failure_however_often_it_is_tried(
    together: Together, server: RedisServer
) -> None:
    """Who reads the figure wants to know how often it was lost, not how long."""
    server.kill()
    hot = await together.join(wait=False)
    await until(lambda: hot.sharing().failures > 0)
    reason = hot._link.reason
    hot._link.reason = ""
    await until(lambda: hot._link.reason == reason)
    assert hot.sharing().failures == 1
    server.start()
    await until(lambda: hot.sharing().connected)
    server.kill()
    await until(lambda: not hot.sharing().connected)
    assert hot.sharing().failures == 2


async def test_foreign_values_under_our_names_are_replaced(together: Together, server: RedisServer) -> None:
    """Another type, or bytes that are no block, break nothing and don't stay."""
    one, two = await together.join(), await together.join()
    one.feed(commit({1: [(T0, 1.0)]}))
    await sees(two, 1, 1.0)
    server.command("SET", "test:processes", "nonsense")
    server.command("SET", f"test:latest:{one._name}", "nonsense")
    server.command("SET", f"test:rate:{one._name}", "nonsense")
    server.command("LPUSH", "test:bucket:api:peer", "nonsense")
    server.command("LPUSH", "test:turn", "nonsense")
    one.feed(commit({1: [(T0 + 1, 2.0)]}))
    await sees(two, 1, 2.0)
    server.command("HSET", f"test:latest:{one._name}", "0", "short")
    assert await two.newest([1]) == {}
    # The others see what it sent anew before it counts itself as connected again.
    await until(lambda: one.sharing().connected)
    assert await one.bucket("api", 1.0, 2.0, lambda _: 7.0).wait_s("peer") == 0.0
    assert await one.turns(1.0, lambda _: 7.0).wait_s("edge") == 0.0
    await together_now(one, two)


async def test_a_wrong_password_leaves_the_process_alone_until_the_file_is_right(
    server: RedisServer, password: Path
) -> None:
    """The file is read at each connection."""
    server.command("CONFIG", "SET", "requirepass", "correct horse")
    server.password = "correct horse"
    await asyncio.to_thread(password.write_text, "wrong\n")
    async with sharing(Address(server.url, password_file=password, timeout_s=PATIENT_S)) as together:
        hot = await together.join(wait=False)
        await until(lambda: hot.sharing().failures > 0)
        assert "password" in hot.sharing().note
        await asyncio.to_thread(password.write_text, "correct horse\n")
        await until(lambda: hot.sharing().connected)


async def test_a_password_says_nothing_in_the_log(
    server: RedisServer, password: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What the client library has to say to programmers is no warning for who runs it."""
    server.command("CONFIG", "SET", "requirepass", "correct horse")
    server.password = "correct horse"
    async with sharing(Address(server.url, password_file=password, timeout_s=PATIENT_S)) as together:
        await together.join()
        assert [one.getMessage() for one in caplog.records if one.name.startswith("redis")] == []


async def test_the_manuals_user_may_do_all_that_is_asked_of_it(server: RedisServer, password: Path) -> None:
    """Newest values, both limits and wake-ups work for a user with the rights that docs/how-to/redis.md gives."""
    manual = (Path(__file__).parents[3] / "docs/how-to/redis.md").read_text(encoding="utf-8")
    line = next(one for one in manual.splitlines() if one.startswith("ACL SETUSER"))
    ours = line.replace("telemetryx:*", "test:*")
    server.command(*(">correct horse" if word == ">PASSWORD" else word for word in ours.split()))
    address = Address(server.url, user="telemetryx", password_file=password, timeout_s=PATIENT_S)
    async with sharing(address) as together:
        one, two = await together.join(), await together.join()
        one.feed(commit({1: [(T0, 1.0)]}))
        await sees(two, 1, 1.0)
        assert await one.bucket("api", 1.0, 2.0, lambda _: 7.0).wait_s("peer") == 0.0
        assert await one.turns(1.0, lambda _: 7.0).wait_s("edge") == 0.0
        await together_now(one, two)
    assert server.command("ACL", "LOG") == "*0\r\n"


async def test_a_process_that_was_killed_ends_with_its_values(
    together: Together, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of it stays on the server."""
    monkeypatch.setattr(module, "GONE_S", 2.0)
    one = await together.join()
    two = await together.join()
    two.feed(commit({1: [(T0, 1.0)]}))
    await sees(one, 1, 1.0)
    await together.vanish()
    await until(lambda: one.fleetwide().processes == 1)

    async def gone() -> bool:
        return await one.newest([1]) == {}

    await until(gone)


async def test_a_process_that_stops_takes_everything_away(server: RedisServer) -> None:
    """Limits alone stay, for as long as they mean something."""
    async with sharing(Address(server.url, timeout_s=PATIENT_S)) as together:
        hot = await together.join()
        hot.feed(commit({1: [(T0, 1.0)]}))
        await until(lambda: "latest" in server.command("KEYS", "*"))
    assert server.command("KEYS", "*").startswith("*0")


async def test_deployments_with_prefixes_of_their_own_share_a_server(together: Together) -> None:
    """They see nothing of each other, and limits are apart."""
    one, other = await together.join(prefix="one"), await together.join(prefix="other")
    one.feed(commit({1: [(T0, 1.0)]}))
    third = await together.join(prefix="one")
    await sees(third, 1, 1.0)
    assert await other.newest([1]) == {}
    assert other.fleetwide().processes == 1


async def test_every_key_has_a_time_to_live(together: Together, server: RedisServer) -> None:
    """A deployment that is given up leaves nothing behind."""
    hot = await together.join()
    hot.feed(commit({1: [(T0, 1.0)]}))
    # So slow that what they leave is there for longer than this test.
    await hot.bucket("api", 0.001, 10.0, lambda _: 7.0).wait_s("peer")
    await hot.turns(0.001, lambda _: 7.0).wait_s("edge")
    await hot.turns(0.001, lambda _: 7.0).wait_s("edge 2")

    def keys() -> list[str]:
        return [word for word in server.command("KEYS", "*").split("\r\n") if word.startswith("test:")]

    await until(lambda: len(keys()) >= 6)
    for key in keys():
        assert int(server.command("PTTL", key).strip(":\r\n")) > 0, key


async def test_a_million_series_are_bounded_by_memory_that_is_there_anyway(together: Together) -> None:
    """What waits for Redis is one bit a block: however often values change while it is away, nothing grows."""
    one, two = await together.join(), await together.join()
    block = samples({})
    block.series = np.arange(1_000_000, dtype=np.int64)
    block.offsets = np.arange(1_000_001, dtype=np.int64)
    block.times = np.full(1_000_000, T0, np.int64)
    for value in (1.0, 2.0, 3.0):
        block.values = np.full(1_000_000, value)
        one.feed(Committed(1, BatchKey("a", bytes(16), 1), 0, 0, 0, block))
    await sees(two, 999_999, 3.0)
    await sees(two, 0, 3.0)
    assert len(one._own.values._changed) <= 2 * 1_000_000 // 256 + 2


async def test_it_connects_over_tls_to_a_server_that_its_ca_signed(tmp_path: Path) -> None:
    """With the CA file it connects; without it, the reason says that the certificate isn't trusted."""
    make_ca(tmp_path)
    server = RedisServer(
        "--tls-port", "0", "--tls-cert-file", f"{tmp_path}/server.pem", "--tls-key-file", f"{tmp_path}/server.key",
        "--tls-ca-cert-file", f"{tmp_path}/ca.pem", "--tls-auth-clients", "no",
    )  # fmt: skip
    server._options = tuple(str(server.port) if word == "0" else word for word in server._options)
    try:
        server.start()
        url = f"rediss://127.0.0.1:{server.port}/0"
        async with sharing(Address(url, ca_file=tmp_path / "ca.pem", timeout_s=PATIENT_S)) as together:
            await together.join()
            stranger = await together.join(address=Address(url, timeout_s=PATIENT_S), wait=False)
            await until(lambda: stranger.sharing().failures > 0)
            assert "certificate" in stranger.sharing().note.lower()
    finally:
        server.remove()


async def test_it_connects_over_a_local_socket(server: RedisServer) -> None:
    """unix:// names a path."""
    async with sharing(Address(f"unix://{server.socket}?db=1", timeout_s=PATIENT_S)) as together:
        await together.join()
        assert "test:processes" in server.command(
            "EVAL", "redis.call('SELECT', 1) return redis.call('KEYS', '*')", "0"
        )
