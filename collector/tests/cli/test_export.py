"""`telemetryx export` on the command line: a file with its format, whole or not there, and sentences for what is wrong."""

import asyncio
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import polars as pl
import pytest

from reference_agent import SECOND, T0, decoded, defined, samples
from telemetryx.cli import export
from telemetryx.cli.client import Client
from telemetryx.cli.commands import app
from telemetryx.cli.errors import CliError, Exit
from telemetryx.store.sqlite.store import SqliteStore
from telemetryx.types import BatchKey, Stored
from telemetryx.wire.payload import Payload


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A collector's configuration with a store of ten samples."""

    async def fill() -> None:
        store = await SqliteStore.open(tmp_path / "telemetry.db")
        payload = Payload(samples({1: [(T0 + n * SECOND, n / 2) for n in range(10)]}))
        (outcome,) = await store.commit([decoded(BatchKey("edge", b"e" * 16, 1), payload, defined("temp"))])
        assert isinstance(outcome, Stored)
        await store.close()

    asyncio.run(fill())
    path = tmp_path / "collector.toml"
    path.write_text(f'[collector]\ndata_dir = "{tmp_path}"\n')
    return path


def question(to: str, **more: object) -> export.Question:
    """Ask for everything."""
    given = {
        "kind": "samples", "to": to, "form": None, "match": None, "agent": None, "since": "2000-01-01T00:00:00Z",
        "until": None, "level": None, "force": False, **more,
    }  # fmt: skip
    return export.Question(**given)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["out.parquet", "out.arrows", "out.csv", "out.ndjson"])
def test_a_file_has_the_format_of_its_ending(
    config: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """And nothing is left beside it; how many rows there are is said on stderr."""
    path = tmp_path / name
    export.run(config, question(str(path)))
    read = {
        "parquet": pl.read_parquet,
        "arrows": pl.read_ipc_stream,
        "csv": pl.read_csv,
        "ndjson": pl.read_ndjson,
    }
    assert read[path.suffix[1:]](path)["value"].to_list() == [n / 2 for n in range(10)]
    assert not list(tmp_path.glob(".*.part"))
    said = capsys.readouterr()
    assert (said.out, "10 samples written" in said.err) == ("", True)


def test_a_file_that_is_there_stays_unless_it_is_forced(config: Path, tmp_path: Path) -> None:
    """Nothing is overwritten by mistake."""
    path = tmp_path / "out.csv"
    path.write_text("mine")
    with pytest.raises(CliError, match="would be overwritten") as caught:
        export.run(config, question(str(path)))
    assert (caught.value.code, path.read_text()) == (Exit.USAGE, "mine")
    export.run(config, question(str(path), force=True))
    assert path.read_text().startswith("time,agent,name")


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"kind": "series"}, "no kind"),
        ({"form": "xlsx"}, "no format"),
        ({"match": "x{"}, "expected"),
        ({"since": "yesterday"}, "not a time"),
        ({"until": "1999-01-01T00:00:00Z"}, "not before"),
        ({"kind": "events", "match": "x"}, "events have no"),
        ({"level": "5m"}, "no level"),
        ({"level": "1h"}, "samples have no --level"),
        ({"kind": "events", "level": "1m"}, "events have no --level"),
        ({"since": "-7d"}, "--since -7d: .* no sign"),
        ({"until": "-15m"}, "--until -15m: .* no sign"),
        ({"since": "100000d"}, "--since: .* longest is 36525d"),
        ({"since": "2026-02-30"}, "not a time"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(config: Path, more: dict[str, str], words: str) -> None:
    """With the exit code for wrong use."""
    with pytest.raises(CliError, match=words) as caught:
        export.run(config, question("-", **more))
    assert caught.value.code == Exit.USAGE


@pytest.mark.parametrize(
    ("name", "form", "words"),
    [
        ("y.xlsx", None, "no format is known by the ending .xlsx"),
        ("y.csv.gz", None, "no format is known by the ending .gz"),
        ("y.parquet", "csv", "--format says csv, and the ending .parquet says parquet"),
        ("no/y.csv", None, "folder .*no isn't there"),
        ("mine/y.csv", None, "folder .*mine is no folder"),
    ],
)
def test_a_target_that_would_not_be_what_it_is_called_is_refused(
    config: Path, tmp_path: Path, name: str, form: str | None, words: str
) -> None:
    """Nothing is written: no CSV under a spreadsheet's name, and no folder by mistake."""
    (tmp_path / "mine").touch()
    before = sorted(tmp_path.iterdir())
    with pytest.raises(CliError, match=words) as caught:
        export.run(config, question(str(tmp_path / name), form=form))
    assert caught.value.code == Exit.USAGE
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("name", "form"), [("out.CSV", None), ("out", None), ("out.txt", "csv"), ("out.csv", "csv")]
)
def test_an_ending_that_says_nothing_else_is_taken(
    config: Path, tmp_path: Path, name: str, form: str | None
) -> None:
    """In capitals, without one, and another one where --format says what to write."""
    export.run(config, question(str(tmp_path / name), form=form))
    assert (tmp_path / name).read_text().startswith("time,agent,name")


def test_a_level_is_told_for_rollups(config: Path, tmp_path: Path) -> None:
    """Minutes when it is left out."""
    export.run(config, question(str(tmp_path / "a.ndjson"), kind="rollups", level=None))
    export.run(config, question(str(tmp_path / "b.ndjson"), kind="rollups", level="1h"))
    lengths = [
        json.loads((tmp_path / name).read_text().splitlines()[0])["length"]
        for name in ("a.ndjson", "b.ndjson")
    ]
    assert lengths == [60, 3_600]


# --- of a collector elsewhere


class _Far(BaseHTTPRequestHandler):
    """Answers as a collector does, or breaks off."""

    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:  # the library's name
        """Answer by the kind that is asked for."""
        self.asked.append(f"{self.path} {self.headers['Authorization']}")
        if "/events" in self.path:
            refusal = b'{"error":{"code":"not_installed","message":"csv is not to be had","hint":"ask for another"}}'
            self.send_response(501)
            self.send_header("Content-Length", str(len(refusal)))
            self.end_headers()
            self.wfile.write(refusal)
            return
        self.send_response(200)
        self.send_header("Telemetryx-Warning", "readings from before \x1b[2J March are deleted")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.write(b"8\r\ntime,val\r\n")
        if "/rollups" not in self.path:
            self.wfile.write(b"3\r\nue\n\r\n0\r\n\r\n")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        """Say nothing."""


@pytest.fixture
def far() -> Iterator[Client]:
    """A collector elsewhere."""
    _Far.asked.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), _Far) as server:
        serving = threading.Thread(target=server.serve_forever, args=(0.01,))
        serving.start()
        yield Client(f"http://127.0.0.1:{server.server_address[1]}", "tx_secret")
        server.shutdown()
        serving.join()


def test_a_collector_elsewhere_reads_and_encodes(
    far: Client, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The file has what it answers; spans of time are told as they were given, for its clock."""
    path = tmp_path / "out.csv"
    export.run(None, question(str(path), since="2h", match='x{a="1"}', agent="edge"), far)
    assert path.read_bytes() == b"time,value\n"
    told = capsys.readouterr().err
    assert "11 B of samples written to" in told
    # What the collector warns of stands below it, and steers no terminal.
    assert told.splitlines()[1] == "telemetryx: readings from before \\x1b[2J March are deleted"
    (asked,) = _Far.asked
    assert asked == (
        "/api/v1/export/samples?format=csv&match=x%7Ba%3D%221%22%7D&agent=edge&start=-2h Bearer tx_secret"
    )


@pytest.mark.parametrize(("kind", "words"), [("events", "not to be had"), ("rollups", "broke off")])
def test_a_refused_or_broken_export_leaves_no_file(
    far: Client, tmp_path: Path, kind: str, words: str
) -> None:
    """A part never looks like the whole."""
    path = tmp_path / "out.csv"
    with pytest.raises(CliError, match=words) as caught:
        export.run(None, question(str(path), kind=kind), far)
    assert caught.value.code == Exit.REFUSED
    assert list(tmp_path.iterdir()) == []


def test_a_collector_that_is_not_there_is_named(tmp_path: Path) -> None:
    """With the exit code for that, and no file."""
    with pytest.raises(CliError, match="no collector answers") as caught:
        export.run(None, question(str(tmp_path / "out.csv")), Client("http://127.0.0.1:1"))
    assert caught.value.code == Exit.UNREACHABLE
    assert list(tmp_path.iterdir()) == []


def test_a_configuration_and_a_collector_elsewhere_are_not_asked_together(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of them would be ignored; the variable, which stands for other commands, may be set."""
    far = ["export", "samples", "--url", "http://127.0.0.1:1"]
    with pytest.raises(CliError, match="both --config and --url are given") as refused:
        app(["export", "samples", "-c", str(config), *far[2:]], standalone_mode=False)
    assert refused.value.code is Exit.USAGE
    monkeypatch.setenv("TELEMETRYX_CONFIG", str(config))
    with pytest.raises(CliError) as unreachable:
        app(far, standalone_mode=False)
    assert unreachable.value.code is Exit.UNREACHABLE


def test_an_export_that_takes_too_long_leaves_no_file(config: Path, tmp_path: Path) -> None:
    """Of the store here, and of a collector elsewhere that goes on sending."""
    path = tmp_path / "out.csv"
    with pytest.raises(CliError, match="the export takes longer than 1us") as caught:
        export.run(config, question(str(path), timeout="1us"))
    assert "--timeout" in caught.value.hint

    class Endless:
        def pieces(self, *_: object) -> Iterator[bytes]:
            while True:
                yield b"1\n"

    with pytest.raises(CliError, match="the export takes longer than 1ms"):
        export.run(config, question(str(path), timeout="1ms"), Endless())  # type: ignore[arg-type]
    with pytest.raises(CliError, match="--timeout"):
        export.run(config, question(str(path), timeout="soon"))
    assert not path.exists()
