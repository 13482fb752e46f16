"""A certificate authority of a test's own, made by openssl."""

import subprocess
from pathlib import Path

_NEW = [
    "openssl",
    "req",
    "-x509",
    "-newkey",
    "ec",
    "-pkeyopt",
    "ec_paramgen_curve:P-256",
    "-nodes",
    "-days",
    "2",
]


def make_ca(folder: Path, address: str = "127.0.0.1") -> None:
    """Write ca.pem, and server.pem and server.key: a certificate for the address that the CA signed."""
    for more in (
        ["-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=test ca"],
        [
            "-keyout", "server.key", "-out", "server.pem", "-subj", f"/CN={address}", "-CA", "ca.pem", "-CAkey", "ca.key",
            "-addext", f"subjectAltName=IP:{address}", "-addext", "basicConstraints=critical,CA:FALSE",
        ],
    ):  # fmt: skip
        subprocess.run([*_NEW, *more], cwd=folder, check=True, capture_output=True, timeout=60)
