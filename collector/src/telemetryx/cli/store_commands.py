"""Declares `telemetryx store check|backup|restore|copy|verify|rebuild|clock|stats`; what each does stands in store.py and moving.py."""

from pathlib import Path
from typing import Annotated

import typer

from telemetryx.cli.options import ConfigFile, Json, filled, given

app = typer.Typer(help="Look after the store.", no_args_is_help=True)


@app.command("check")
def check(config: ConfigFile = None, as_json: Json = False) -> None:
    """Check that a collector can work on the store: it is there, ours, of a known schema, whole and writable."""
    from telemetryx.cli import store

    store.check(config, as_json=as_json)


@app.command("backup")
def backup(
    to: Annotated[Path, typer.Argument(parser=given, metavar="FILE", help="The file to write.")],
    config: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Write the whole store into one file, also while a collector runs on it. Of a database in PostgreSQL too."""
    from telemetryx.cli import moving

    moving.backup(config, to, as_json=as_json)


@app.command("restore")
def restore(
    source: Annotated[Path, typer.Argument(parser=given, metavar="FILE", help="What `backup` wrote.")],
    config: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Make a backup the collector's store, where there is none or an empty database; with the collector stopped."""
    from telemetryx.cli import moving

    moving.restore(config, source, as_json=as_json)


@app.command("copy")
def copy(
    to: Annotated[
        str,
        typer.Option(
            "--to",
            parser=filled,
            metavar="STORE",
            help="A file, or postgresql://…: not there yet, or empty.",
        ),
    ],
    password_file: Annotated[
        Path | None,
        typer.Option(
            "--to-password-file",
            parser=given,
            metavar="FILE",
            help="The database's password, in a file.",
        ),
    ] = None,
    config: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Copy the store into another one, from SQLite to PostgreSQL or back; rows are counted on both sides.

    Stop the collector first, a running one is refused: what it stores meanwhile would be missing, and agents don't send it again.
    """
    from telemetryx.cli import moving

    moving.copy(config, to, password_file, as_json=as_json)


@app.command("verify")
def verify(config: ConfigFile = None, as_json: Json = False) -> None:
    """Check that the store is sound, and that ledger, batches and chunks agree."""
    from telemetryx.cli import store

    store.verify(config, as_json=as_json)


@app.command("rebuild")
def rebuild(config: ConfigFile = None, as_json: Json = False) -> None:
    """Have rollups computed anew that verify finds wrong: from raw data while that is kept, hours from before it from their minutes. Also while a collector runs."""
    from telemetryx.cli import store

    store.rebuild(config, as_json=as_json)


@app.command("clock")
def clock(
    config: ConfigFile = None,
    confirm: Annotated[
        bool, typer.Option("--confirm", help="This machine's clock is right: delete by it from now on.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show what time retention goes by, and confirm a clock that it doubts because it is far ahead of when the store was in use last."""
    from telemetryx.cli import store

    store.clock(config, confirm=confirm, as_json=as_json)


@app.command("stats")
def stats(config: ConfigFile = None, as_json: Json = False) -> None:
    """Show how big the store is and what is in it."""
    from telemetryx.cli import store

    store.stats(config, as_json=as_json)
