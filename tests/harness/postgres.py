"""A PostgreSQL server for a collector: the one that the collector's own tests use."""

import sys

from tests.harness.stack import ROOT

sys.path.append(str(ROOT / "collector/tests"))

from postgres_server import PostgresServer

__all__ = ["PostgresServer", "section"]


def section(server: PostgresServer, database: str, more: str = "") -> str:
    """Write the collector's [store] table for a database."""
    return f'[store]\nurl = "{server.url(database)}"\npassword_file = "{server.password_file}"\n{more}'
