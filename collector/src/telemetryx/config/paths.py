"""Which keys of a configuration name files and folders."""

from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel


def paths(table: BaseModel, at: str = "") -> Iterator[tuple[str, str, Path]]:
    """Walk all of them: the table (`store`, or `notify.webhook.2` in a list of tables), the key in it, and what it names."""
    for key in type(table).model_fields:
        value = getattr(table, key)
        where = f"{at}.{key}" if at else key
        if isinstance(value, BaseModel):
            yield from paths(value, where)
            continue
        for number, one in enumerate(value if isinstance(value, list | tuple) else (value,), start=1):
            if isinstance(one, BaseModel):
                yield from paths(one, f"{where}.{number}")
            elif isinstance(one, Path):
                yield at, key, one
