"""Reads the file and the environment into settings, or says everything that is wrong: where, with which value, and what to do."""

import difflib
import errno
import os
import re
import stat
import tomllib
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from telemetryx.config import ranges
from telemetryx.config.paths import paths
from telemetryx.config.tables import (
    Api,
    Collector,
    Enroll,
    Gateway,
    Hot,
    Ingest,
    Models,
    Notify,
    Rules,
    Store,
    Tracing,
    table_of,
)
from telemetryx.errors import misread, unread
from telemetryx.store.audit import secret

ENV_PREFIX: Final = "TELEMETRYX_"
#: What stands before the host of a URL: it may be a password, and messages go to logs. A webhook's whole URL may be one.
_USER: Final = re.compile(r"""://[^\s'"]*@""")

#: So long a piece of a message is a value: a path or an address of usual length is repeated whole.
_LONG: Final = re.compile(r"""'[^']{200,}'|"[^"]{200,}"|\S{200,}""")
#: Keys that name a place, beside those of files.
_PLACES: Final = frozenset({"data_dir", "path", "dir"})
#: Of them those that are meant within the data directory (`Settings.within`).
_WITHIN: Final = frozenset({"enroll.dir", "store.path", "models.dir"})
_RELATIVE: Final = {"collector.data_dir": "started in another folder, as a service is, it has other data"}
#: What is said in place of the types' own words.
_WORDS: Final = {
    "byte_size": 'this is no size: write "64KiB", "4MiB", "1GiB" or a number of bytes',
    "byte_size_unit": 'this is no size: write "64KiB", "4MiB", "1GiB" or a number of bytes',
    "tuple_type": 'this is no list: write ["a", "b"]',
    "bool_parsing": "write true or false",
    "bool_type": "write true or false",
    "int_parsing": "this is no whole number",
    "int_type": "this is no whole number",
    "int_from_float": "this is no whole number",
    "float_parsing": "this is no number",
    "float_type": "this is no number",
    "path_type": 'this is no path: write it as a text, like "/etc/telemetryx/x.pem"',
    "string_type": 'this is no text: write "…"',
}


class ConfigError(Exception):
    """The configuration can't be used. `problems` has one sentence each, with file and line where there is one."""

    def __init__(self, problems: list[str]) -> None:
        """Keep the single problems; the text joins them."""
        self.problems = problems
        super().__init__("\n".join(problems))


class Settings(BaseSettings):
    """The whole file."""

    model_config = SettingsConfigDict(
        extra="forbid", frozen=True, env_prefix=ENV_PREFIX, env_nested_delimiter="__", validate_default=True
    )

    collector: Collector = Collector()
    api: Api = Api()
    gateway: Gateway = Gateway()
    enroll: Enroll = Enroll()
    ingest: Ingest = Ingest()
    store: Store = Store()
    hot: Hot = Hot()
    rules: Rules = Rules()
    notify: Notify = Notify()
    models: Models = Models()
    tracing: Tracing = Tracing()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Let the environment win over the file, which arrives as arguments; read nothing else."""
        del settings_cls, dotenv_settings, file_secret_settings
        return env_settings, init_settings

    def within(self, path: Path) -> Path:
        """Resolve a path of this configuration against the data directory."""
        return path if path.is_absolute() else self.collector.data_dir / path


def load(path: Path | None = None) -> Settings:
    """Read the file (none: defaults and environment alone), or raise ConfigError with every problem found."""
    text, origin = "", "environment"
    if path is not None:
        origin = str(path)
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(
                [
                    f"{path}: can't be read: {unread(error)}; `telemetryx config reference` prints a commented example"
                ]
            ) from error
    return parse(text, origin)


def parse(text: str, origin: str) -> Settings:
    """Turn the file's text into settings; `origin` names it in messages."""
    try:
        tree = tomllib.loads(text)
    except RecursionError:
        raise ConfigError([f"{origin}: it nests too deep: no key takes so many brackets"]) from None
    except ValueError as error:
        raise ConfigError([f"{origin}: not valid TOML: {misread(error, text)}"]) from error
    lines = _lines(text)
    problems = list(_unknown_environment(os.environ))
    problems += [_said(parts, said, lines, origin, tree) for parts, said in _strange(tree)]
    settings: Settings | None = None
    try:
        settings = Settings(**tree)
    except ValidationError as error:
        # An unknown key that the file doesn't hold came from the environment and was named above.
        problems += [
            _problem(dict(item), lines, origin, tree)
            for item in error.errors(include_url=False)
            if item["type"] != "extra_forbidden" or _holds(tree, tuple(map(str, item["loc"])))
        ]
    else:
        problems += [_said(parts, said, lines, origin, tree) for parts, said in ranges.outside(settings)]
        if (unfit := _no_place(settings.collector.data_dir)) is not None:
            problems.append(_said(("collector", "data_dir"), unfit, lines, origin, tree))
    if problems or settings is None:
        # What is said of a value before its type was looked at isn't said again by it.
        raise ConfigError(list(dict.fromkeys(problems)))
    return settings


def _said(
    parts: tuple[str, ...],
    said: str,
    lines: Mapping[tuple[str, ...], int],
    origin: str,
    tree: Mapping[str, Any],
) -> str:
    """Give a problem of ours its place, as `_problem` does for one of the types."""
    return _problem({"loc": parts, "type": "ours", "msg": said, "input": {}}, lines, origin, tree)


def _strange(tree: Mapping[str, Any], parts: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """Find what the types would take and nobody means: a duration without a unit, which is nanoseconds, and control characters."""
    for key, value in tree.items():
        here = (*parts, key)
        items = value if isinstance(value, list) else [value]
        for number, item in enumerate(items):
            if isinstance(item, dict):
                yield from _strange(item, (*here, str(number)) if isinstance(value, list) else here)
            elif item == "" and (key.endswith("_file") or key in _PLACES):
                yield here, "it is empty: name a file or a folder, or leave the key out"
            elif isinstance(item, str) and any(unicodedata.category(one) == "Cc" for one in item):
                yield here, "it holds a control character: write it without, it was pasted by mistake"
            elif isinstance(item, int | float) and not isinstance(item, bool) and _is_duration(here):
                yield here, f"{item} has no unit: write a number and a unit, like 250ms, 10s, 1h30m or 7d"


def _is_duration(parts: tuple[str, ...]) -> bool:
    bound = ranges.RANGES.get(".".join(part for part in parts if not part.isdigit()), (0, 0))[0]
    return isinstance(bound, str)


def warnings(settings: Settings) -> list[str]:
    """Say what works and few want: a relative path is looked for in the folder that the collector is started in, as a service in /."""
    named = ((f"{at}.{key}" if at else key, path) for at, key, path in paths(settings))
    return [
        f"{where} = {str(path)!r} is relative: {_RELATIVE.get(where, 'started in another folder, as a service is, it is another file')}; "
        "write the whole path"
        for where, path in named
        if not path.is_absolute() and where not in _WITHIN
    ]


def _no_place(folder: Path) -> str | None:
    """Say what keeps a folder from holding data, as far as it shows before there is one."""
    remedy = "name a folder that only this collector writes to"
    if folder.is_absolute() and folder.parts[1:2] in (("proc",), ("sys",)):
        return f"/{folder.parts[1]} belongs to the kernel and holds no data: {remedy}"
    for place in (folder, *folder.parents):
        try:
            mode = place.stat().st_mode
        except (FileNotFoundError, NotADirectoryError):
            continue  # it may be made; what lies above says whether it can
        except OSError as error:
            return f"too long a path: {remedy}" if error.errno == errno.ENAMETOOLONG else None
        return None if stat.S_ISDIR(mode) else f"{place} is a file, not a folder: {remedy}"
    return None


def _problem(
    item: dict[str, Any], lines: Mapping[tuple[str, ...], int], origin: str, tree: Mapping[str, Any]
) -> str:
    """Say one validation error: where, what, with which value, and what to do."""
    location = tuple(str(part) for part in item["loc"])
    keys = tuple(part for part in location if not part.isdigit())
    dotted = ".".join(keys)
    line = next((lines[keys[:depth]] for depth in range(len(keys), 0, -1) if keys[:depth] in lines), None)
    at_key = _holds(tree, location)
    in_file = at_key or (item["type"] == "missing" and _holds(tree, location[:-1]))
    where = f"{origin}:{line}" if line is not None and in_file else origin
    if not at_key and item["type"] != "missing" and _environment_name(keys) in os.environ:
        where = _environment_name(keys)
    if item["type"] == "extra_forbidden":
        known = _known(keys[:-1])
        return f"{where}: unknown key `{_shown(dotted)}`{_nearest(keys[-1], known)}"
    if item["type"] == "missing":
        return f"{where}: `{dotted}` is missing"
    message = _WORDS.get(item["type"], str(item["msg"]).removeprefix("Value error, "))
    if item["type"] != "ours" and (taken := ranges.taken(dotted)) and "[" not in message:
        message = f"{message}; {taken}"
    given = item.get("input")
    hidden = isinstance(given, dict | BaseModel) or dotted == "notify.webhook.url" or secret(keys[-1])
    text = f"{message}{'' if hidden else f' (got {given!r})'}"
    return f"{where}: `{_shown(dotted)}`: {_shown(_USER.sub('://…@', text))}"


def _shown(text: str) -> str:
    """Repeat of a long value only its beginning, and nothing that could steer a terminal."""
    cut = _LONG.sub(lambda found: f"{found[0][:60]}… ({len(found[0]):,} characters)", text)
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in cut)


def _environment_name(keys: tuple[str, ...]) -> str:
    return ENV_PREFIX + "__".join(keys).upper()


def _holds(tree: Mapping[str, Any], location: tuple[str, ...]) -> bool:
    node: Any = tree
    for part in location:
        if isinstance(node, Mapping) and part in node:
            node = node[part]
        elif isinstance(node, list) and part.isdigit() and int(part) < len(node):
            node = node[int(part)]
        else:
            return False
    return True


def _known(keys: tuple[str, ...]) -> list[str]:
    fields: Mapping[str, FieldInfo] = Settings.model_fields
    for key in keys:
        annotation = fields[key].annotation if key in fields else None
        section = annotation if isinstance(annotation, type) else table_of(annotation)
        if section is None or not issubclass(section, BaseModel):
            return []
        fields = section.model_fields
    return list(fields)


def _nearest(key: str, known: list[str]) -> str:
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    if close:
        return f"; did you mean `{close[0]}`?"
    return f"; known here: {', '.join(known)}" if known else ""


def _unknown_environment(environment: Mapping[str, str]) -> Iterator[str]:
    """Find variables that look like settings and are none. Names without `__` belong to the command line."""
    for name in sorted(environment):
        if not name.upper().startswith(ENV_PREFIX) or "__" not in name:
            continue
        keys = tuple(part.lower() for part in name[len(ENV_PREFIX) :].split("__"))
        for depth, key in enumerate(keys):
            known = _known(keys[:depth])
            if key not in known:
                yield f"{name}: unknown setting{_nearest(key, known)}"
                break


def _lines(text: str) -> dict[tuple[str, ...], int]:
    """Find the line of each key and table. tomllib keeps no positions; a scan of heads and `key =` is enough for messages."""
    found: dict[tuple[str, ...], int] = {}
    table: tuple[str, ...] = ()
    for number, raw in enumerate(text.splitlines(), start=1):
        line = raw.strip()
        if head := re.match(r"\[\[?\s*([A-Za-z0-9_.\-\" ]+?)\s*\]\]?", line):
            table = tuple(part.strip(' "') for part in head[1].split("."))
            found.setdefault(table, number)
        elif key := re.match(r"([A-Za-z0-9_.\-\"]+)\s*=", line):
            found.setdefault((*table, *(part.strip('"') for part in key[1].split("."))), number)
    return found
