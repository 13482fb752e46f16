"""`telemetryx store backup|copy|restore` onto a disk without room: it is the new file that is named, and nothing of it is left."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from moved_stores import configuration, sqlite_at
from telemetryx.cli import moving
from telemetryx.cli.errors import CliError
from telemetryx.store.sqlite.store import SqliteStore
from test_store_on_a_full_disk import small_disk

pytestmark = pytest.mark.slow


async def large(path: Path) -> None:
    """A store of some megabytes."""
    store = await SqliteStore.open(path)
    await store.write(lambda db: db.execute("INSERT INTO meta VALUES ('room', ?)", ("x" * (4 << 20),)))
    await store.close()


@pytest.mark.parametrize(
    "command",
    [
        lambda config, to: moving.backup(config, to, as_json=False),
        lambda config, to: moving.copy(config, str(to), None, as_json=False),
    ],
    ids=["backup", "copy"],
)
def test_a_disk_without_room_is_that_of_the_new_file(
    tmp_path: Path, command: Callable[[Path, Path], None]
) -> None:
    """The store that is read has room enough: who frees some there helps nobody."""
    config = configuration(tmp_path)
    asyncio.run(large(sqlite_at(config)))
    with small_disk(1) as disk:
        with pytest.raises(CliError) as caught:
            command(config, disk / "new.db")
        assert caught.value.message.startswith(f"{disk}/new.db can't be written: ")
        assert "full" in caught.value.message
        assert str(sqlite_at(config)) not in caught.value.message
        assert list(disk.iterdir()) == []
