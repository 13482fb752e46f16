"""Tables `account`, `api_token` and `first_link` (store/accounts.py says what they are); who is logged in is in logins.py.

Every change takes the row `accounts` of table meta first, so that changes go one after the other in all processes: the last
admin can't be removed twice at once, nor the first account made twice.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from telemetryx.clock import Clock
from telemetryx.store.accounts import (
    MAX_TOKENS,
    Account,
    AccountRefused,
    ApiToken,
    Arrival,
    Guess,
    NewSession,
    Role,
    Session,
    is_name,
    role_of,
    token_actor,
)
from telemetryx.store.audit import Actor, Entry
from telemetryx.store.tables import audit, logins
from telemetryx.store.tables.database import Database, Read, Write

_ACCOUNTS: Final = "id, name, role, password, created_ns, login_ns, issuer"
_TOKENS: Final = "id, name, role, created_ns, created_by, expires_ns, used_ns, revoked_ns"
SEEN_NS: Final = 60_000_000_000
"""How often it is written down that a session or a token is in use."""


class AccountTables:
    """A store's accounts. `read` and `write` run work on a snapshot, and in a transaction of its own; `look` runs one statement."""

    def __init__(self, read: Read, look: Read, write: Write, clock: Clock) -> None:
        """Take the way to the tables."""
        self._read = read
        self._look = look
        self._write = write
        self._clock = clock
        self._seen: dict[object, int] = {}

    async def any(self) -> bool:
        """Tell whether there is an account."""
        return bool(await self._look(_any))

    async def all(self) -> list[Account]:
        """Return all accounts, by name."""
        now = self._clock.now_ns()
        found: list[Account] = await self._read(lambda db: _all(db, now))
        return found

    async def account(self, name: str) -> Account | None:
        """Return one."""
        found: Account | None = await self._look(lambda db: find(db, name))
        return found

    async def add(self, name: str, role: Role, password: str, by: Actor) -> Account:
        """Make one."""
        now = self._clock.now_ns()
        made: Account = await self._write(lambda db: _add(db, name, role, password, by, now))
        return made

    async def arrive(self, who: Arrival, by: Actor) -> Account:
        """Return the account of somebody whom a provider vouches for; make it at first."""
        now = self._clock.now_ns()
        found: Account = await self._write(lambda db: _arrive(db, who, by, now))
        return found

    async def change_role(self, name: str, role: Role, by: Actor) -> Account:
        """Give somebody another role."""
        now = self._clock.now_ns()
        changed: Account = await self._write(lambda db: _change_role(db, name, role, by, now))
        return changed

    async def change_password(self, name: str, password: str, by: Actor) -> None:
        """Set a password; all the account's sessions end."""
        now = self._clock.now_ns()

        def work(db: Database) -> None:
            account = _locked(db, name)
            _refuse_foreign(account)
            db.execute("UPDATE account SET password = ? WHERE id = ?", (password, account.id))
            ended = logins.end_all(db, account.id)
            audit.note(db, now, Entry(by, "user.password", name, None, {"sessions_ended": ended}))

        await self._write(work)

    async def rehash(self, account: int, before: str, password: str) -> None:
        """Keep the same password in a newer form."""
        await self._write(
            lambda db: db.execute(
                "UPDATE account SET password = ? WHERE id = ? AND password = ?", (password, account, before)
            )
        )

    async def remove(self, name: str, by: Actor, *, revoke_tokens: bool = False) -> list[ApiToken]:
        """Delete somebody, and what they left behind if wanted."""
        now = self._clock.now_ns()

        def work(db: Database) -> list[ApiToken]:
            account = _locked(db, name)
            _keep_an_admin(db, account)
            logins.end_all(db, account.id)
            db.execute("DELETE FROM account WHERE id = ?", (account.id,))
            left = _made_by(_tokens(db), name, now)
            before = (
                {**_shown(account), "programs": [token.name for token in left]} if left else _shown(account)
            )
            audit.note(db, now, Entry(by, "user.remove", name, before, None))
            return [_revoke(db, token, by, now) for token in left] if revoke_tokens else left

        left: list[ApiToken] = await self._write(work)
        return left

    async def offer_first(self, link: bytes, expires_ns: int) -> bool:
        """Let who has this make the first account, once."""
        now = self._clock.now_ns()

        def work(db: Database) -> bool:
            _lock(db)
            db.execute("DELETE FROM first_link WHERE expires_ns <= ?", (now,))
            if _any(db):
                return False
            db.execute("INSERT INTO first_link VALUES (?, ?)", (link, expires_ns))
            return True

        return bool(await self._write(work))

    async def redeem_first(self, link: bytes, name: str, password: str, peer: str) -> Account | None:
        """Make the first account, an admin. Every link ends with it."""
        now = self._clock.now_ns()

        def work(db: Database) -> Account | None:
            _lock(db)
            found = db.execute(
                "SELECT 1 FROM first_link WHERE digest = ? AND expires_ns > ?", (link, now)
            ).fetchone()
            if found is None or _any(db):
                return None
            made = _add(db, name, Role.ADMIN, password, Actor(name, "console", peer), now)
            db.execute("DELETE FROM first_link")
            return made

        made: Account | None = await self._write(work)
        return made

    # --- who is logged in

    async def open_session(self, new: NewSession, by: Actor) -> None:
        """Log a browser in."""
        now = self._clock.now_ns()
        await self._write(lambda db: logins.begin(db, new, by, now))

    async def session(self, digest: bytes) -> Session | None:
        """Return a session that holds."""
        now = self._clock.now_ns()

        def work(db: Database) -> Session | None:
            row = logins.find(db, digest, now)
            if row is None:
                return None
            expires, account, token, mark = row
            who = _account(db, "id = ?", account) if account is not None else None
            what = _token(db, "id = ?", token, now) if token is not None else None
            if (account is not None and who is None) or (token is not None and what is None):
                return None
            return Session(digest, expires, who, what, mark)

        found: Session | None = await self._read(work)
        return found

    async def seen(self, session: bytes | None, token: int | None) -> None:
        """Note that a session or a token was used, now and then."""
        now = self._clock.now_ns()
        key: object = session if session is not None else token
        if now - self._seen.get(key, now - SEEN_NS) < SEEN_NS:
            return
        if len(self._seen) > MAX_TOKENS:
            self._seen.clear()
        self._seen[key] = now

        def work(db: Database) -> None:
            if session is not None:
                db.execute("UPDATE login_session SET seen_ns = ? WHERE digest = ?", (now, session))
            if token is not None:
                db.execute("UPDATE api_token SET used_ns = ? WHERE id = ?", (now, token))

        await self._write(work)

    async def close_session(self, digest: bytes, by: Actor) -> bool:
        """Log a browser out."""
        now = self._clock.now_ns()
        return bool(await self._write(lambda db: logins.end(db, digest, by, now)))

    async def close_sessions(self, account: int, by: Actor) -> int:
        """Log an account out everywhere."""
        now = self._clock.now_ns()

        def work(db: Database) -> int:
            ended = logins.end_all(db, account)
            audit.note(db, now, Entry(by, "session.end_all", by.name, None, {"sessions_ended": ended}))
            return ended

        return int(await self._write(work))

    # --- tokens of programs

    async def add_token(self, name: str, token: bytes, role: Role, expires_ns: int, by: Actor) -> ApiToken:
        """Enter a token by its digest."""
        now = self._clock.now_ns()

        def work(db: Database) -> ApiToken:
            _lock(db)
            (count,) = db.execute("SELECT count(*) FROM api_token").fetchone()
            if count >= MAX_TOKENS:
                # Those that ended long ago make room; their story is in the audit log.
                db.execute("DELETE FROM api_token WHERE revoked_ns IS NOT NULL OR expires_ns <= ?", (now,))
                (count,) = db.execute("SELECT count(*) FROM api_token").fetchone()
            if count >= MAX_TOKENS:
                raise AccountRefused(f"{count} tokens are valid; revoke some that nobody uses")
            same = db.execute(
                "SELECT revoked_ns IS NULL AND expires_ns > ? FROM api_token WHERE name = ?", (now, name)
            ).fetchone()
            if same is not None and same[0]:
                raise AccountRefused(f"there is a token {name!r} already: take another name")
            if same is not None:
                # The audit log names programs by it.
                raise AccountRefused(
                    f"there was a token {name!r} before, which doesn't hold any more: take another name, "
                    f"such as '{name} 2', so that the audit log tells them apart"
                )
            row = db.execute(
                "INSERT INTO api_token (name, digest, role, created_ns, created_by, expires_ns) "
                f"VALUES (?, ?, ?, ?, ?, ?) RETURNING {_TOKENS}",
                (name, token, role.word, now, by.name, expires_ns),
            ).fetchone()
            made = _token_of(row)
            audit.note(db, now, Entry(by, "token.create", name, None, _token_shown(made)))
            return made

        made: ApiToken = await self._write(work)
        return made

    async def tokens(self) -> list[ApiToken]:
        """Return all tokens, newest first."""
        found: list[ApiToken] = await self._read(_tokens)
        return found

    async def token(self, digest: bytes) -> ApiToken | None:
        """Return a token that holds."""
        now = self._clock.now_ns()
        found: ApiToken | None = await self._look(lambda db: _token(db, "digest = ?", digest, now))
        return found

    async def revoke_token(self, number: int, by: Actor) -> ApiToken:
        """End a token, and the sessions that began with it."""
        now = self._clock.now_ns()

        def work(db: Database) -> ApiToken:
            _lock(db)
            row = db.execute(f"SELECT {_TOKENS} FROM api_token WHERE id = ?", (number,)).fetchone()
            if row is None:
                raise AccountRefused(f"there is no token {number}", missing=True)
            token = _token_of(row)
            return token if token.revoked_ns is not None else _revoke(db, token, by, now)

        revoked: ApiToken = await self._write(work)
        return revoked

    # --- who guessed wrong

    async def knows_device(self, device: bytes, name: str) -> bool:
        """Tell whether a browser with this mark has logged in to this account before."""
        return bool(await self._read(lambda db: logins.knows(db, device, name)))

    async def attempt(self, guesses: Sequence[Guess]) -> int:
        """Count an attempt under these keys, or say how long to wait. A refused one costs a read only."""
        now = self._clock.now_ns()
        wait = int(await self._read(lambda db: logins.wait_ns(db, guesses, now)))
        return wait or int(await self._write(lambda db: logins.attempt(db, guesses, now)))

    async def succeeded(self, guesses: Sequence[Guess]) -> None:
        """Take an attempt back, and forget those of its source before it."""
        await self._write(lambda db: logins.succeeded(db, guesses))

    async def not_tried(self, guesses: Sequence[Guess]) -> None:
        """Take an attempt back."""
        await self._write(lambda db: logins.take_back(db, guesses))


# --- accounts


def find(db: Database, name: str) -> Account | None:
    """Return an account."""
    return _account(db, "name = ?", name)


def _account(db: Database, test: str, value: Any) -> Account | None:  # noqa: ANN401 - a column's value
    row = db.execute(f"SELECT {_ACCOUNTS} FROM account WHERE {test}", (value,)).fetchone()
    return None if row is None else _account_of(row)


def _account_of(row: Any) -> Account:  # noqa: ANN401 - a row
    number, name, role, password, created, login, issuer, *sessions = row
    return Account(number, name, role_of(role), password, created, login, issuer, *sessions)


def _all(db: Database, now_ns: int) -> list[Account]:
    rows = db.execute(
        f"SELECT {_ACCOUNTS}, (SELECT count(*) FROM login_session WHERE account_id = account.id AND expires_ns > ?) "
        "FROM account ORDER BY name",
        (now_ns,),
    ).fetchall()
    tokens = _tokens(db)
    found = map(_account_of, rows)
    return [replace(one, tokens=len(_made_by(tokens, one.name, now_ns))) for one in found]


def _any(db: Database) -> bool:
    return db.execute("SELECT 1 FROM account LIMIT 1").fetchone() is not None


def _lock(db: Database) -> None:
    db.execute(
        "INSERT INTO meta VALUES ('accounts', 1) ON CONFLICT (key) DO UPDATE SET value = meta.value + 1"
    )


def _locked(db: Database, name: str) -> Account:
    _lock(db)
    account = find(db, name)
    if account is None:
        raise AccountRefused(f"there is no account {name!r}", missing=True)
    return account


def _add(db: Database, name: str, role: Role, password: str, by: Actor, now_ns: int) -> Account:
    _lock(db)
    made = _insert(db, name, role, password, now_ns)
    audit.note(db, now_ns, Entry(by, "user.add", name, None, _shown(made)))
    return made


def _arrive(db: Database, who: Arrival, by: Actor, now_ns: int) -> Account:
    """By issuer and subject alone: a provider's names change hands, and may be those of accounts that it has no say in."""
    _lock(db)
    known = db.execute(
        f"SELECT {_ACCOUNTS} FROM account WHERE issuer = ? AND subject = ?", (who.issuer, who.subject)
    ).fetchone()
    if known is not None:
        account = _account_of(known)
        return account if account.role is who.role else _set_role(db, account, who.role, by, now_ns)
    made = _insert(db, who.name, who.role, "", now_ns)
    row = db.execute(
        f"UPDATE account SET issuer = ?, subject = ? WHERE id = ? RETURNING {_ACCOUNTS}",
        (who.issuer, who.subject, made.id),
    ).fetchone()
    made = _account_of(row)
    audit.note(db, now_ns, Entry(by, "user.add", who.name, None, _shown(made)))
    return made


def _insert(db: Database, name: str, role: Role, password: str, now_ns: int) -> Account:
    if not is_name(name):
        raise AccountRefused(
            f"{name!r} is no account's name: small letters, digits and . _ - @, at most 64, a letter or digit first"
        )
    if find(db, name) is not None:
        raise AccountRefused(f"there is an account {name!r} already: take another name")
    row = db.execute(
        f"INSERT INTO account (name, role, password, created_ns) VALUES (?, ?, ?, ?) RETURNING {_ACCOUNTS}",
        (name, role.word, password, now_ns),
    ).fetchone()
    return _account_of(row)


def _change_role(db: Database, name: str, role: Role, by: Actor, now_ns: int) -> Account:
    account = _locked(db, name)
    _refuse_foreign(account)
    if role is account.role:
        return account
    if role is not Role.ADMIN:
        _keep_an_admin(db, account)
    return _set_role(db, account, role, by, now_ns)


def _set_role(db: Database, account: Account, role: Role, by: Actor, now_ns: int) -> Account:
    row = db.execute(
        f"UPDATE account SET role = ? WHERE id = ? RETURNING {_ACCOUNTS}", (role.word, account.id)
    ).fetchone()
    changed = _account_of(row)
    audit.note(db, now_ns, Entry(by, "user.role", account.name, _shown(account), _shown(changed)))
    return changed


def _refuse_foreign(account: Account) -> None:
    """Refuse to change here what a provider says: it would say otherwise at the next login."""
    if account.issuer is not None:
        raise AccountRefused(
            f"{account.name} signs in at {account.issuer}, which says what they may do: change it there"
        )


def _keep_an_admin(db: Database, account: Account) -> None:
    """Refuse to take the last admin with a password away: with the provider gone nobody could make another."""
    others = "SELECT 1 FROM account WHERE role = 'admin' AND issuer IS NULL AND id != ? LIMIT 1"
    last = account.role is Role.ADMIN and account.issuer is None
    if last and db.execute(others, (account.id,)).fetchone() is None:
        raise AccountRefused(f"{account.name} is the only admin with a password: make another one first")


def _shown(account: Account) -> dict[str, Any]:
    shown = {"name": account.name, "role": account.role.word}
    return shown if account.issuer is None else {**shown, "issuer": account.issuer}


# --- tokens


def _token(db: Database, test: str, value: Any, now_ns: int) -> ApiToken | None:  # noqa: ANN401 - a column's value
    row = db.execute(
        f"SELECT {_TOKENS} FROM api_token WHERE {test} AND revoked_ns IS NULL AND expires_ns > ?",
        (value, now_ns),
    ).fetchone()
    return None if row is None else _token_of(row)


def _tokens(db: Database) -> list[ApiToken]:
    return [_token_of(row) for row in db.execute(f"SELECT {_TOKENS} FROM api_token ORDER BY id DESC")]


def _made_by(tokens: Sequence[ApiToken], name: str, now_ns: int) -> list[ApiToken]:
    """Return the tokens that hold and that an account made, itself or with a token of its own, also with one that ended since."""
    makers, made = [name], dict[int, ApiToken]()
    while makers:
        maker = makers.pop()
        found = [one for one in tokens if one.created_by == maker and one.id not in made]
        made |= {one.id: one for one in found}
        makers += [token_actor(one.name) for one in found]
    return [one for one in made.values() if one.revoked_ns is None and one.expires_ns > now_ns]


def _revoke(db: Database, token: ApiToken, by: Actor, now_ns: int) -> ApiToken:
    """End one, and the sessions that began with it."""
    row = db.execute(
        f"UPDATE api_token SET revoked_ns = ? WHERE id = ? RETURNING {_TOKENS}", (now_ns, token.id)
    ).fetchone()
    db.execute("DELETE FROM login_session WHERE token_id = ?", (token.id,))
    audit.note(db, now_ns, Entry(by, "token.revoke", token.name, _token_shown(token), None))
    return _token_of(row)


def _token_of(row: Any) -> ApiToken:  # noqa: ANN401 - a row
    number, name, role, *rest = row
    return ApiToken(number, name, role_of(role), *rest)


def _token_shown(token: ApiToken) -> dict[str, Any]:
    return {"name": token.name, "role": token.role.word, "expires_ns": token.expires_ns}
