"""A start on a full disk: the collector's name is read where it is there, and what is wrong is said with what to do."""

import errno
from pathlib import Path
from typing import Any

import pytest

from telemetryx import config
from telemetryx.app import started
from telemetryx.clock import SystemClock
from telemetryx.errors import StoreUnavailable
from telemetryx.place import ONLY, PlaceError
from telemetryx.standing import StartError


def name(data_dir: Path) -> str:
    """Hold the place, and say who we are."""
    with ONLY.held(data_dir, 0) as member:
        return member.name


def full(*_: Any, **__: Any) -> int:
    """Have no room."""
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_collectors_name_is_the_same_after_a_restart(tmp_path: Path) -> None:
    """Leases and the connection log go by it."""
    assert name(tmp_path) == name(tmp_path)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_start_on_a_full_disk_writes_no_name_that_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It made the name anew each time to see that it is there, and refused to start without room for that."""
    before = name(tmp_path)
    monkeypatch.setattr(Path, "write_text", full)
    assert name(tmp_path) == before


def test_a_first_start_on_a_full_disk_says_so_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the file that has no room."""
    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(PlaceError, match="node can't be used: No space left"):
        name(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lock"]


async def test_a_store_without_room_is_no_fault_of_the_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever starts a collector on a full disk isn't sent to look through its configuration."""

    async def no_room(*_: Any, **__: Any) -> Any:
        raise StoreUnavailable("the disk is full: free space", "full")

    monkeypatch.setattr("telemetryx.app.SqliteStore.open", no_room)
    settings = config.parse(f'[collector]\ndata_dir = "{tmp_path}"\n', "test.toml")
    with pytest.raises(StartError, match="can't be opened: the disk is full: free space") as refused:
        async with started(settings, SystemClock()):
            pass
    assert refused.value.hint == "start it again when that is mended; agents keep what they have meanwhile"
