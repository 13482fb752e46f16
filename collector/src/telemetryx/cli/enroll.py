"""`telemetryx enroll`: tokens with which hosts join."""

import getpass
import json
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from telemetryx.cli import output
from telemetryx.cli.client import DEFAULT_URL, refused
from telemetryx.cli.errors import CliError, Exit
from telemetryx.cli.options import (
    CaFile,
    Json,
    Limit,
    Show,
    Straight,
    TokenFile,
    Url,
    client,
    given,
    shown_as,
)
from telemetryx.cli.output import Format

app = typer.Typer(help="Make, list and revoke the tokens with which hosts join.", no_args_is_help=True)


@app.command("token")
def token(
    site: Annotated[str, typer.Option("--site", help="The site of those who join with it.")] = "",
    uses: Annotated[
        int, typer.Option("--uses", min=1, max=10_000, help="How many hosts may join with it.")
    ] = 1,
    expires: Annotated[
        str, typer.Option("--expires", metavar="SPAN", help="For how long it can be used.")
    ] = "24h",
    agent: Annotated[
        str | None, typer.Option("--agent", metavar="NAME", help="Only for an agent of this name.")
    ] = None,
    replace: Annotated[
        bool,
        typer.Option("--replace", help="Let it take the place of the agent of that name: its rebuilt host."),
    ] = False,
    config: Straight = None,
    as_json: Json = False,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    ca_file: CaFile = None,
) -> None:
    """Make a token, and print the line to paste on the host. It is shown this once."""
    body = {
        "site": site,
        "uses": uses,
        "expires": expires,
        "agent": agent,
        "replace": replace,
        "author": _author(),
    }
    if config is None:
        made = client(url, token_file, ca_file).send("POST", "/enroll/tokens", body)
    else:
        made = _straight(config, body)
    output.said(made, made["command"], as_json=as_json)


def _straight(config: Path, body: dict[str, Any]) -> dict[str, Any]:
    """Make a token in the store, as the API does."""
    from telemetryx.api.errors import BadRequest
    from telemetryx.api.models import NewEnrollTokenBody
    from telemetryx.api.route import body_of
    from telemetryx.cli import direct
    from telemetryx.store.enrolment import EnrolmentRefused

    try:
        asked = body_of(NewEnrollTokenBody, json.dumps(body).encode(), time.time_ns())
    except BadRequest as error:
        raise refused("/enroll/tokens", error.status, error.message, error.hint) from error
    with direct.enrolment(config) as door:
        try:
            text, row = direct.done(
                door.new_token(
                    direct.actor(),
                    site=asked.site,
                    agent=asked.agent or "",
                    replace=asked.replace,
                    uses=asked.uses,
                    lifetime_ns=asked.expires,
                )
            )
        except EnrolmentRefused as error:
            raise CliError(str(error), error.hint, Exit.REFUSED) from error
        kept = {"id": row.id, "site": row.site, "agent": row.agent or None, "expires_ns": row.expires_ns}
        return {**kept, "token": text, "url": door.policy.url, "command": door.line(text, row)}


@app.command("ls")
def ls(
    limit: Limit = 100,
    how: Show = Format.TABLE,
    config: Straight = None,
    as_json: Json = False,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    ca_file: CaFile = None,
) -> None:
    """List tokens, newest first, without their secrets."""
    if config is None:
        answer = client(url, token_file, ca_file).get("/enroll/tokens", {"limit": limit})
    else:
        from telemetryx.cli import joined

        answer = joined.tokens(config, limit)
    none = "there is no enrolment token; `telemetryx enroll token` makes one"
    output.listed(answer, answer["tokens"], shown_as(how, as_json), _shown, none=none)


@app.command("revoke")
def revoke(
    number: Annotated[int, typer.Argument(min=1, help="Its id, as `enroll ls` says it.")],
    config: Straight = None,
    as_json: Json = False,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    ca_file: CaFile = None,
) -> None:
    """Let nobody use a token any more. Who joined with it stays; `telemetryx agents revoke` shuts agents out."""
    if config is None:
        row = client(url, token_file, ca_file).send("DELETE", f"/enroll/tokens/{number}")
    else:
        from telemetryx.cli import joined

        row = joined.revoke_token(config, number)
    output.said(row, f"enrolment token {row['id']}: {row['state']}", as_json=as_json)


@app.command("authority")
def authority(
    folder: Annotated[
        Path, typer.Argument(parser=given, metavar="FOLDER", help="Where it goes: ca.key and ca.pem.")
    ],
    as_json: Json = False,
) -> None:
    """Make the authority that signs for agents and collectors, before the first collector starts; what is in the folder already stays.

    Collectors that share a store need the same one: give each a copy as [enroll] dir.
    """
    from telemetryx.enrolment.authority import Authority, AuthorityError

    try:
        made = Authority.open(folder, time.time_ns())
    except AuthorityError as error:
        raise CliError(str(error), code=Exit.REFUSED) from error
    fields = {"folder": str(folder), "fingerprint": made.fingerprint.hex()}
    sentence = f"{folder}/ca.key and {folder}/ca.pem: keep the key secret, and a backup of it"
    output.said(fields, sentence, as_json=as_json)


def _author() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    only = f"{row['agent']}{' (may replace it)' if row['replace'] else ''}" if row["agent"] else "any"
    return {
        "id": str(row["id"]),
        "state": row["state"],
        "site": row["site"],
        "agent": only,
        "used": f"{row['used']} of {row['uses']}",
        "until": output.moment(row["expires_ns"]),
        "by": row["author"],
    }
