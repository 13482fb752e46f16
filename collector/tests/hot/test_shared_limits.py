"""Limits that several processes count together, and each alone while Redis is away."""

from redis_processes import Together, until
from redis_server import RedisServer
from telemetryx.api.limits import Buckets


async def test_a_burst_is_one_burst_however_many_processes_are_asked(together: Together) -> None:
    """After it a token comes back every 1/rate seconds, wherever it is asked for."""
    one, two = await together.join(), await together.join()
    limits = [hot.bucket("api", 0.001, 4.0, lambda _: -1.0) for hot in (one, two)]
    waits = [await limits[number % 2].wait_s("10.0.0.1") for number in range(8)]
    assert waits[:4] == [0.0] * 4
    assert all(900 < wait <= 1_000 for wait in waits[4:])
    assert await limits[0].wait_s("10.0.0.2") == 0.0


async def test_a_refusal_costs_nothing(together: Together) -> None:
    """Who waits as told is served, however often it asked in between."""
    hot = await together.join()
    limit = hot.bucket("api", 5.0, 1.0, lambda _: -1.0)
    assert await limit.wait_s("peer") == 0.0
    for _ in range(20):
        assert await limit.wait_s("peer") <= 0.2

    async def served() -> bool:
        return await limit.wait_s("peer") == 0.0

    await until(served)


async def test_buckets_of_different_names_are_apart(together: Together) -> None:
    """Logins have their own."""
    hot = await together.join()
    assert await hot.bucket("api", 0.01, 1.0, lambda _: -1.0).wait_s("peer") == 0.0
    assert await hot.bucket("login", 0.01, 1.0, lambda _: -1.0).wait_s("peer") == 0.0


async def test_turns_are_handed_out_once_over_all_processes(together: Together) -> None:
    """Of 40 agents at two doors, as many enter at once as one second has turns; the others' times differ and keep their order."""
    one, two = await together.join(), await together.join()
    doors = [hot.turns(10.0, lambda _: -1.0) for hot in (one, two)]
    waits = [await doors[number % 2].wait_s(f"agent-{number}") for number in range(40)]
    later = [wait for wait in waits if wait > 0]
    assert 10 <= waits.count(0.0) <= 20
    assert max(later) > 1.5
    due = [await doors[(number + 1) % 2].wait_s(f"agent-{number}") for number in range(30, 40)]
    assert due == sorted(due)
    assert len(set(due)) == len(due)


async def test_an_appointment_holds_at_the_other_process_too(together: Together) -> None:
    """Whoever comes when it was told enters, through whichever door."""
    one, two = await together.join(), await together.join()
    first, second = (hot.turns(5.0, lambda _: -1.0) for hot in (one, two))
    while await first.wait_s("early birds") == 0.0:
        pass
    assert await first.wait_s("late") > 0

    async def enters() -> bool:
        return await second.wait_s("late") == 0.0

    await until(enters)


async def test_each_process_counts_alone_while_redis_is_away(together: Together, server: RedisServer) -> None:
    """Requests are neither refused nor let through unlimited because a server is down."""
    hot = await together.join()
    now = [0.0]
    alone = Buckets(rate=1, burst=2, monotonic=lambda: now[0])
    limit = hot.bucket("api", 1.0, 2.0, alone.take)
    server.kill()
    assert [await limit.wait_s("peer") for _ in range(3)] == [0.0, 0.0, 1.0]
