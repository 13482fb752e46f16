"""`telemetryx token new|create|ls|revoke`: lines for a token file, and tokens that are kept in the store."""

from pathlib import Path
from typing import Annotated

import typer

from telemetryx.cli import output
from telemetryx.cli.errors import CliError, Exit
from telemetryx.cli.options import ConfigFile, Json, Show, given, shown_as
from telemetryx.cli.output import Format
from telemetryx.cli.users import RoleWord

app = typer.Typer(
    help="Tokens of programs: kept in the store (create, ls, revoke), or lines for a token file (new).",
    no_args_is_help=True,
)


@app.command("new")
def new(
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", parser=given, metavar="FILE", help="Add it to this token file (made with mode 600)."
        ),
    ] = None,
    note: Annotated[str, typer.Option("--note", help="A comment beside it: for whom it is.")] = "",
    as_json: Json = False,
) -> None:
    """Make a random token for a token file."""
    from telemetryx.cli import token

    token.new(out, note, as_json=as_json)


@app.command("create")
def create(
    name: Annotated[str, typer.Argument(help="What it is for.")],
    role: Annotated[RoleWord, typer.Option("--role", help="What it may do.")] = RoleWord.VIEWER,
    expires: Annotated[str, typer.Option("--expires", help="How long it holds, at most ten years.")] = "90d",
    config: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Make a token that is kept in the store, as its digest: it is printed once."""
    import re
    import secrets
    import time

    from telemetryx.api.times import TimeError, parse_duration
    from telemetryx.cli import direct
    from telemetryx.cli.token import BYTES
    from telemetryx.store.accounts import LONGEST_TOKEN_NS, TOKEN_NAME, digest, role_of

    if re.fullmatch(TOKEN_NAME, name) is None:
        raise CliError(f"{name!r} is no token's name", "letters, digits, spaces and . _ - @", Exit.USAGE)
    try:
        lasts = parse_duration(expires)
    except TimeError as error:
        raise CliError(f"--expires: {error}", code=Exit.USAGE) from error
    if not 0 < lasts <= LONGEST_TOKEN_NS:
        raise CliError(f"--expires {expires}: a token holds for at most ten years", code=Exit.USAGE)
    token = f"tx_{secrets.token_urlsafe(BYTES)}"
    with direct.accounts(config) as accounts, direct.refusals():
        made = direct.done(
            accounts.add_token(
                name, digest(token), role_of(role.value), time.time_ns() + lasts, direct.actor()
            )
        )
    fields = {"id": made.id, "name": made.name, "role": made.role.word, "expires_ns": made.expires_ns}
    output.said({**fields, "token": token}, token, as_json=as_json)


@app.command("ls")
def ls(config: ConfigFile = None, how: Show = Format.TABLE, as_json: Json = False) -> None:
    """List the tokens that are kept in the store."""
    from dataclasses import asdict

    from telemetryx.cli import direct

    with direct.accounts(config) as accounts:
        found = direct.done(accounts.tokens())
    rows = [{**asdict(one), "role": one.role.word} for one in found]
    none = "there is no token: `telemetryx token create NAME` makes one"
    output.listed({"tokens": rows}, rows, shown_as(how, as_json), _shown, none=none)


def _shown(row: dict[str, object]) -> dict[str, object]:
    def moment(key: str) -> str:
        value = row[key]
        return output.moment(value if isinstance(value, int) else None)

    return {
        "id": str(row["id"]),
        "name": row["name"],
        "role": row["role"],
        "by": row["created_by"],
        "until": moment("expires_ns"),
        "last used": moment("used_ns"),
        "revoked": moment("revoked_ns"),
    }


@app.command("revoke")
def revoke(
    which: Annotated[
        str, typer.Argument(metavar="ID|NAME", help="Its number or name, as `token ls` says it.")
    ],
    config: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """End a token; it counts at once."""
    from telemetryx.cli import direct

    with direct.accounts(config) as accounts, direct.refusals():
        found = direct.done(accounts.tokens())
        named = next((one for one in found if one.name == which), None)
        numbered = next((one for one in found if str(one.id) == which), None)
        meant = named or numbered
        if meant is None:
            raise CliError(f"there is no token {which!r}", "`telemetryx token ls` lists them")
        if named is not None and numbered is not None and named.id != numbered.id:
            raise CliError(
                f"{which} is the name of token {named.id}, and the number of token {numbered.name!r}",
                f"say {named.id} for the first, {numbered.name!r} for the second",
                Exit.USAGE,
            )
        ended = direct.done(accounts.revoke_token(meant.id, direct.actor()))
    fields = {"id": ended.id, "name": ended.name}
    output.said(fields, f"token {ended.id} ({ended.name}) is revoked", as_json=as_json)
