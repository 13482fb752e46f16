"""The collector's configuration: one TOML file, overridden by TELEMETRYX_<SECTION>__<KEY> in the environment.

The types in tables.py are the only description of the keys: the commented example, docs/reference/collector-config.md and the
error messages come from them. An unknown key is refused with its line and the nearest known one, never ignored.
"""

from telemetryx.config.reading import ConfigError, Settings, load, parse, warnings
from telemetryx.config.reference import example, reference
from telemetryx.config.tables import Api, Listen, Section, SiteBroker

__all__ = [
    "Api",
    "ConfigError",
    "Listen",
    "Section",
    "Settings",
    "SiteBroker",
    "example",
    "load",
    "parse",
    "reference",
    "warnings",
]
