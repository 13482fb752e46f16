"""May a configuration be pushed? Its size, its TOML, and the keys that only the file on a host may set.

The agent has the last word: it checks again, and all of its own configuration's rules. This is so that what it would refuse
for sure is refused at once, to whoever pushes it.
"""

import tomllib
from collections.abc import Iterator
from typing import Any, Final

from telemetryx.errors import misread
from telemetryx.store.care import MAX_TOML, CareRefused
from telemetryx.store.regex import regex

MAX_NAMED: Final = 5
"""Keys that one refusal names."""
MAX_DEPTH: Final = 32
UPLINK: Final = frozenset({"connect_timeout", "fallback_return", "lanes", "max_backoff"})
"""Of `[uplink]` all that may be pushed: how the link is used, not where it goes."""
LONGEST_BACKOFF_S: Final = 3_600
"""An agent that is told to wait for days is as good as lost."""
_OWN: Final[dict[tuple[str, ...], str]] = {
    ("remote",): "whether and how pushed configurations are taken is the host's to say",
    ("agent", "name"): "it is who the agent is",
    ("agent", "data_dir"): "the readings that aren't shipped yet lie there",
    ("tracing", "endpoint"): "it decides where the agent's spans go, and the token for them",
    (
        "uplink",
        "max_backoff",
    ): f"a pause of more than {LONGEST_BACKOFF_S} seconds keeps the agent out of reach",
}
_REACH: Final = "it decides where and as whom the agent reaches its collector"
_HOST: Final = "files and folders of the host are its own"
_PATHS: Final = {("input", "host", name) for name in ("root", "procfs_root", "sysfs_root")}


_PART: Final = r"""(?:[A-Za-z0-9_-]+|"(?:[^"\\\n]|\\.)*"|'[^'\n]*')[ \t]*\.[ \t]*"""
_LONG_KEY: Final = f".*(?:{_PART}){{{MAX_DEPTH}}}.*"
"""A key of more parts than any has. Python's reader keeps every beginning of a key: a single one of 256 KiB would take more memory than there is."""


def check(toml: str) -> None:
    """Raise CareRefused, with what to do, when it can't be pushed."""
    size = len(toml.encode("utf-8", "surrogatepass"))
    if size > MAX_TOML:
        raise CareRefused(
            f"the configuration has {size:,} bytes; at most {MAX_TOML:,} can be pushed",
            "push what differs alone",
        )
    if not toml.strip():
        raise CareRefused(
            "the configuration is empty", "to have agents on their own files, take back what was pushed"
        )
    if "\0" in toml:
        raise CareRefused("the configuration holds a NUL character", "write it as text")
    try:
        toml.encode()
        if regex(_LONG_KEY).matches(toml):
            raise CareRefused(f"a name has more than {MAX_DEPTH} parts", "no key lies so deep")
        read = tomllib.loads(toml)
    except RecursionError:
        raise CareRefused(
            "the configuration nests too deep", f"at most {MAX_DEPTH} levels are taken"
        ) from None
    except ValueError as error:
        raise CareRefused(
            f"the configuration is no TOML: {misread(error, toml)}", "telemetryx-agent check says more"
        ) from error
    found = list(_forbidden(read, ()))
    if found:
        named = "; ".join(f"{'.'.join(path)}: {why}" for path, why in found[:MAX_NAMED])
        more = f" (and {len(found) - MAX_NAMED} more)" if len(found) > MAX_NAMED else ""
        raise CareRefused(
            f"a pushed configuration may not set {named}{more}", "leave it to the file on the host"
        )


def _forbidden(value: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:  # noqa: ANN401 - TOML
    if len(path) > MAX_DEPTH:
        raise CareRefused(f"the configuration nests more than {MAX_DEPTH} levels deep", "no key lies so deep")
    if isinstance(value, list):
        for item in value:
            yield from _forbidden(item, path)
    if not isinstance(value, dict):
        return
    for key, inner in value.items():
        here = (*path, key)
        why = _why_not(here, inner)
        if why is None:
            yield from _forbidden(inner, here)
        else:
            yield here, why


def _why_not(path: tuple[str, ...], value: object) -> str | None:
    """Say why a key may not be pushed; the agent goes by the same (crates/agent/src/remote/allowed.rs)."""
    if path == ("uplink", "max_backoff") and not (isinstance(value, int) and value > LONGEST_BACKOFF_S):
        return None
    if path in _OWN:
        return _OWN[path]
    if len(path) == 2 and path[0] == "uplink" and path[1] not in UPLINK:  # noqa: PLR2004 - a table and a key
        return _REACH
    if path in _PATHS or path[-1].endswith(("_file", "_dir")):
        return _HOST
    return None
