"""A PostgreSQL server of a test's own: Debian's programs, a folder in memory or in /tmp, a free port; gone when it is stopped.

PostgreSQL refuses to run as root, so root runs it as the user `postgres` that Debian's package made. A missing server is a
failure, not a skip: packaging/bootstrap.sh installs it.
"""

import itertools
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Final

from free_ports import free_port

USER: Final = "collector"
PASSWORD: Final = "correct horse"
WAIT_S: Final = 120.0
IN_MEMORY: Final = Path("/dev/shm")
ENOUGH: Final = 8 << 30
"""Bytes: of databases and log, a run's server comes to a quarter of it."""
_NUMBERS = itertools.count(1)


def programs() -> Path:
    """Find the newest server's programs."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[4]))
    assert found, "PostgreSQL is missing: apt-get install postgresql (packaging/bootstrap.sh does it)"
    return found[-1].parent


class PostgresServer:
    """One server; `kill`, `stop` and `start` keep its data and its port."""

    def __init__(
        self, *, fsync: bool = False, settings: tuple[str, ...] = (), folder: Path | None = None
    ) -> None:
        """Make its folder; without fsync it is fast, and safe against everything but a power cut."""
        self._bin = programs()
        if folder is None and not fsync:
            folder = _in_memory()
        self.folder = Path(tempfile.mkdtemp(prefix="telemetryx-postgres-", dir=folder))
        self.port = free_port()
        if os.geteuid() == 0:
            shutil.chown(self.folder, "postgres", "postgres")
        password = self.folder / "password"
        password.write_text(PASSWORD)
        password.chmod(0o644)
        self._run(
            "initdb", "--pgdata", self.data, "--username", USER, "--pwfile", password, "--no-sync", "--locale=C.UTF-8",
            "--encoding=UTF8", "--auth-local=trust", "--auth-host=scram-sha-256",
        )  # fmt: skip
        wanted = (f"port={self.port}", "listen_addresses=127.0.0.1", f"unix_socket_directories={self.folder}")
        wanted += (
            "max_connections=60",
            "shared_buffers=64MB",
            f"fsync={'on' if fsync else 'off'}",
            # A transaction of it anywhere in the server holds readers back from what was just committed, at a moment of its own choice.
            "autovacuum=off",
            *settings,
        )
        self._options = [word for setting in wanted for word in ("-c", setting)]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def data(self) -> Path:
        """Its data directory."""
        return self.folder / "data"

    @property
    def log(self) -> str:
        """What it said."""
        return (self.folder / "log").read_text(errors="replace")

    @property
    def password_file(self) -> Path:
        """A file with the password."""
        return self.folder / "password"

    def url(self, database: str) -> str:
        """Return a database's address, without the password."""
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*_as_user(), str(self._bin / "postgres"), "-D", str(self.data), *self._options],
                stdout=log,
                stderr=log,
                cwd=self.folder,
            )
        end = time.monotonic() + WAIT_S
        while not self._answers():
            assert self._process.poll() is None, f"PostgreSQL ended:\n{self.log}"
            assert time.monotonic() < end, f"PostgreSQL doesn't answer:\n{self.log}"
            time.sleep(0.05)

    def _answers(self) -> bool:
        asked = [self._bin / "pg_isready", "-q", "-h", self.folder, "-p", str(self.port)]
        return subprocess.run(asked, check=False).returncode == 0

    def sql(self, statement: str, database: str = "postgres") -> str:
        """Run a statement as its superuser, beside whoever uses it; return what came, unaligned."""
        command = ["psql", "-h", str(self.folder), "-p", str(self.port), "-U", USER, "-d", database, "-qAtX"]
        done = subprocess.run(
            [str(self._bin / command[0]), *command[1:], "-v", "ON_ERROR_STOP=1", "-c", statement],
            check=False,
            capture_output=True,
            text=True,
            timeout=WAIT_S,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def database(self, template: str = "template0") -> str:
        """Make a new database and return its name."""
        name = f"t{os.getpid()}_{next(_NUMBERS)}"
        self.sql(f"CREATE DATABASE {name} TEMPLATE {template}")
        return name

    def end_sessions(self, name: str) -> None:
        """Have every session of a database begin anew."""
        self.sql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")  # noqa: S608 - our own name

    def kill(self) -> None:
        """Kill it with all its sessions, as a crash of the machine's memory would."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        end = time.monotonic() + WAIT_S
        while self._sessions_left():
            assert time.monotonic() < end, "sessions outlive their server"
            time.sleep(0.02)

    def _sessions_left(self) -> bool:
        """Whether a process of the server still lives: they end when they notice that it is gone."""
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                if (entry / "cwd").readlink() == self.data:
                    return True
            except OSError:
                continue
        return False

    def stop(self) -> None:
        """Stop it; what its sessions do is cut off and undone."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(WAIT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._process = None

    def remove(self) -> None:
        """Stop it and delete everything."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _run(self, program: str, *arguments: object) -> None:
        done = subprocess.run(
            [*_as_user(), str(self._bin / program), *map(str, arguments)],
            check=False,
            capture_output=True,
            text=True,
            timeout=WAIT_S,
            cwd=self.folder,
        )
        assert done.returncode == 0, done.stderr


def _as_user() -> list[str]:
    """Begin a command that PostgreSQL accepts.

    A program of its own changes the user (it becomes the server: its number is the server's). Popen's `user` forks a whole process in
    place of vfork, and gRPC's handlers of a fork now and then end a child whose parent's threads are in it.
    """
    return (
        ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]
        if os.geteuid() == 0
        else []
    )


def _in_memory() -> Path | None:
    """Where there is room in memory for what no power cut is to survive: a hundred databases are made and deleted in a moment there."""
    roomy = IN_MEMORY.is_dir() and shutil.disk_usage(IN_MEMORY).free >= ENOUGH
    return IN_MEMORY if roomy and os.access(IN_MEMORY, os.W_OK) else None
