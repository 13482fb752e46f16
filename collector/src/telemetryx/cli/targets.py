"""Where a command writes to: standard output for `-`, a file that is whole or isn't there, a folder whose own folder is there.

A path that was mistyped makes no folder. A file gets its name once all of it is on disk; until then it is `.NAME.part` beside it,
which is gone when the command fails.
"""

import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from telemetryx.cli.errors import CliError, Exit

STDOUT: Final = "-"
_ERRNO: Final = re.compile(r"\(os error (\d+)\)")


def needs_folder(path: Path) -> None:
    """Refuse a path in a folder that isn't there, before anything is read for it; and `-`, where it can't be standard output."""
    if str(path) == STDOUT:
        raise CliError("this can't be written to standard output", "name a path", Exit.USAGE)
    folder = path.absolute().parent
    if not folder.is_dir():
        what = "is no folder" if folder.exists() else "isn't there"
        raise CliError(
            f"{path} can't be written: the folder {folder} {what}",
            "make it, or name another place",
            Exit.USAGE,
        )


def free(path: Path, *, force: bool) -> None:
    """Refuse a file that can't be written or would be overwritten, before anything is asked for it; `-` is always free."""
    if str(path) == STDOUT:
        return
    needs_folder(path)
    if path.is_file() and not force:
        raise CliError(f"{path} would be overwritten", "name another file, or give --force", Exit.USAGE)


@contextmanager
def whole(path: Path, *, force: bool) -> Iterator[BinaryIO]:
    """Give standard output for `-`, else a file that gets this name at the end; what is no file (a pipe, a device) is written straight."""
    if str(path) == STDOUT:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    free(path, force=force)
    with told(path):
        if path.exists() and not path.is_file():
            with path.open("wb") as out:
                yield out
            return
        # What a link names is replaced, not the link.
        target = path.resolve()
        part = target.with_name(f".{target.name}.part")
        try:
            with part.open("wb") as out:
                yield out
                out.flush()
                os.fsync(out.fileno())
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)


@contextmanager
def told(path: Path) -> Iterator[None]:
    """Say what can't be written with its name and what to do."""
    try:
        yield
    except Exception as error:
        failed = of_disk(error)
        if failed is None or isinstance(error, BrokenPipeError):
            raise
        # Polars collects pieces in the folder for temporary files.
        there = "there" if failed is error else f"there and in {tempfile.gettempdir()}"
        raise CliError(
            f"{path} can't be written: {failed.strerror or failed}",
            f"nothing of it is left; free some space {there}, or name another place",
        ) from error


def of_disk(error: Exception) -> OSError | None:
    """Return the system's error: Polars tells of a full disk in an error of its own, in words about the file's format."""
    if isinstance(error, OSError):
        return error
    number = _ERRNO.search(str(error)) if type(error).__module__.startswith("polars") else None
    return None if number is None else OSError(int(number[1]), os.strerror(int(number[1])))
