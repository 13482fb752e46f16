"""What a command writes is whole or isn't there, and what can't be written is named."""

import errno
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import polars as pl
import pytest

from telemetryx.cli import convert, main, token
from telemetryx.cli.errors import CliError, Exit
from telemetryx.cli.targets import free, needs_no_file, whole

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def half(path: Path) -> None:
    """Run out of disk on the way."""
    with whole(path, force=True) as out:
        out.write(b"half")
        raise FULL


def test_a_file_is_whole_or_what_was_there_before(tmp_path: Path) -> None:
    """A full disk leaves neither a half file nor one beside it; file and remedy are named."""
    path = tmp_path / "out"
    path.write_bytes(b"before")
    with pytest.raises(CliError, match=r"out can't be written: No space left") as caught:
        half(path)
    assert "free some space" in caught.value.hint
    assert (path.read_bytes(), list(tmp_path.iterdir())) == (b"before", [path])
    with whole(path, force=True) as out:
        out.write(b"after")
        assert path.read_bytes() == b"before"
    assert (path.read_bytes(), list(tmp_path.iterdir())) == (b"after", [path])


def test_a_link_keeps_its_place_and_a_device_is_written_straight(tmp_path: Path) -> None:
    """What a link names is replaced; beside a device nothing is made."""
    path, link = tmp_path / "file", tmp_path / "link"
    path.write_bytes(b"before")
    link.symlink_to(path)
    with whole(link, force=True) as out:
        out.write(b"after")
    assert link.is_symlink()
    assert path.read_bytes() == b"after"
    with whole(Path("/dev/null"), force=True) as out:
        out.write(b"x")
    assert not Path("/dev/null").is_file()
    with (
        pytest.raises(CliError, match="/dev/full can't be written: No space left"),
        whole(Path("/dev/full"), force=True) as out,
    ):
        out.write(b"x")


def test_a_full_disk_that_polars_meets_is_no_fault_of_the_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its words are about the format of what it writes."""
    said = pl.exceptions.ComputeError(
        "parquet: File out of specification: underlying IO error: No space left on device (os error 28)"
    )

    def full(*_: object) -> dict[str, int]:
        raise said

    monkeypatch.setattr(convert, "_write", full)
    source = tmp_path / "x.ndjson"
    source.write_text('{"kind":"sample","time_ns":1,"name":"a","value":1}\n')
    with pytest.raises(CliError, match=r"out can't be written: No space left"):
        convert.run(str(source), tmp_path / "out", force=False)
    with pytest.raises(CliError, match="No space left") as caught, whole(tmp_path / "x.parquet", force=True):
        raise said
    assert tempfile.gettempdir() in caught.value.hint


def test_a_pipe_that_nobody_reads_is_not_waited_for(tmp_path: Path) -> None:
    """One that somebody reads is written as it comes; a folder is told as one."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(CliError, match="nobody reads from this pipe"), whole(pipe, force=True):
        pass
    with pytest.raises(CliError, match="nobody reads from this pipe"):
        token.new(pipe, "", as_json=False)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    with whole(pipe, force=False) as out:
        out.write(b"x")
    assert os.read(reader, 9) == b"x"
    os.close(reader)
    with pytest.raises(CliError, match="is a folder") as refused:
        free(tmp_path, force=True)
    assert refused.value.code is Exit.USAGE


def test_a_token_for_standard_output_makes_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`-` is no token file."""
    monkeypatch.chdir(tmp_path)
    token.new(Path("-"), "", as_json=False)
    assert capsys.readouterr().out.startswith("tx_")
    assert list(tmp_path.iterdir()) == []


#: A name that no file system takes, and one to which only what stands beside it adds too much.
LONG = ["x" * 300, "x" * 252]


@pytest.mark.parametrize(
    ("path", "said", "remedy"),
    [
        *((name, "File name too long", "shorter name") for name in LONG),
        ("/dev/full", "No space left", "it is a device that takes nothing: name a file"),
        ("/proc/x", "No such file", "no such thing can be made in /proc"),
    ],
)
def test_what_cannot_be_written_is_told_with_the_remedy_that_fits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, said: str, remedy: str
) -> None:
    """Room on the disk helps against a full one only."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CliError, match=said) as refused, whole(Path(path), force=True) as out:
        out.write(b"x")
    assert remedy in refused.value.hint
    assert len(refused.value.message) < 200
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["/dev/full", "/proc/x", "x" * 300])
def test_a_token_file_that_cannot_be_written_is_told_with_its_remedy(name: str) -> None:
    """As any other file."""
    with pytest.raises(CliError, match="can't be written") as refused:
        token.new(Path(name), "", as_json=False)
    assert refused.value.hint


def test_a_folder_of_tables_is_no_device(tmp_path: Path) -> None:
    """`report --csv` and `convert` make folders."""
    for path in (Path("/dev/full"), tmp_path / "file"):
        (tmp_path / "file").touch()
        with pytest.raises(CliError, match="is no folder"):
            needs_no_file(path)
    needs_no_file(tmp_path)
    needs_no_file(tmp_path / "new")


def run_main(monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    """Run the whole command line."""
    monkeypatch.setattr("sys.argv", ["telemetryx", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1


def test_a_file_that_no_command_expected_to_fail_is_named_and_no_traceback_is_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """For people a sentence and a remedy, for programs the same as JSON."""
    run_main(monkeypatch, "store", "restore", "x" * 300)
    said = capsys.readouterr().err
    assert "File name too long\n  give a shorter name" in said
    assert "Traceback" not in said
    run_main(monkeypatch, "store", "restore", "x" * 300, "--json")
    assert json.loads(capsys.readouterr().err)["error"]["hint"] == "give a shorter name"


def test_a_full_standard_output_is_told_by_every_command() -> None:
    """It shows when Python flushes: that is still before the end."""
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "telemetryx", "config", "reference"],
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr.decode() == (
        "telemetryx: standard output: No space left on device\n  free some space there, or write elsewhere\n"
    )
