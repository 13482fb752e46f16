"""Writes the commented example, and docs/reference/collector-config.md around it."""

from collections.abc import Iterator
from typing import Final

from pydantic import BaseModel, ByteSize
from pydantic.fields import FieldInfo

from telemetryx.api.times import format_duration
from telemetryx.config import ranges
from telemetryx.config.reading import ENV_PREFIX, Settings
from telemetryx.config.tables import Section, table_of
from telemetryx.documented import attributes

_PEM: Final = frozenset({"ca_file", "cert_file", "key_file"})


def example() -> str:
    """Write the fully commented example: every key with its default, each table with what it is for."""
    out = [
        "# The collector's configuration. Every key is shown with its default; remove the `#` before a key to change it.",
        f"# Each key can also be set in the environment: {ENV_PREFIX}API__LISTEN=127.0.0.1:8420 is `listen` in [api].",
        '# Durations are written like "250ms", "10s", "1h30m", "7d"; sizes like "64MiB" or "1TiB".',
    ]
    for name, field in Settings.model_fields.items():
        section = field.annotation
        if not (isinstance(section, type) and issubclass(section, Section)):
            continue
        out += ["", f"# {_first_line(section)}", f"[{name}]"]
        tables: list[str] = []
        told = attributes(section)
        for key, value in section.model_fields.items():
            if isinstance(value.annotation, type) and issubclass(value.annotation, Section):
                tables += ["", f"# {_first_line(value.annotation)}", f"[{name}.{key}]"]
                tables += _keys(value.annotation, "#", f"{name}.{key}")
                continue
            inner = table_of(value.annotation)
            if inner is None:
                out += [
                    _comment(told.get(key, ""), value, "#", f"{name}.{key}"),
                    f"# {key} = {_shown(key, value)}",
                ]
            else:
                tables += ["", f"# {_first_line(inner)} {told.get(key, '')}", f"# [[{name}.{key}]]"]
                tables += _keys(inner, "# #", f"{name}.{key}")
        out += tables
    return "\n".join(out) + "\n"


def reference() -> str:
    """Write docs/reference/collector-config.md: the example, framed by how it is read."""
    return (
        "# The collector's configuration\n\n"
        "Generated from `collector/src/telemetryx/config/tables.py` (`telemetryx config reference --markdown`); a test keeps it fresh.\n\n"
        "`telemetryx collector --config FILE` reads one TOML file. Without one, the defaults below hold. A variable\n"
        f"`{ENV_PREFIX}<SECTION>__<KEY>` overrides the file. An unknown key, in either, is refused with its line and the nearest\n"
        "known key. `telemetryx config check FILE` says what is wrong without starting anything.\n\n"
        f"```toml\n{example()}```\n"
    )


def _keys(section: type[Section], mark: str, table: str) -> Iterator[str]:
    told = attributes(section)
    for key, field in section.model_fields.items():
        yield _comment(told.get(key, ""), field, mark, f"{table}.{key}")
        yield f"# {key} = {_shown(key, field)}"


def _first_line(section: type[BaseModel]) -> str:
    return (section.__doc__ or "").strip().splitlines()[0]


def _comment(told: str, field: FieldInfo, mark: str, key: str) -> str:
    unset = " Not set by default." if field.default is None else ""
    range_of = f" Takes {between}." if (between := ranges.between(key)) else ""
    return f"{mark} {told}{range_of}{unset}"


def _shown(key: str, field: FieldInfo) -> str:
    """Write the default as TOML, or a value of the right kind where there is none."""
    if field.examples:
        return _toml(field.examples[0])
    if field.is_required():
        return '"https://example.net/alerts"'
    if key == "url":
        return '"mqtts://broker.example:8883"'
    if key == "user":
        return '"telemetryx"'
    if field.default is None:
        return f'"/etc/telemetryx/{key.removesuffix("_file").replace("_", "-")}{".pem" if key.startswith("tls_") or key in _PEM else ""}"'
    if isinstance(field.json_schema_extra, dict) and field.json_schema_extra.get("x-kind") == "duration":
        return f'"{format_duration(field.default)}"'
    return _toml(field.default)


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, ByteSize):
        return f'"{value.human_readable(separator="")}"'.replace(".0", "")
    if isinstance(value, tuple):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    if isinstance(value, int | float):
        return str(value)
    return f'"{value}"'
