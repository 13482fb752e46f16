"""What a signal that ends a command leaves: nothing half-written.

SIGTERM and SIGHUP end a program without a word to it, and the file that it was writing stays beside its target. Here they interrupt the
command as Ctrl-C does, so that everything is taken away on the way out, and then end the process as they would have.
"""

import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Final, Self

_SIGNALS: Final = (signal.SIGTERM, signal.SIGHUP)


class Ending:
    """A context in which the first of those signals is an interrupt, and the process ends by it afterwards; a second one doesn't wait.

    What has handlers of its own by then (the collector) replaces these; what is ignored (`nohup`) stays so.
    """

    def __init__(self) -> None:
        """Nothing came yet."""
        self._before: dict[signal.Signals, Any] = {}
        self._number: signal.Signals | None = None

    def __enter__(self) -> Self:
        """Take the signals over that would end the process."""
        # Only there may handlers be set, and only there an interrupt is raised.
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                if signal.getsignal(number) is signal.SIG_DFL:
                    self._before[number] = signal.signal(number, self._interrupt)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give them back; end the process if one came."""
        for number, handler in self._before.items():
            if signal.getsignal(number) == self._interrupt:
                signal.signal(number, handler)
        if self._number is not None:
            signal.signal(self._number, signal.SIG_DFL)
            os.kill(os.getpid(), self._number)

    def _interrupt(self, number: int, _frame: FrameType | None) -> None:
        self._number = signal.Signals(number)
        for one in self._before:
            signal.signal(one, signal.SIG_DFL)
        raise KeyboardInterrupt
