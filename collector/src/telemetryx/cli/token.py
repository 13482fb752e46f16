"""`telemetryx token new`: a random token, printed once or added to a token file that only its owner can read."""

import os
import secrets
from pathlib import Path

from telemetryx.cli import output
from telemetryx.cli.errors import CliError, Exit
from telemetryx.cli.targets import STDOUT, needs_folder, open_end, told

BYTES = 32


def new(out: Path | None, note: str, *, as_json: bool) -> None:
    """Make one."""
    if "\n" in note or "\r" in note:
        raise CliError("--note has a line break", "write it in one line", Exit.USAGE)
    token = f"tx_{secrets.token_urlsafe(BYTES)}"
    if out is None or str(out) == STDOUT:
        output.said({"token": token, "note": note, "file": None}, token, as_json=as_json)
        return
    needs_folder(out)
    line = f"{token}  # {note}\n" if note else f"{token}\n"
    with told(out), open_end(out) as file:
        file.write(line.encode())
        file.flush()
        os.fsync(file.fileno())
    output.said({"token": token, "note": note, "file": str(out)}, token, as_json=as_json)
