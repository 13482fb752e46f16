"""Models whose attributes are documented by the string below each: read when a document is made, not whenever a collector starts.

pydantic's own `use_attribute_docstrings` reads and parses the source of every model when its class is made, a quarter of the
processor time of a collector's start, and memory that stays.
"""

import ast
import inspect
from functools import cache
from itertools import pairwise
from typing import Any

from pydantic import BaseModel, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue


class Documented(BaseModel):
    """A model whose JSON schema has its attributes' documentation as descriptions."""

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: Any, handler: GetJsonSchemaHandler) -> JsonSchemaValue:  # noqa: ANN401
        """Put in the descriptions."""
        schema = handler(core_schema)
        properties = handler.resolve_ref_schema(schema).get("properties", {})
        for name, text in attributes(cls).items():
            field = cls.model_fields[name]
            described = properties.get(field.alias or name)
            if described is not None and field.description is None:
                described["description"] = text
        return schema


def attributes(model: type[BaseModel]) -> dict[str, str]:
    """Return what stands below a model's fields, by their names; those that it inherits among them."""
    found: dict[str, str] = {}
    for one in reversed(model.__mro__):
        if issubclass(one, BaseModel):
            found |= _below(one)
    return {name: text for name, text in found.items() if name in model.model_fields}


@cache
def _below(model: type[BaseModel]) -> dict[str, str]:
    source = inspect.getsourcefile(model)
    made = {} if source is None else _classes(source)
    statements = made.get(model.__qualname__, [])
    found: dict[str, str] = {}
    for statement, after in pairwise(statements):
        match statement, after:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                found[name] = inspect.cleandoc(text)
    return found


@cache
def _classes(source: str) -> dict[str, list[ast.stmt]]:
    """Read a module's classes, each with its statements; none where the source is gone, as after an upgrade beneath a running collector."""
    try:
        with open(source, encoding="utf-8") as file:  # noqa: PTH123 - the path is the interpreter's
            tree = ast.parse(file.read())
    except (OSError, ValueError, SyntaxError):
        return {}
    return {one.name: one.body for one in tree.body if isinstance(one, ast.ClassDef)}


def forget() -> None:
    """Let go of the sources, which are parsed again for the next document."""
    _classes.cache_clear()
