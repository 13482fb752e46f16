"""`--workers`: what several processes can't share is refused before anything is started."""

import asyncio
import signal
import socket
import sys
from pathlib import Path

import pytest

from free_ports import free_port
from telemetryx.cli import workers
from telemetryx.cli.workers import Worker, WorkersError
from telemetryx.config import Settings, load
from telemetryx.place import Place, PlaceError, held

POSTGRES = '[store]\nurl = "postgresql://collector@127.0.0.1:1/t"\n'


def settings(tmp_path: Path, text: str) -> Settings:
    """Read a configuration."""
    path = tmp_path / "c.toml"
    path.write_text(f'[collector]\ndata_dir = "{tmp_path / "data"}"\n{text}')
    return load(path)


def listening(http: int, grpc: int) -> str:
    """Write both addresses."""
    return f'[api]\nlisten = "127.0.0.1:{http}"\n[gateway]\nlisten = "127.0.0.1:{grpc}"\n'


def test_sqlite_is_one_processs(tmp_path: Path) -> None:
    """One worker is what there always was; two need PostgreSQL."""
    workers.check(settings(tmp_path, ""), 1)
    with pytest.raises(WorkersError, match="--workers 2 needs a store that several processes may write to"):
        workers.check(settings(tmp_path, ""), 2)


def test_ports_must_be_fixed_and_nobody_elses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Port 0 would give each worker another one, and a port that is taken would be shared with whoever has it."""
    monkeypatch.setattr(workers, "PATIENCE_S", 0.0)
    with pytest.raises(WorkersError, match=r"needs fixed ports: set one in \[gateway\]"):
        workers.check(settings(tmp_path, POSTGRES + listening(free_port(), 0)), 2)
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(WorkersError, match=r"\[api\] can't listen on .*is another collector running"):
            workers.check(settings(tmp_path, POSTGRES + listening(other.getsockname()[1], free_port())), 2)
    workers.check(settings(tmp_path, POSTGRES + listening(free_port(), free_port())), 2)


def test_workers_have_places_in_one_directory_and_keep_them(tmp_path: Path) -> None:
    """The parent's lock keeps another collector out; each worker has one of its own, and names that are the same next time."""
    with held(tmp_path):
        with pytest.raises(PlaceError, match="another collector runs in"), Place().held(tmp_path, 1):
            pass
        with Place(1, 2).held(tmp_path, 1) as one, Place(2, 2).held(tmp_path, 1) as two:
            assert one.name.removesuffix("/1") == two.name.removesuffix("/2")
    with Place(2, 2).held(tmp_path, 2) as again:
        assert again.name == two.name
    with Place().held(tmp_path / "another", 1) as elsewhere:
        assert elsewhere.name != one.name


def test_a_worker_waits_for_the_one_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And gives up, saying so, when that one doesn't go."""
    monkeypatch.setattr("telemetryx.place.PATIENCE_S", 0.2)
    with (
        Place(1, 2).held(tmp_path, 1),
        pytest.raises(PlaceError, match="another collector runs in"),
        Place(1, 2).held(tmp_path, 1),
    ):
        pass


KILLED_TWICE = """
import os, signal, socket, sys
with open(sys.argv[1], "a+") as lives:
    lives.write(".")
    lives.flush()
    lives.seek(0)
    if len(lives.read()) < int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
link = socket.socket(fileno=int(os.environ["TELEMETRYX_WORKER"].split("/")[2]))
link.send(b"ready")
link.recv(1)
"""


def first_life(
    lives: Path, killed: int, monkeypatch: pytest.MonkeyPatch, *, another_serves: bool = False
) -> bool:
    """Keep a worker that is killed so often before it is ready; return whether it became that."""
    monkeypatch.setattr(workers, "FIRST_PAUSE_S", 0.01)

    async def kept() -> bool:
        worker = Worker(1, 2, [sys.executable, "-c", KILLED_TWICE, str(lives), str(killed + 1)], None)
        stop = asyncio.Event()
        another = Worker(2, 2, [], None, was_ready=another_serves)
        keeping = asyncio.create_task(workers._keep(worker, [worker, another], stop))
        ready = asyncio.create_task(worker.ready.wait())
        async with asyncio.timeout(60):
            await asyncio.wait([keeping, ready], return_when=asyncio.FIRST_COMPLETED)
        was_ready = ready.done()
        stop.set()
        worker.tell(signal.SIGKILL)
        ready.cancel()
        await keeping
        return was_ready

    return asyncio.run(kept())


def test_a_worker_that_is_killed_while_it_starts_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when memory ran out for a moment: the others serve on. One that is killed each time ends it all, saying so."""
    assert first_life(tmp_path / "twice", 2, monkeypatch)
    with pytest.raises(WorkersError, match=r"worker 1 didn't start \(exit code -9\)"):
        first_life(tmp_path / "always", 3, monkeypatch)


def test_a_worker_that_is_killed_each_time_it_starts_doesnt_end_those_that_serve(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three kills before it was ever ready ended the parent, and with it a service that others had been doing."""
    assert first_life(tmp_path / "often", 5, monkeypatch, another_serves=True)
