"""Where a command writes to: standard output for `-`, a file that is whole or isn't there, a folder whose own folder is there.

A path that was mistyped makes no folder. A file gets its name once all of it is on disk; until then it is `.NAME.part` beside it,
which is gone when the command fails. What the system refuses is told with the remedy that fits: room for a full disk, another name
for one that is too long, another place where nothing can be made.
"""

import errno
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from telemetryx.cli.errors import CliError, Exit
from telemetryx.cli.text import printable, shortened

STDOUT: Final = "-"
_ERRNO: Final = re.compile(r"\(os error (\d+)\)")


def needs_folder(path: Path) -> None:
    """Refuse a path in a folder that isn't there, before anything is read for it; and `-`, where it can't be standard output."""
    if str(path) == STDOUT:
        raise CliError("this can't be written to standard output", "name a path", Exit.USAGE)
    folder = path.absolute().parent
    with told(path):
        # Asked for here, a name that is too long and a folder that may not be entered are told as such.
        path.exists()
        there, is_folder = folder.exists(), folder.is_dir()
    if not is_folder:
        what = "is no folder" if there else "isn't there"
        raise CliError(
            f"{shown(path)} can't be written: the folder {shown(folder)} {what}",
            "make it, or name another place",
            Exit.USAGE,
        )


def needs_no_file(folder: Path) -> None:
    """Refuse a file, or a device, where a folder is meant that is made where there is none."""
    if folder.exists() and not folder.is_dir():
        raise CliError(
            f"{shown(folder)} is no folder",
            "name a folder: it is made where there is none, and the files go into it",
            Exit.USAGE,
        )


def free(path: Path, *, force: bool) -> None:
    """Refuse a file that can't be written or would be overwritten, before anything is asked for it; `-` is always free."""
    if str(path) == STDOUT:
        return
    needs_folder(path)
    if path.is_dir():
        raise CliError(f"{shown(path)} is a folder", "name a file in it", Exit.USAGE)
    if path.is_file() and not force:
        raise CliError(
            f"{shown(path)} would be overwritten", "name another file, or give --force", Exit.USAGE
        )


def shown(path: Path) -> str:
    """Give a path for a message: without what would move a cursor, and not longer than helps."""
    return printable(shortened(str(path)))


def straight(path: Path) -> BinaryIO:
    """Open what is no file (a device, or a pipe that somebody reads) to write into it. A pipe without a reader isn't waited for."""
    return _opened(path, 0)


def open_end(path: Path) -> BinaryIO:
    """Open a file to add to its end; it is made where there is none, for its owner alone."""
    return _opened(path, os.O_CREAT | os.O_APPEND)


def _opened(path: Path, flags: int) -> BinaryIO:
    try:
        handle = os.open(path, os.O_WRONLY | os.O_NONBLOCK | flags, 0o600)
    except OSError as error:
        if error.errno == errno.ENXIO and path.is_fifo():
            raise CliError(
                f"{shown(path)} can't be written: nobody reads from this pipe",
                "start its reader first, or name a file",
                Exit.USAGE,
            ) from error
        raise
    os.set_blocking(handle, True)
    return os.fdopen(handle, "wb")


@contextmanager
def whole(path: Path, *, force: bool) -> Iterator[BinaryIO]:
    """Give standard output for `-`, else a file that gets this name at the end; what is no file (a pipe, a device) is written straight."""
    if str(path) == STDOUT:
        with told(Path("standard output")):
            yield sys.stdout.buffer
            sys.stdout.buffer.flush()
        return
    free(path, force=force)
    with told(path):
        if path.exists() and not path.is_file():
            with straight(path) as out:
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
        also = "" if failed is error else f" and in {tempfile.gettempdir()}"
        raise CliError(
            f"{shown(path)} can't be written: {failed.strerror or failed}",
            remedy(failed, path, also),
            Exit.USAGE if failed.errno in _NAMED_WRONGLY else Exit.NO,
        ) from error


def remedy(failed: OSError, path: Path, also: str = "") -> str:
    """Say what to do about what the system refused to write there; `also` is where else room may be missing."""
    match failed.errno:
        case errno.ENOSPC | errno.EDQUOT | errno.EFBIG if _is_device(path):
            return "it is a device that takes nothing: name a file"
        case errno.ENOSPC | errno.EDQUOT | errno.EFBIG:
            return f"nothing of it is left; free some space there{also}, or name another place"
        case errno.EACCES | errno.EPERM | errno.EROFS:
            return "name a place that this user may write to"
        case errno.ENAMETOOLONG:
            return "give a shorter name"
        case errno.EISDIR:
            return "it is a folder: name a file in it"
        case errno.EEXIST | errno.ENOTDIR:
            return "a file stands there: name another place"
        case errno.ENOENT if _is_folder(path.absolute().parent):
            return f"no such thing can be made in {shown(path.absolute().parent)}: name another place"
    return "name another place"


_NAMED_WRONGLY: Final = frozenset({
    errno.ENAMETOOLONG, errno.EISDIR, errno.EEXIST, errno.ENOTDIR, errno.ENOENT, errno.ELOOP, errno.EINVAL,
})  # fmt: skip


def _is_device(path: Path) -> bool:
    try:
        return path.is_char_device() or path.is_block_device()
    except OSError:
        return False


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        return False


def of_disk(error: Exception) -> OSError | None:
    """Return the system's error: Polars tells of a full disk in an error of its own, in words about the file's format."""
    if isinstance(error, OSError):
        return error
    number = _ERRNO.search(str(error)) if type(error).__module__.startswith("polars") else None
    return None if number is None else OSError(int(number[1]), os.strerror(int(number[1])))
