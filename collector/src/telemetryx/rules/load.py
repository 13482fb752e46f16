"""Reads rule files: YAML with `rules:`, a list. Every problem is reported with file, line and what to write instead.

Nothing in a file can make reading it expensive: sizes and depth have limits, and YAML's aliases are refused, because they
let a few lines expand to billions. Reading has no effect; `telemetryx rules check FILE` is `check_text`.
"""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import BaseModel, ValidationError

from telemetryx.errors import TelemetryXError, misread, unread
from telemetryx.rules.model import LinkRule, MetricRule

MAX_BYTES: Final = 1 << 20
MAX_DEPTH: Final = 12
MAX_RULES: Final = 1_000

AnyRule = MetricRule | LinkRule
_Lines = dict[tuple[str | int, ...], int]


class RulesError(TelemetryXError):
    """Rule files that can't be used. `problems` has one sentence each, beginning with file and line."""

    def __init__(self, problems: list[str]) -> None:
        """Keep the single problems; the text joins them."""
        self.problems = problems
        super().__init__("\n".join(problems))


@dataclass(frozen=True, slots=True)
class RuleSet:
    """The rules that run, by name, and the file each came from."""

    rules: Mapping[str, AnyRule]
    origins: Mapping[str, str]


def load_rules(paths: Iterable[Path], *, defaults: bool = True) -> RuleSet:
    """Read files (and the package's default rules), or raise RulesError with every problem of all of them."""
    texts: list[tuple[str, str]] = []
    problems: list[str] = []
    if defaults:
        texts.append(
            ("default.yaml", resources.files(__package__).joinpath("default.yaml").read_text("utf-8"))
        )
    for path in paths:
        try:
            with path.open("rb") as file:
                texts.append((str(path), file.read(MAX_BYTES + 1).decode("utf-8")))
        except (OSError, UnicodeDecodeError) as error:
            problems.append(
                f"{path}: can't be read: {unread(error)}; name a UTF-8 YAML file that the collector may read"
            )
    rules: dict[str, AnyRule] = {}
    origins: dict[str, str] = {}
    for origin, text in texts:
        found, wrong = _read(text, origin)
        problems += wrong
        for line, rule in found:
            if rule.name in rules:
                problems.append(
                    f"{origin}:{line}: the rule {rule.name!r} is already in {origins[rule.name]}; choose another name, "
                    "or remove one of them"
                )
                continue
            rules[rule.name] = rule
            origins[rule.name] = origin
    if problems:
        raise RulesError(problems)
    return RuleSet(rules, origins)


def check_text(text: str, origin: str) -> tuple[list[AnyRule], list[str]]:
    """Return the rules of one file's text and all its problems. Reads and writes nothing."""
    found, problems = _read(text, origin)
    names: dict[str, int] = {}
    for line, rule in found:
        if rule.name in names:
            problems.append(
                f"{origin}:{line}: the rule {rule.name!r} is already on line {names[rule.name]}; choose another name"
            )
        names.setdefault(rule.name, line)
    return [rule for _, rule in found], problems


def _read(text: str, origin: str) -> tuple[list[tuple[int, AnyRule]], list[str]]:
    if len(text) > MAX_BYTES:
        return [], [f"{origin}: longer than {MAX_BYTES >> 20} MiB; split the rules over several files"]
    try:
        tree, lines = _tree(text)
    except yaml.MarkedYAMLError as error:
        return [], [_syntax(error, text, origin)]
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        why = misread(error, text) if isinstance(error, ValueError) else error
        return [], [f"{origin}: not valid YAML: {why}"]
    if tree is None:
        return [], []
    if not isinstance(tree, dict):
        return [], [
            f"{origin}:1: a rule file is a mapping with the key `rules`; write `rules:` and a list below it"
        ]
    problems = [
        f"{origin}:{lines.get((key,), 1)}: unknown key `{key}`{_nearest(str(key), ['rules'])}"
        for key in tree
        if key != "rules"
    ]
    entries = tree.get("rules", [])
    if not isinstance(entries, list):
        return [], [
            *problems,
            f"{origin}:{lines.get(('rules',), 1)}: `rules` must be a list: start each rule with `- name:`",
        ]
    if len(entries) > MAX_RULES:
        return [], [*problems, f"{origin}: {len(entries)} rules, at most {MAX_RULES}; split or combine them"]
    found: list[tuple[int, AnyRule]] = []
    for index, entry in enumerate(entries):
        line = lines.get(("rules", index), 1)
        if not isinstance(entry, dict):
            problems.append(
                f"{origin}:{line}: a rule is a mapping of keys; write `- name: …` and its keys below"
            )
            continue
        kind = entry.get("kind", "metric")
        if kind not in {"metric", "link"}:
            where = lines.get(("rules", index, "kind"), line)
            problems.append(f"{origin}:{where}: `kind`: {kind!r} is unknown; write metric or link")
            continue
        model = LinkRule if kind == "link" else MetricRule
        try:
            found.append((line, model.model_validate(entry)))
        except ValidationError as error:
            # A key that nobody knows comes first: it explains the one that is missing.
            items = sorted(
                error.errors(include_url=False), key=lambda item: item["type"] != "extra_forbidden"
            )
            problems += [_problem(dict(item), origin, lines, index, model, entry) for item in items]
    return found, problems


def _problem(
    item: dict[str, Any],
    origin: str,
    lines: _Lines,
    index: int,
    model: type[BaseModel],
    entry: Mapping[Any, Any],
) -> str:
    """Say one validation error: where, what, with which value, and what to do."""
    location = tuple(item["loc"])
    full = ("rules", index, *location)
    line = next((lines[full[:depth]] for depth in range(len(full), 0, -1) if full[:depth] in lines), 1)
    dotted = ".".join(str(part) for part in location if part != "[key]")
    name = f"rule {entry.get('name', f'number {index + 1}')!r}"
    known = [field.alias or key for key, field in model.model_fields.items()]
    if item["type"] == "extra_forbidden":
        return f"{origin}:{line}: {name}: unknown key `{dotted}`{_nearest(dotted, known)}"
    if item["type"] == "missing":
        return f"{origin}:{line}: {name}: the key `{dotted}` is missing; add it"
    message = str(item["msg"]).removeprefix("Value error, ")
    if not dotted:
        return f"{origin}:{line}: {name}: {message}"
    return f"{origin}:{line}: {name}: `{dotted}`: {message} (got {str(item.get('input'))[:80]!r})"


def _syntax(error: yaml.MarkedYAMLError, text: str, origin: str) -> str:
    """Explain a YAML error; the usual one is a comparison without its quotes."""
    mark = error.problem_mark or error.context_mark
    number = mark.line if mark is not None else 0
    rows = text.splitlines()
    for at in range(min(number, len(rows) - 1), max(-1, number - 3), -1):
        key, colon, rest = rows[at].partition(":")
        if colon and key.strip(" -") in {"when", "recover_when"} and rest.strip()[:1] in {">", "<", "=", "!"}:
            return (
                f'{origin}:{at + 1}: a comparison must stand in quotes: {key.strip(" -")}: "{rest.strip()}"'
            )
    what = " ".join(part for part in (error.context, error.problem) if part)
    return f"{origin}:{number + 1}: not valid YAML: {what}"


def _tree(text: str) -> tuple[Any, _Lines]:
    """Parse without aliases, duplicate keys or depth, and note the line of each key and item."""
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            mark: Any = event.start_mark
            raise yaml.MarkedYAMLError(
                problem="aliases (*name) are not used here; write the value out", problem_mark=mark
            )
    lines: _Lines = {}
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        return (None if node is None else _value(loader, node, (), lines)), lines
    finally:
        loader.dispose()


def _value(loader: yaml.SafeLoader, node: yaml.Node, path: tuple[str | int, ...], lines: _Lines) -> Any:  # noqa: ANN401
    if len(path) > MAX_DEPTH:
        raise yaml.MarkedYAMLError(problem="nested too deeply", problem_mark=node.start_mark)
    lines.setdefault(path, node.start_mark.line + 1)
    if isinstance(node, yaml.SequenceNode):
        return [_value(loader, item, (*path, index), lines) for index, item in enumerate(node.value)]
    if isinstance(node, yaml.MappingNode):
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else None
            if key is None or key in found:
                problem = (
                    "a key must be a word" if key is None else f"the key {key!r} stands here twice; keep one"
                )
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=key_node.start_mark)
            lines[*path, key] = key_node.start_mark.line + 1
            found[key] = _value(loader, value_node, (*path, key), lines)
        return found
    return loader.construct_object(node)


def _nearest(key: str, known: list[str]) -> str:
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    return f"; did you mean `{close[0]}`?" if close else f"; known here: {', '.join(known)}"
