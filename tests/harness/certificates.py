"""Authorities and certificates of a test's own."""

import subprocess
from pathlib import Path

from tests.harness.processes import PATIENCE

_MAKE = [
    "openssl",
    "req",
    "-x509",
    "-newkey",
    "ec",
    "-pkeyopt",
    "ec_paramgen_curve:prime256v1",
    "-nodes",
    "-days",
    "2",
]


def authority(folder: Path, name: str) -> tuple[Path, Path]:
    """Make an authority; return its certificate, NAME.pem, and its key."""
    cert, key = folder / f"{name}.pem", folder / f"{name}.key"
    _make("-subj", f"/CN={name}", "-keyout", key, "-out", cert)
    return cert, key


def signed(folder: Path, by: tuple[Path, Path]) -> tuple[Path, Path]:
    """Make a certificate for localhost that an authority signed; return it and its key."""
    cert, key = folder / "server.pem", folder / "server.key"
    extensions = ("-addext", "subjectAltName=DNS:localhost", "-addext", "basicConstraints=critical,CA:FALSE")
    _make("-CA", by[0], "-CAkey", by[1], "-subj", "/CN=localhost", "-keyout", key, "-out", cert, *extensions)
    return cert, key


def _make(*words: str | Path) -> None:
    subprocess.run([*_MAKE, *map(str, words)], check=True, capture_output=True, timeout=PATIENCE)
