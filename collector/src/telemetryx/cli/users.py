"""`telemetryx user add|ls|passwd|role|rm`: people's accounts, straight in the store."""

import getpass
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from telemetryx.cli import output
from telemetryx.cli.errors import CliError, Exit
from telemetryx.cli.options import ConfigFile, Json, Show, given, shown_as
from telemetryx.cli.output import Format
from telemetryx.errors import unread

app = typer.Typer(
    help="People's accounts, straight in the store: run it on the collector's machine, as its user.",
    no_args_is_help=True,
)


class RoleWord(StrEnum):
    """What somebody may do."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"


User = Annotated[str, typer.Argument(metavar="NAME", help="The account's name.")]
PasswordFile = Annotated[
    Path | None,
    typer.Option(
        "--password-file",
        parser=given,
        metavar="FILE",
        help="File with the password; - reads it. Without, it is asked for.",
    ),
]


@app.command("add")
def add(
    name: User,
    role: Annotated[RoleWord, typer.Option("--role", help="What they may do.")] = RoleWord.VIEWER,
    password_file: PasswordFile = None,
    config: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Make an account."""
    from telemetryx.api.passwords import make
    from telemetryx.cli import direct
    from telemetryx.store.accounts import role_of

    password = _password(name, password_file)
    with direct.accounts(config) as accounts, direct.refusals():
        made = direct.done(accounts.add(name, role_of(role.value), make(password), direct.actor()))
    _said(as_json, f"{made.name} is there: {made.role.word}", name=made.name, role=made.role.word)


@app.command("ls")
def ls(config: ConfigFile = None, how: Show = Format.TABLE, as_json: Json = False) -> None:
    """List the accounts."""
    from telemetryx.cli import direct

    with direct.accounts(config) as accounts:
        found = direct.done(accounts.all())
    rows = [
        {
            "name": one.name,
            "role": one.role.word,
            "created_ns": one.created_ns,
            "login_ns": one.login_ns,
            "issuer": one.issuer,
            "sessions": one.sessions,
            "tokens": one.tokens,
        }
        for one in found
    ]
    none = "there is no account: `telemetryx user add NAME --role admin` makes one"
    output.listed({"users": rows}, rows, shown_as(how, as_json), _shown, none=none)


def _shown(row: dict[str, object]) -> dict[str, object]:
    created, login = row["created_ns"], row["login_ns"]
    return {
        "name": row["name"],
        "role": row["role"],
        "since": output.moment(created if isinstance(created, int) else None),
        "last login": output.moment(login if isinstance(login, int) else None),
        "signs in": row["issuer"] or "with a password",
        "logged in with": row["sessions"],
        "tokens": row["tokens"],
    }


@app.command("passwd")
def passwd(
    name: User, password_file: PasswordFile = None, config: ConfigFile = None, as_json: Json = False
) -> None:
    """Set a password; the account is logged out everywhere."""
    from telemetryx.api.passwords import make
    from telemetryx.cli import direct

    password = _password(name, password_file)
    with direct.accounts(config) as accounts, direct.refusals():
        direct.done(accounts.change_password(name, make(password), direct.actor()))
    _said(as_json, f"{name} has a new password, and is logged out everywhere", name=name)


@app.command("role")
def role(
    name: User,
    new: Annotated[RoleWord, typer.Argument(metavar="ROLE", help="viewer, operator or admin.")],
    config: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Give an account another role; it counts at once."""
    from telemetryx.cli import direct
    from telemetryx.store.accounts import role_of

    with direct.accounts(config) as accounts, direct.refusals():
        direct.done(accounts.change_role(name, role_of(new.value), direct.actor()))
    _said(as_json, f"{name} is {new.value}", name=name, role=new.value)


@app.command("rm")
def rm(
    name: User,
    revoke: Annotated[
        bool | None,
        typer.Option(
            "--revoke-tokens/--keep-tokens",
            help="What becomes of the tokens that it made. At a terminal it is asked; else they are kept.",
            show_default=False,
        ),
    ] = None,
    config: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Delete an account; its sessions end. Says which tokens it made that hold, and revokes them if wanted."""
    from telemetryx.cli import direct

    with direct.accounts(config) as accounts, direct.refusals():
        if revoke is None and not as_json and _at_terminal():
            revoke = _asked(
                next((one.tokens for one in direct.done(accounts.all()) if one.name == name), 0), name
            )
        left = direct.done(accounts.remove(name, direct.actor(), revoke_tokens=bool(revoke)))
    rows = [{"id": one.id, "name": one.name, "revoked_ns": one.revoked_ns} for one in left]
    _said(as_json, _gone(name, [one.name for one in left], revoked=bool(revoke)), name=name, tokens=rows)


def _at_terminal() -> bool:
    return sys.stdin.isatty()


def _asked(tokens: int, name: str) -> bool:
    """Ask what becomes of what an account leaves behind; nothing where there is nothing."""
    if not tokens:
        return False
    return typer.confirm(
        f"{name} made {_counted(tokens)} that {_hold(tokens)}. Revoke {'it' if tokens == 1 else 'them'} too?",
        default=True,
        err=True,
    )


def _gone(name: str, tokens: list[str], *, revoked: bool) -> str:
    if not tokens:
        return f"{name} is gone"
    names, count = ", ".join(tokens), _counted(len(tokens))
    if revoked:
        return (
            f"{name} is gone, and {count} that it made {'is' if len(tokens) == 1 else 'are'} revoked: {names}"
        )
    return f"{name} is gone; {count} that it made still {_hold(len(tokens))} (`telemetryx token revoke NAME` ends one): {names}"


def _counted(tokens: int) -> str:
    return "a token" if tokens == 1 else f"{tokens} tokens"


def _hold(tokens: int) -> str:
    return "holds" if tokens == 1 else "hold"


def _password(name: str, file: Path | None) -> str:
    """Read a password from a file, or ask twice; never from the command line, which others can see."""
    from telemetryx.api.passwords import weakness

    if file is not None:
        try:
            text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise CliError(
                f"--password-file {file} can't be read: {unread(error)}", code=Exit.USAGE
            ) from error
        password = text.splitlines()[0] if text else ""
    elif sys.stdin.isatty():
        password = getpass.getpass(f"Password for {name}: ")
        if getpass.getpass("Again: ") != password:
            raise CliError("the two aren't the same", code=Exit.USAGE)
    else:
        raise CliError(
            "there is nobody to ask for the password", "give --password-file FILE, or -", Exit.USAGE
        )
    if (why := weakness(name, password)) is not None:
        raise CliError(why, "a sentence of four words is good, and easy to keep in mind", Exit.USAGE)
    return password


def _said(as_json: bool, sentence: str, **fields: object) -> None:
    output.said(fields, sentence, as_json=as_json)
