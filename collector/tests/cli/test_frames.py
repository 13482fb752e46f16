"""Commands that use Polars can be interrupted like any other."""

import subprocess
import sys

WAITS = """
import os, signal, threading, time
from telemetryx.cli import frames

frames.polars("this test")
pipe, _ = os.pipe()
main = f"/proc/self/task/{threading.main_thread().native_id}/syscall"

def press() -> None:
    # Number 0 is read (63 on ARM): the main thread waits in it.
    while not open(main).read().startswith(("0 ", "63 ")):
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGINT)

threading.Thread(target=press, daemon=True).start()
try:
    os.read(pipe, 1)
except KeyboardInterrupt:
    print("interrupted")
"""


def test_a_read_that_waits_ends_by_ctrl_c() -> None:
    """Loading Polars makes the system begin such a call again: it went on until something came."""
    command = ["env", "--default-signal", sys.executable, "-c", WAITS]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.returncode) == ("interrupted\n", 0), done.stderr
