"""`--workers`: what several processes can't share is refused before anything is started."""

import socket
from pathlib import Path

import pytest

from free_ports import free_port
from telemetryx.cli import workers
from telemetryx.cli.workers import WorkersError
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
