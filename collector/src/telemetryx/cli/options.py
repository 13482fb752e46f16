"""Options and arguments that many commands have in common, how they are read, and what is made of them."""

from pathlib import Path
from typing import Annotated, Final

import typer

from telemetryx.cli.client import Asked, Client, read_token
from telemetryx.cli.errors import CliError, Exit
from telemetryx.cli.output import Format

LONGEST_WAIT_S: Final = 86_400


def filled(text: str) -> str:
    """Refuse what is empty where a file or a folder is to be named: a path of nothing would be the folder that one is in."""
    if not text:
        raise typer.BadParameter("it is empty: name a file or a folder")
    return text


def given(text: str) -> Path:
    """Read a path."""
    return Path(filled(text))


def seconds(value: str | int) -> int:
    """Read how long to wait: a span like 30s or 2m, or a number of seconds, as the default is."""
    from telemetryx.api.times import NS, TimeError, parse_duration

    text = str(value)
    try:
        wait = int(text) if text.isdecimal() and len(text) < 10 else -(-parse_duration(text) // NS)  # noqa: PLR2004
    except TimeError as error:
        raise typer.BadParameter(str(error)) from error
    if not 1 <= wait <= LONGEST_WAIT_S:
        raise typer.BadParameter(f"{text}: from 1s to 24h")
    return wait


Url = Annotated[str, typer.Option("--url", envvar="TELEMETRYX_URL", help="The collector's address.")]
TokenFile = Annotated[
    Path | None,
    typer.Option(
        "--token-file",
        envvar="TELEMETRYX_TOKEN_FILE",
        parser=given,
        metavar="FILE",
        help="File with a token.",
    ),
]
CaFile = Annotated[
    Path | None,
    typer.Option(
        "--ca-file",
        envvar="TELEMETRYX_CA_FILE",
        parser=given,
        metavar="FILE",
        help="Authority of its certificate, PEM.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the API's answer as JSON.")]
Show = Annotated[Format, typer.Option("--format", "-f", help="How to print.")]
ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        envvar="TELEMETRYX_CONFIG",
        parser=given,
        metavar="FILE",
        help="TOML file; without one, defaults.",
    ),
]
Straight = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        parser=given,
        metavar="FILE",
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
Match = Annotated[str | None, typer.Option("--match", help="Only series that match this selector.")]
Force = Annotated[bool, typer.Option("--force", help="Overwrite files that are there.")]
AgentName = Annotated[str, typer.Argument(metavar="NAME", help="The agent's name.")]
Wait = Annotated[
    int,
    typer.Option(
        "--timeout",
        parser=seconds,
        metavar="SPAN",
        help="How long to wait while nothing comes, e.g. 30s or 2m; a number alone is seconds.",
    ),
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
    """Return how to print: --json is JSON. Raises CliError for it beside a --format of something else."""
    if as_json and how in {Format.CSV, Format.NDJSON}:
        raise CliError(
            f"--json and --format {how.value} are two ways to print", "give one of them", Exit.USAGE
        )
    return Format.JSON if as_json else how
