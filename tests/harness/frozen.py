"""A thread of another program that stands still, as one that is stuck does; the others go on."""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_SEIZE, _INTERRUPT, _DETACH = 0x4206, 0x4207, 17
_WALL = 0x40000000
_ptrace = ctypes.CDLL(None, use_errno=True).ptrace
_ptrace.argtypes = [ctypes.c_long] * 4


def _call(request: int, tid: int) -> None:
    if _ptrace(request, tid, 0, 0) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"ptrace: {os.strerror(error)}")


def thread(pid: int, name: str) -> int:
    """Find a thread by its name."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        if (task / "comm").read_text().strip() == name:
            return int(task.name)
    raise LookupError(name)


def waits(tid: int) -> bool:
    """Whether it waits for something to do; what it does otherwise, it may do with a lock that others need."""
    return Path(f"/proc/{tid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "S"


def ended(tid: int) -> bool:
    """Hear, without waiting, whether a frozen thread was ended with its process: nobody else hears of it before."""
    try:
        who, how = os.waitpid(tid, _WALL | os.WNOHANG)
    except ChildProcessError:
        return True
    return who == tid and (os.WIFEXITED(how) or os.WIFSIGNALED(how))


@contextmanager
def frozen(tid: int) -> Iterator[None]:
    """Stop a thread of a process of ours; it goes on at the end, if it still lives."""
    _call(_SEIZE, tid)
    _call(_INTERRUPT, tid)
    os.waitpid(tid, _WALL)
    try:
        yield
    finally:
        try:
            _call(_DETACH, tid)
        except OSError:
            # It was ended with its process; until that is heard here the process can't be gone.
            with suppress(ChildProcessError):
                os.waitpid(tid, _WALL)
