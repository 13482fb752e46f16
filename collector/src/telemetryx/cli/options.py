"""Options that many commands have in common, and what is made of them."""

from pathlib import Path
from typing import Annotated

import typer

from telemetryx.cli.client import Asked, Client, read_token
from telemetryx.cli.output import Format

Url = Annotated[str, typer.Option("--url", envvar="TELEMETRYX_URL", help="The collector's address.")]
TokenFile = Annotated[
    Path | None,
    typer.Option("--token-file", envvar="TELEMETRYX_TOKEN_FILE", help="File with a token.", dir_okay=False),
]
CaFile = Annotated[
    Path | None,
    typer.Option("--ca-file", envvar="TELEMETRYX_CA_FILE", help="Authority of its certificate, PEM."),
]
Json = Annotated[bool, typer.Option("--json", help="Print the API's answer as JSON.")]
Show = Annotated[Format, typer.Option("--format", "-f", help="How to print.")]
ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", "-c", envvar="TELEMETRYX_CONFIG", help="TOML file; without one, defaults."),
]
Straight = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        help="Work straight in the store of this configuration: on the collector's machine, as root or its user, without a login.",
    ),
]
#: A day alone is UTC's, as everywhere.
SINCE = "Begin: a span before now like {}, or a time: 2026-03-01T10:00:00Z, or 2026-03-01 (midnight UTC)."
Since = Annotated[str, typer.Option("--since", help=SINCE.format("15m"))]
Until = Annotated[str | None, typer.Option("--until", help="End, likewise: now when left out.")]
Agent = Annotated[str | None, typer.Option("--agent", help="Only this agent's.")]
Timeout = Annotated[
    str, typer.Option("--timeout", metavar="SPAN", help="How long it may take, e.g. 30s or 10m.")
]
Memory = Annotated[
    int, typer.Option("--memory", min=256, max=1 << 20, help="MiB of memory that it may take.")
]
Limit = Annotated[int, typer.Option("--limit", min=1, max=1_000, help="Rows at most.")]
Many = Annotated[int, typer.Option("--limit", min=1, max=100_000, help="Rows at most.")]


def client(url: str, token_file: Path | None, ca_file: Path | None) -> Client:
    """Make a client of a collector's API."""
    return Client(url, read_token(token_file), ca_file)


def asked_of(config: Path | None, url: str, token_file: Path | None, ca_file: Path | None) -> Asked:
    """Return who answers: with --config the store itself, else a collector."""
    if config is None:
        return client(url, token_file, ca_file)
    from telemetryx.cli.straight import Straight

    return Straight(config)


def shown_as(how: Format, as_json: bool) -> Format:
    """Return how to print: --json wins over --format."""
    return Format.JSON if as_json else how
