"""Accounts, enrolment tokens, remote care and audit log straight in the store, without a collector and beside one: for who may read and write its files.

The same code as the collector's changes them (store/tables/accounts.py), on a connection of our own; a running collector, or
several, see it with their next request.
"""

import getpass
import os
import socket
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from telemetryx.cli.errors import CliError, Exit

if TYPE_CHECKING:
    from telemetryx.care.service import Care
    from telemetryx.cli.store import Place
    from telemetryx.enrolment.service import Enrolment
    from telemetryx.store.audit import Actor
    from telemetryx.store.tables.accounts import AccountTables
    from telemetryx.store.tables.database import Database

T = TypeVar("T")


@contextmanager
def accounts(config: Path | None) -> Iterator["AccountTables"]:
    """Open the accounts of a collector's store, which is made where there is none yet."""
    from telemetryx.clock import SystemClock
    from telemetryx.store.tables.accounts import AccountTables

    with _writing(config) as database:
        read = _reader(database)
        yield AccountTables(read, read, _writer(database), SystemClock())


@contextmanager
def enrolment(config: Path) -> Iterator["Enrolment"]:
    """Open what hosts join by. The collector has made its authority at its first start; nobody else does, since the key is its user's."""
    from telemetryx import doors
    from telemetryx.cli import logs
    from telemetryx.cli.run import settings_of
    from telemetryx.clock import SystemClock
    from telemetryx.enrolment.authority import Authority, AuthorityError
    from telemetryx.enrolment.service import Enrolment

    logs.quiet()
    settings = settings_of(config)
    folder, clock = settings.within(settings.enroll.dir), SystemClock()
    try:
        if not (folder / "ca.pem").is_file():
            raise CliError(
                f"there is no authority in {folder} yet, which tokens name",
                "start the collector once: it makes it",
                Exit.REFUSED,
            )
        authority = Authority.open(folder, clock.now_ns())
    except (AuthorityError, OSError) as error:
        raise CliError(str(error), "run this as root, or as the collector's user", Exit.REFUSED) from error
    with _writing(config) as database:
        lender = _Lender(_reader(database), _writer(database))
        yield Enrolment(lender, authority, clock, doors.enrolment_policy(settings))


@contextmanager
def care(config: Path) -> Iterator["Care"]:
    """Open remote care. A running collector looks each second at what is wanted, and has the agents."""
    from telemetryx.care.service import Care
    from telemetryx.cli import logs
    from telemetryx.clock import SystemClock

    logs.quiet()
    with _writing(config) as database:
        yield Care(_Lender(_reader(database), _writer(database)), SystemClock(), aside=_here)


async def _here(work: Callable[[str], None], text: str) -> None:
    """Nobody waits for anything else meanwhile."""
    work(text)


@dataclass(frozen=True, slots=True)
class _Lender:
    """A connection of our own, lent as a store lends its."""

    read: Any
    write: Any


def done(work: Coroutine[Any, Any, T]) -> T:
    """Run what is written for the collector's event loop: here nothing in it waits for anything."""
    try:
        work.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    work.close()
    raise RuntimeError("work on a connection of our own waited for something")


def actor() -> "Actor":
    """Name the person at this command line, behind sudo too."""
    from telemetryx.store.audit import Actor

    return Actor(os.environ.get("SUDO_USER") or getpass.getuser(), "cli", socket.gethostname())


@contextmanager
def refusals() -> Iterator[None]:
    """Turn what can't be done to an account into a command's failure."""
    from telemetryx.store.accounts import AccountRefused

    try:
        yield
    except AccountRefused as error:
        raise CliError(str(error), code=Exit.NO if error.missing else Exit.REFUSED) from error


@contextmanager
def _writing(config: Path | None) -> Iterator["Database"]:
    from telemetryx.cli.store import failures_said

    place = _place(config)
    with failures_said(place):
        database = place.engine.open_writer()
        try:
            _up_to_date(place, database)
            yield database
        finally:
            database.close()


def _place(config: Path | None) -> "Place":
    """Find the store; a file that isn't there is made, for whom the folder belongs to."""
    from telemetryx.cli.run import settings_of
    from telemetryx.cli.store import file, store_place

    settings = settings_of(config)
    path = settings.within(settings.store.path)
    if settings.store.url is not None or path.is_file():
        return store_place(config)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
        if os.geteuid() == 0:
            owner = path.parent.stat()
            os.chown(path, owner.st_uid, owner.st_gid)
    except OSError as error:
        raise CliError(
            f"there is no store at {path}, and none can be made: {error.strerror or error}",
            "name the collector's configuration with --config, and run this as its user",
            Exit.USAGE,
        ) from error
    return file(path)


def _up_to_date(place: "Place", database: "Database") -> None:
    import sqlite3

    from telemetryx.store.migrations import migrate, refuse_newer
    from telemetryx.store.postgres.engine import PostgresEngine
    from telemetryx.store.postgres.migrations import migrate as migrate_postgres

    applied, known = database.schema_steps()
    refuse_newer(applied, known)
    if applied == known:
        return
    if applied:
        raise CliError(
            f"{place.name} is of an older version (schema step {applied[-1]})",
            "start the collector once: it brings its store up to date",
            Exit.REFUSED,
        )
    if isinstance(database, sqlite3.Connection):
        migrate(database)
        return
    if not isinstance(place.engine, PostgresEngine):
        raise TypeError(f"{place.engine} is no PostgreSQL")
    first = place.engine.open({}, 600.0)
    try:
        migrate_postgres(first)
    finally:
        first.finish()


def _reader(database: "Database") -> Any:  # noqa: ANN401 - a Read, whose type only the store knows
    async def read(work: "Callable[[Database], T]") -> T:
        database.begin_snapshot()
        try:
            return work(database)
        finally:
            database.rollback()

    return read


def _writer(database: "Database") -> Any:  # noqa: ANN401 - a Write, whose type only the store knows
    async def write(work: "Callable[[Database], T]") -> T:
        database.begin()
        try:
            result = work(database)
            database.commit()
        except BaseException:
            database.rollback()
            raise
        return result

    return write
