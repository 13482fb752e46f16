"""The audit log: who changed what, when, from where, with what it was before and after. Rows are added and read, never changed.

A change notes itself in its own transaction (tables/audit.note), so there is no change without its row and no row without its
change; `Store.audit` is for what is changed elsewhere than in the store. Secrets never come in: values under names that hold
one are left out here, whoever writes the entry.
"""

import re
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

MAX_TEXT: Final = 1_000
"""Characters of one text in an entry; what is longer is cut."""
MAX_DEPTH: Final = 8
MAX_ITEMS: Final = 200
HIDDEN: Final = "(not shown)"
_SECRET: Final = re.compile(
    r"password|passwd|secret|token|credential|cookie|private|(^|_)(key|code|csrf)$", re.IGNORECASE
)
_HARMLESS: Final = re.compile(r"(^|_)(id|name|names|count|file|expires_ns)$", re.IGNORECASE)
"""Names that speak about a secret without holding it: token_id, password_file."""

Fields = Mapping[str, Any]
"""What a thing is, by name; JSON."""


@dataclass(frozen=True, slots=True)
class Actor:
    """Who does something. `via` is the door: api, console, cli, agent, or collector for what it does by itself."""

    name: str
    via: str
    peer: str = ""
    """From where: an address, or a host's name."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One change. `action` is a noun and a verb (`silence.add`), `target` names the thing."""

    actor: Actor
    action: str
    target: str = ""
    before: Fields | None = None
    after: Fields | None = None


@dataclass(frozen=True, slots=True)
class Audited:
    """An entry as it stands in the log."""

    id: int
    at_ns: int
    actor: Actor
    action: str
    target: str
    before: Fields | None = field(default=None)
    after: Fields | None = field(default=None)


@dataclass(frozen=True, slots=True)
class AuditQuery:
    """Which entries, newest first. `action` is whole or its noun (`user` finds `user.add`); `before` pages on by id."""

    actor: str | None = None
    action: str | None = None
    target: str | None = None
    start_ns: int | None = None
    end_ns: int | None = None
    before: int | None = None
    limit: int = 100


class Seldom:
    """What repeats itself is entered once in so long, and of different things at most so many in that time.

    Who tries again and again, under whatever names, doesn't fill the log; metrics count each.
    """

    def __init__(self, quiet_ns: int, most: int = 100) -> None:
        """Know nothing yet."""
        self._quiet_ns = quiet_ns
        self._most = most
        self._entered: OrderedDict[tuple[str, ...], int] = OrderedDict()

    def first(self, now_ns: int, *what: str) -> bool:
        """Tell whether this is to be entered now, and remember it then."""
        while self._entered:
            oldest, at_ns = next(iter(self._entered.items()))
            # A clock that was set back shall not keep what it entered for ever.
            if 0 <= now_ns - at_ns < self._quiet_ns:
                break
            del self._entered[oldest]
        if what in self._entered or len(self._entered) >= self._most:
            return False
        self._entered[what] = now_ns
        return True


def shown(value: Any, depth: int = 0) -> Any:  # noqa: ANN401 - JSON, whatever is in it
    """Return a value as the log keeps it: without secrets, its texts cut, and not too deep."""
    if isinstance(value, str):
        return value if len(value) <= MAX_TEXT else f"{value[:MAX_TEXT]}…"
    if value is None or isinstance(value, bool | int | float):
        return value
    if depth >= MAX_DEPTH:
        return "…"
    if isinstance(value, Mapping):
        pairs = list(value.items())[:MAX_ITEMS]
        return {str(name): HIDDEN if secret(str(name)) else shown(one, depth + 1) for name, one in pairs}
    if isinstance(value, bytes | bytearray | memoryview):
        return HIDDEN
    if isinstance(value, list | tuple | set | frozenset):
        return [shown(one, depth + 1) for one in list(value)[:MAX_ITEMS]]
    return shown(str(value))


def secret(name: str) -> bool:
    """Tell whether what stands under a name may be a secret."""
    return _SECRET.search(name) is not None and _HARMLESS.search(name) is None
