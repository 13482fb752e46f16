"""PostgreSQL over TLS: its certificate is checked against the CA that the url names, to the host's name."""

import os
import shutil
from pathlib import Path

import pytest

from certificates import make_ca
from postgres_server import PostgresServer
from reference_agent import T0, decoded, defined, samples
from telemetryx.errors import StoreError
from telemetryx.store.postgres.engine import PostgresEngine
from telemetryx.store.postgres.store import PostgresStore
from telemetryx.types import BatchKey, Stored
from telemetryx.wire.payload import Payload


def lend(source: Path, target: Path) -> None:
    """Copy a file for the user that the server runs as."""
    target.write_bytes(source.read_bytes())
    target.chmod(0o600)
    if os.geteuid() == 0:
        shutil.chown(target, "postgres")


async def test_a_server_is_checked_against_the_ca_of_the_url(tmp_path: Path) -> None:
    """verify-full with its CA connects and stores; with another CA the store isn't opened, and says why."""
    for folder in (ours := tmp_path / "ours", theirs := tmp_path / "theirs"):
        folder.mkdir()
        make_ca(folder)
    server = PostgresServer()
    cert, key = server.folder / "server.pem", server.folder / "server.key"
    for target in (cert, key):
        lend(ours / target.name, target)
    for setting in ("ssl=on", f"ssl_cert_file={cert}", f"ssl_key_file={key}"):
        server._options += ["-c", setting]
    try:
        server.start()
        url = f"{server.url(server.database())}?sslmode=verify-full&sslrootcert="
        store = await PostgresStore.open(PostgresEngine(f"{url}{ours}/ca.pem", server.password_file))
        batch = decoded(BatchKey("a", bytes(16), 1), Payload(samples({1: [(T0, 1.0)]})), defined("x"))
        assert isinstance((await store.commit([batch]))[0], Stored)
        assert (
            server.sql(
                "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE client_port > 0"
            )
            == "t"
        )
        await store.close()
        with pytest.raises(StoreError, match="certificate"):
            await PostgresStore.open(PostgresEngine(f"{url}{theirs}/ca.pem", server.password_file))
    finally:
        server.remove()
