"""Where a Redis server is: known without the library, which is loaded when there is one."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Address:
    """Where the server is. `url` is redis://, rediss:// or unix://, without a password."""

    url: str
    user: str | None = None
    password_file: Path | None = None
    ca_file: Path | None = None
    timeout_s: float = 0.5
