"""Wake-ups between processes over Redis pub/sub."""

import asyncio

from redis_processes import Together, until
from redis_server import RedisServer
from telemetryx.hot.interface import Wake


async def woken(one: Wake, other: Wake) -> None:
    """Wait until a commit of one wakes the other: a first one may come before it listens."""

    async def reaches() -> bool:
        one.committed(7)
        return await other.changed(0.2)

    await until(reaches)


async def test_a_commit_wakes_the_other_processes_and_its_own(together: Together) -> None:
    """However many commits come at once, everybody looks again."""
    _, one = await together.join_awake()
    _, two = await together.join_awake()
    await woken(one, two)
    await woken(two, one)
    waiting = asyncio.create_task(two.changed(30))
    for cursor in range(100):
        one.committed(cursor)
    assert await waiting
    assert await one.changed(30)


async def test_nothing_wakes_when_nothing_is_committed(together: Together) -> None:
    """Neither its own echo nor the subscription itself goes on waking."""
    _, one = await together.join_awake()
    _, two = await together.join_awake()
    await woken(one, two)
    await woken(two, one)
    quiet = 0
    async with asyncio.timeout(60):
        # The last echoes may come late.
        while quiet < 2:
            quiet = 0 if await two.changed(0.3) or await one.changed(0.3) else quiet + 1


async def test_without_redis_a_commit_still_wakes_its_own_process(
    together: Together, server: RedisServer
) -> None:
    """The others find it at their next poll; when the server is back they are woken again."""
    hot, one = await together.join_awake()
    _, two = await together.join_awake()
    await woken(one, two)
    server.kill()
    await until(lambda: not hot.sharing().connected)
    one.committed(8)
    assert await one.changed(30)
    server.start()
    await woken(one, two)


async def test_prefixes_dont_wake_each_other(together: Together) -> None:
    """Deployments on one server stay apart."""
    _, one = await together.join_awake(prefix="one")
    _, two = await together.join_awake(prefix="one")
    _, other = await together.join_awake(prefix="other")
    await woken(one, two)
    while await other.changed(0.5):
        pass
    one.committed(9)
    assert await two.changed(30)
    assert not await other.changed(0.3)


async def test_a_server_that_refuses_writes_still_wakes(together: Together, server: RedisServer) -> None:
    """PUBLISH takes no memory that lasts: live pages and rules needn't wait for the next poll, not even of who comes only now."""
    hot, one = await together.join_awake()
    _, two = await together.join_awake()
    await woken(one, two)
    server.command("CONFIG", "SET", "maxmemory", "1")
    await until(lambda: not hot.sharing().connected)
    await woken(one, two)
    _, third = await together.join_awake(wait=False)
    await woken(one, third)
    await woken(third, two)
