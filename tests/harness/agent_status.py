"""What `telemetryx-agent status --json` prints, key by key, as the agent's source says; docs/reference/agent-status.md is made of it.

`python -m tests.harness.agent_status` prints the page.
"""

import re
import sys
from dataclasses import dataclass
from functools import cache

from tests.harness.stack import ROOT

_HEAD = """\
# The agent's status

What `telemetryx-agent status --json` prints, key by key (`just docs` writes this page; a test keeps it fresh). The collector gets the same from each
agent. Times are nanoseconds since the epoch, UTC (`…_ns`). A type with `?` is null where there is nothing to say. `[]` is each entry of a list, `NAME` each name of an object.
Keys are added in later versions; what is here keeps its meaning.
"""
#: Where what is serialized may be defined.
_CRATES = ("agent", "folding", "fold", "inputs", "uplink")
_STRUCT = re.compile(
    r"#\[derive\([^\]]*\bSerialize\b[^\]]*\)\]\n(?:#\[[^\n]*\]\n)*pub struct (\w+) \{\n(.*?)^\}",
    re.MULTILINE | re.DOTALL,
)
_FIELD = re.compile(r"((?: *///[^\n]*\n)*)((?: *#\[[^\n]*\]\n)*) *pub (\w+): ([^\n]+),\n")
#: Of a Rust type, what JSON has.
_SIMPLE = {"bool": "boolean", "f64": "number", "Takes": "text", "Phase": "text"} | dict.fromkeys(
    ("u8", "u32", "u64", "i64", "usize", "Position"), "whole number"
)
_TEXTS = ("String", "&'static str", "PathBuf")


@dataclass(frozen=True)
class Key:
    """One key: where it stands, its type, what it means."""

    path: str
    kind: str
    meaning: str


@cache
def entries() -> tuple[Key, ...]:
    """Read every key from the source, those of objects behind the object."""
    return tuple(_of("Status", ""))


def page() -> str:
    """Write docs/reference/agent-status.md: a table for each key at the top that is an object, and one for the rest."""
    parts, plain = [_HEAD], []
    sections: dict[str, list[Key]] = {}
    for key in entries():
        top = re.split(r"[.\[]", key.path, maxsplit=1)[0]
        (plain if top == key.path and "object" not in key.kind else sections.setdefault(top, [])).append(key)
    parts.append(_table(plain))
    for top, inside in sections.items():
        parts += [f"## {top}\n", _table(inside)]
    return "\n".join(parts)


def _table(rows: list[Key]) -> str:
    lines = [f"| `{key.path}` | {key.kind} | {key.meaning} |" for key in rows]
    return "\n".join(["| key | type | meaning |", "|---|---|---|", *lines]) + "\n"


@cache
def _structs() -> dict[str, list[tuple[str, str, str, str]]]:
    """Find the fields of what is serialized: comment, attributes, name, type."""
    found = {}
    for crate in _CRATES:
        for file in sorted((ROOT / "agent/crates" / crate / "src").rglob("*.rs")):
            for name, body in _STRUCT.findall(file.read_text("utf-8")):
                found.setdefault(name, _FIELD.findall(body))
    return found


def _of(struct: str, before: str) -> list[Key]:
    found = []
    for comment, attributes, name, rust in _structs()[struct]:
        if "flatten" in attributes:
            found += _of(_last(rust), before)
            continue
        kind, place, inner = _kind(rust)
        path = f"{before}{name}"
        meaning = " ".join(line.strip().removeprefix("///").strip() for line in comment.splitlines())
        meaning = meaning.replace("`None`", "null").replace("|", "\\|")
        found.append(Key(path, kind, meaning))
        found += _of(inner, f"{path}{place}.") if inner else []
    return found


def _last(rust: str) -> str:
    return rust.rsplit("::", 1)[-1]


def _kind(rust: str) -> tuple[str, str, str]:
    """Give the type in JSON, what stands in the path before what is inside it, and the struct that this is."""
    if inner := re.fullmatch(r"Option<(.*)>", rust):
        kind, place, struct = _kind(inner[1])
        return f"{kind}?", place, struct
    if inner := re.fullmatch(r"Vec<(.*)>", rust):
        kind, _, struct = _kind(inner[1])
        return f"list of {kind}", "[]", struct
    if inner := re.fullmatch(r"BTreeMap<&'static str, (.*)>", rust):
        kind, _, struct = _kind(inner[1])
        return f"object of {kind}", ".NAME", struct
    if inner := re.fullmatch(r"\((.*), (.*)\)", rust):
        return f"pair [{_kind(inner[1])[0]}, {_kind(inner[2])[0]}]", "", ""
    if rust in _TEXTS:
        return "text", "", ""
    if rust in _SIMPLE:
        return _SIMPLE[rust], "", ""
    name = _last(rust)
    if name not in _structs():
        raise LookupError(f"{rust} isn't known here: add it")
    return "object", "", name


if __name__ == "__main__":
    sys.stdout.write(page())
