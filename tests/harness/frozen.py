"""A thread of another program that stands still, as one that is stuck does; the others go on."""

import ctypes
import os
import platform
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

from tests.harness.processes import until

#: The system call in which a thread of the standard library waits for another one.
_FUTEX: Final = {"x86_64": "202", "aarch64": "98"}
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


@contextmanager
def frozen_while_it_waits(tid: int) -> Iterator[None]:
    """Stop a thread that has nothing to do. Whatever it does otherwise, it may do with a lock that others need."""

    def caught() -> ExitStack | None:
        with ExitStack() as stack:
            stack.enter_context(frozen(tid))
            # Looked at when it stands still: before that it might go on behind our back.
            called = Path(f"/proc/{tid}/syscall").read_text().split()[0]
            return stack.pop_all() if called == _FUTEX[platform.machine()] else None
        return None

    with until("it is stopped where it has nothing to do", caught):
        yield
