"""The console's libraries: each file that `vendor.toml` lists is there, is what the registry had, and nothing else is."""

import hashlib
import tomllib
from pathlib import Path

import telemetryx

CONSOLE = Path(telemetryx.__file__).parent / "console"


def listed() -> dict[str, str]:
    """Path below `vendor/` to sha256, as `vendor.toml` has them."""
    libraries = tomllib.loads((CONSOLE / "vendor.toml").read_text(encoding="utf-8"))["library"]
    return {
        f"{library['npm'].split('/')[-1]}-{library['version']}/{name}": digest
        for library in libraries
        for name, digest in library["files"].items()
    }


def test_every_vendored_file_is_the_one_that_was_reviewed() -> None:
    """A library that is missing, edited or swapped fails here, not as an empty page in somebody's browser."""
    vendor = CONSOLE / "vendor"
    found = {
        str(path.relative_to(vendor)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in vendor.rglob("*")
        if path.is_file()
    }
    assert found == listed()
    assert any(path.endswith(".mjs") for path in found)
