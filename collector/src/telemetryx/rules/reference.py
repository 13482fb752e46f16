"""Writes docs/reference/rules.md from the rule model, so that it can't say anything else than what is read."""

import typing
from typing import Annotated, Final, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from telemetryx.documented import attributes
from telemetryx.rules.comparison import Comparison
from telemetryx.rules.duration import format_duration
from telemetryx.rules.model import Common, LinkRule, MetricRule, read_duration, read_interval, read_selector

_HEAD = """# Rule files

Generated from `collector/src/telemetryx/rules/model.py`; a test keeps it fresh. How to write one: [how-to/rules.md](../how-to/rules.md).

A rule file is YAML with the one key `rules`, a list. The collector reads those named in `[rules] files`, and its own two
(`[rules] defaults = false` leaves them out). An unknown key is refused with file, line and the nearest known one; names are
unique over all files. `telemetryx rules check FILE` says what is wrong without starting anything.

Durations are written `250ms`, `20s`, `5m`, `1h30m`, `7d`. Comparisons are one of `> >= < <= == !=` and a number, in quotes:
`"> 80"`. Selectors are a metric name and label matchers, as in Prometheus: `temperature{site="plant1",device=~"pump.*"}`.
Regular expressions are [RE2's](https://github.com/google/re2/wiki/Syntax) and for the whole value: `device=~"pump"` isn't met by `pump7`. Looking around (`(?=…)`)
and referring back (`\\1`) are refused; in exchange none can make the collector wait.
"""

_TAIL = """
## What a rule says, exactly

- **Points.** A rule looks at the multiples of `interval` since the epoch (or at each reading, with `interval: reading`). A point's value
  is `agg` over the readings in (point - window, point]; a point without a reading doesn't exist. It is judged when the readings of
  its group have reached it, and the last one when the collector's clock has passed it by 2 s. No rule claims anything about a
  time that its data didn't reach.
- **States.** The first point where `when` holds starts an alert (*pending*); once it has held for `for`, the alert is *firing*, with the
  value of that point. It is *resolved* at the first point where `recover_when` holds (without it: where `when` doesn't).
- **Silence** resolves nothing. A firing alert whose data stopped is shown as *unknown*. A pending one goes on after a pause of at most
  the longer of `window` and `for`, and starts anew after a longer one.
- **Late readings** are judged at their own time, up to `lateness` before the newest. Alerts that they disprove are *retracted*; those that they
  show are added with their own times, `late: true`, and the time when they were detected. Once all data is in, the standing
  alerts are those that on-time data gives, to the bit.
- **Groups.** Without `group_by` each series is judged by itself. The label `model_version` never tells groups apart. An alert is known by its
  rule, its group's labels and its start.
- **A changed rule** about readings (any key but texts, labels, severity, `lateness`) is a new rule: open alerts of the old one are *closed*. So are
  those of any rule that was removed or disabled.
- **NaN** is no reading. Readings stamped more than 5 minutes ahead of the collector's clock start nothing.
- **A rule that fails** is switched off until the next start, with its error in `GET /api/v1/rules` and the log; the others go on.
"""


def reference() -> str:
    """Return the text of docs/reference/rules.md."""
    own = [name for name in MetricRule.model_fields if name not in Common.model_fields]
    link = [name for name in LinkRule.model_fields if name not in Common.model_fields]
    parts = [
        _HEAD,
        _table("Keys of every rule", Common, list(Common.model_fields)),
        _table("Keys of a rule about readings", MetricRule, own),
        _table("Keys of a rule about the link", LinkRule, link),
        _TAIL,
    ]
    return "\n".join(parts)


def _table(title: str, model: type[BaseModel], names: list[str]) -> str:
    rows = [f"## {title}", "", "| key | value | default | what it says |", "|---|---|---|---|"]
    hints = typing.get_type_hints(model, include_extras=True)
    told = attributes(model)
    for name in names:
        field = model.model_fields[name]
        text = told.get(name, "").replace("\n", " ").replace("|", "\\|")
        rows.append(f"| `{field.alias or name}` | {_kind(hints[name])} | {_default(name, field)} | {text} |")
    return "\n".join(rows) + "\n"


def _kind(hint: object) -> str:
    """Say in words what may stand behind a key."""
    if get_origin(hint) is Annotated:
        inner, *marks = get_args(hint)
        known = next((mark for mark in marks if getattr(mark, "func", None) in _WORDS), None)
        return _WORDS[known.func] if known is not None else _kind(inner)
    if get_origin(hint) is Literal:
        return ", ".join(f"`{value}`" for value in get_args(hint))
    if get_origin(hint) in {dict, tuple}:
        return "labels and texts" if get_origin(hint) is dict else "list of labels"
    parts = [_kind(one) for one in get_args(hint) if one is not type(None)]
    if parts:
        return parts[0]
    if hint is bool:
        return "`true` or `false`"
    return "comparison" if hint is Comparison else "text"


def _default(name: str, field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True, validated_data={})
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, int):
        return f"`{format_duration(value)}`"
    return f"`{value}`" if value and name != "labels" else ""


_WORDS: Final[dict[object, str]] = {
    read_duration: "duration",
    read_interval: "duration or `reading`",
    Comparison.parse: "comparison",
    read_selector: "selector",
}
