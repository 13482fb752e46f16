"""What a command writes is whole or isn't there, and what can't be written is named."""

import errno
import os
import tempfile
from pathlib import Path

import polars as pl
import pytest

from telemetryx.cli import convert, token
from telemetryx.cli.errors import CliError
from telemetryx.cli.targets import whole

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

    def full(*_: object) -> int:
        raise said

    monkeypatch.setattr(convert, "_write", full)
    source = tmp_path / "x.ndjson"
    source.write_text('{"kind":"sample"}\n')
    with pytest.raises(CliError, match=r"can't be converted into .*: No space left"):
        convert.run(str(source), tmp_path / "out", force=False)
    with pytest.raises(CliError, match="No space left") as caught, whole(tmp_path / "x.parquet", force=True):
        raise said
    assert tempfile.gettempdir() in caught.value.hint


def test_a_token_for_standard_output_makes_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`-` is no token file."""
    monkeypatch.chdir(tmp_path)
    token.new(Path("-"), "")
    assert capsys.readouterr().out.startswith("tx_")
    assert list(tmp_path.iterdir()) == []
