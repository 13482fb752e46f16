"""The place of a collector process on its host: the data directory that is its own, or one of several workers on one.

`data_dir/lock` is held by the collector, or by the parent of its workers; `data_dir/lock.N` by worker N, so that a worker that
takes another's place waits until that one is gone. `data_dir/node` names the directory among the hosts that share a store.
"""

import contextlib
import fcntl
import os
import secrets
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from telemetryx.store.tables.lease import Member

PATIENCE_S: Final = 20.0
"""How long a worker waits for the one before it to be gone."""


class PlaceError(Exception):
    """The place is taken, or the directory can't be used; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Place:
    """Worker `number` of `of`; the only one is number 1 of 1."""

    number: int = 1
    of: int = 1

    @property
    def shared(self) -> bool:
        """Whether other processes listen on the same ports."""
        return self.of > 1

    @contextlib.contextmanager
    def held(self, data_dir: Path, now_ns: int) -> Iterator[Member]:
        """Make the directory and hold the place in it; say who we are among those on the store."""
        name = f"lock.{self.number}" if self.shared else "lock"
        with held(data_dir, name, PATIENCE_S if self.shared else 0.0):
            host = socket.gethostname()
            yield Member(f"{host}-{_node(data_dir)}/{self.number}", host, os.getpid(), now_ns)


ONLY: Final = Place()


@contextlib.contextmanager
def held(data_dir: Path, name: str = "lock", patience_s: float = 0.0) -> Iterator[None]:
    """Make the data directory and hold a lock in it: two collectors on one would each believe to be alone."""
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = (data_dir / name).open("w", encoding="ascii")
    except OSError as error:
        raise PlaceError(
            f"data_dir {data_dir} can't be used: {error.strerror}; create it for this user, or set data_dir in [collector]"
        ) from error
    with lock:
        end = time.monotonic() + patience_s
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if time.monotonic() > end:
                    raise PlaceError(
                        f"another collector runs in {data_dir}: stop it, or set another data_dir in [collector]"
                    ) from error
                time.sleep(0.1)
            else:
                break
        yield


def _node(data_dir: Path) -> str:
    """Return the directory's name among the hosts: made once, the same after a restart."""
    path = data_dir / "node"
    try:
        # Read where it is: a start on a full disk has nothing to write.
        with contextlib.suppress(FileNotFoundError):
            return path.read_text(encoding="ascii").strip()
        with contextlib.suppress(FileExistsError):
            # Whole or not at all: workers start together.
            made = data_dir / f".node.{os.getpid()}"
            try:
                made.write_text(secrets.token_hex(4), encoding="ascii")
                os.link(made, path)
            finally:
                made.unlink(missing_ok=True)
        return path.read_text(encoding="ascii").strip()
    except OSError as error:
        raise PlaceError(f"{path} can't be used: {error.strerror or error}") from error
