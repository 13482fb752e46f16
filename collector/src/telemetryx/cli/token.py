"""`telemetryx token new`: a random token, printed once or added to a token file that only its owner can read."""

import os
import secrets
from pathlib import Path

from telemetryx.cli.errors import CliError, Exit
from telemetryx.cli.targets import STDOUT, needs_folder, told

BYTES = 32


def new(out: Path | None, note: str) -> None:
    """Make one."""
    if "\n" in note or "\r" in note:
        raise CliError("--note has a line break", "write it in one line", Exit.USAGE)
    token = f"tx_{secrets.token_urlsafe(BYTES)}"
    if out is None or str(out) == STDOUT:
        print(token)
        return
    needs_folder(out)
    line = f"{token}  # {note}\n" if note else f"{token}\n"
    with (
        told(out),
        os.fdopen(os.open(out, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "a", encoding="utf-8") as file,
    ):
        file.write(line)
        file.flush()
        os.fsync(file.fileno())
    print(token)
