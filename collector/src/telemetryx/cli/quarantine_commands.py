"""Declares `telemetryx quarantine ls|show|release|drop`; what each does stands in quarantine.py."""

from typing import Annotated

import typer

from telemetryx.cli.client import DEFAULT_URL
from telemetryx.cli.options import Agent, CaFile, Json, Many, Show, TokenFile, Url, client, shown_as
from telemetryx.cli.output import Format

app = typer.Typer(
    help="Look into batches that are kept apart because their times are far ahead; let them in or drop them.",
    no_args_is_help=True,
)

QuarantineId = Annotated[int, typer.Argument(min=1, help="Its id, as `quarantine ls` says it.")]


@app.command("ls")
def ls(
    agent: Agent = None,
    limit: Many = 50,
    how: Show = Format.TABLE,
    as_json: Json = False,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    ca_file: CaFile = None,
) -> None:
    """List batches that are kept apart, newest first."""
    from telemetryx.cli import quarantine

    quarantine.ls(client(url, token_file, ca_file), {"agent": agent, "limit": limit}, shown_as(how, as_json))


@app.command("show")
def show(
    number: QuarantineId,
    as_json: Json = False,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    ca_file: CaFile = None,
) -> None:
    """Show what is in one: its series and events."""
    from telemetryx.cli import quarantine

    quarantine.show(client(url, token_file, ca_file), number, as_json=as_json)


@app.command("release")
def release(
    number: QuarantineId,
    shift: Annotated[
        str | None,
        typer.Option(
            "--shift", help="Move its times by a span, e.g. --shift=-2d12h for a clock that was ahead."
        ),
    ] = None,
    to_arrival: Annotated[
        bool, typer.Option("--to-arrival", help="Move its times so that the latest is when the batch came.")
    ] = False,
    as_json: Json = False,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    ca_file: CaFile = None,
) -> None:
    """Store one; what was moved is marked as uncertain."""
    from telemetryx.cli import quarantine

    quarantine.release(
        client(url, token_file, ca_file), number, shift, to_arrival=to_arrival, as_json=as_json
    )


@app.command("drop")
def drop(
    number: QuarantineId,
    as_json: Json = False,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    ca_file: CaFile = None,
) -> None:
    """Delete one for good; its readings stay counted as refused."""
    from telemetryx.cli import quarantine

    quarantine.drop(client(url, token_file, ca_file), number, as_json=as_json)
