"""What a rule is: the only description of the keys of a rule file.

load.py reads files into these types, docs/reference/rules.md is generated from them, and the engine runs them. A key that
isn't here is refused, never ignored.
"""

import hashlib
import json
from typing import Annotated, Final, Literal, Self

from pydantic import BeforeValidator, ConfigDict, Field, PlainSerializer, model_validator
from pydantic.functional_validators import AfterValidator

from telemetryx.documented import Documented
from telemetryx.errors import SelectorError
from telemetryx.rules import template
from telemetryx.rules.comparison import Comparison
from telemetryx.rules.duration import format_duration, parse_duration
from telemetryx.store import selector

#: A reading is judged at every grid point whose window holds it; more than this many is a mistake.
MAX_OVERLAP: Final = 10_000
LABEL = r"^[A-Za-z_][A-Za-z0-9_.\-]{0,99}$"
#: Labels that a rule can't set: they are the alert's own.
RESERVED: Final = frozenset({"alertname", "severity"})
#: Never part of a group: a new version of a model goes on with its predecessor's alert.
UNGROUPED: Final = frozenset({"model_version"})


def read_duration(value: object) -> object:
    """Read a duration as nanoseconds."""
    if isinstance(value, str):
        return parse_duration(value)
    raise ValueError(f"{value!r} is not a duration: write a number and a unit, like 20s, 5m or 1h30m")


def read_interval(value: object) -> object:
    """Read a duration, or `reading` as 0."""
    return 0 if value == "reading" else read_duration(value)


def read_selector(value: str) -> str:
    """Check a selector's text."""
    try:
        selector.parse(value)
    except SelectorError as error:
        raise ValueError(
            f'{error}; a selector looks like temperature{{site="plant1",device=~"pump.*"}}'
        ) from error
    return value


Duration = Annotated[int, BeforeValidator(read_duration), PlainSerializer(format_duration, return_type=str)]
Interval = Annotated[
    int,
    BeforeValidator(read_interval),
    PlainSerializer(lambda value: format_duration(value) if value else "reading", return_type=str),
]
Condition = Annotated[Comparison, BeforeValidator(Comparison.parse), PlainSerializer(str, return_type=str)]
Text = Annotated[str, Field(max_length=2_000), AfterValidator(template.check)]
Label = Annotated[str, Field(pattern=LABEL)]
LabelValue = Annotated[str, Field(max_length=1_000)]


class Common(Documented):
    """What both kinds of rules have."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    name: Annotated[str, Field(min_length=1, max_length=200, pattern=r"^\S(?:.*\S)?$")]
    """What the alert is called. Unique over all files: an alert is known by its rule's name."""
    severity: Literal["info", "warning", "critical"] = "warning"
    """How much it matters."""
    labels: dict[Label, LabelValue] = Field(default_factory=dict, max_length=50)
    """Labels added to each alert, for those who receive it."""
    summary: Text = ""
    """One sentence for people. `{{ labels.NAME }}`, `{{ value }}`, `{{ threshold }}`, `{{ rule }}` and `{{ severity }}` are filled in."""
    annotations: dict[Label, Text] = Field(default_factory=dict, max_length=50)
    """Further texts, such as a link to the instructions; filled in like `summary`."""
    enabled: bool = True
    """`false` keeps the rule in the file without running it."""

    @model_validator(mode="after")
    def _labels_free(self) -> Self:
        if taken := sorted(RESERVED & set(self.labels)):
            raise ValueError(f"the label {taken[0]!r} is set by the alert itself; choose another name")
        return self


class MetricRule(Common):
    """Judges readings, each at its own time."""

    kind: Literal["metric"] = "metric"
    """`metric` (the default) judges readings."""
    select: Annotated[str, Field(max_length=4_000), AfterValidator(read_selector)]
    """Which series: a metric name and label matchers (`=`, `!=`, `=~`, `!~`), as in Prometheus. `agent` matches the agent's name, unless a series has a label of its own so called; `__agent__` always does."""
    agg: Literal["avg", "min", "max", "last", "count"] = "avg"
    """How the readings of a window become one value. NaN readings are left out."""
    window: Duration
    """How far back each value looks. Make it at least as long as the pause between two readings."""
    when: Condition
    """The alert's condition, in quotes: `"> 80"`."""
    for_: Annotated[Duration, Field(alias="for")] = 0
    """How long the condition must hold, by the readings' own time, until the alert fires; until then it is pending."""
    recover_when: Condition | None = None
    """The condition that ends a firing alert. Without it, `when` no longer holding ends it."""
    group_by: tuple[Label, ...] | None = Field(default=None, max_length=20)
    """Labels whose every combination is judged by itself, all its series together; `agent` is one. Without it each series is."""
    interval: Interval = parse_duration("10s")
    """The grid of times at which the rule looks, or `reading`: at the time of each reading."""
    lateness: Duration | None = None
    """How late readings may come and still be judged at their own time. Without it: as long as raw data is kept."""

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if self.window < parse_duration("1ms"):
            raise ValueError("window must be longer than 0s")
        if self.window < self.interval:
            raise ValueError(
                f"window {format_duration(self.window)} is shorter than the interval {format_duration(self.interval)}, so readings "
                "between two windows would be judged by nobody; make window longer, or interval shorter"
            )
        if self.interval and self.window // self.interval > MAX_OVERLAP:
            raise ValueError(
                f"window {format_duration(self.window)} is more than {MAX_OVERLAP:,} times the interval "
                f"{format_duration(self.interval)}; make interval longer"
            )
        if self.recover_when is not None and self.recover_when.overlaps(self.when):
            raise ValueError(
                f'recover_when "{self.recover_when}" and when "{self.when}" can be true at once, so the alert would end and '
                "start again on the same value; leave a gap between them or none"
            )
        if self.lateness is not None and self.lateness < self.window:
            raise ValueError("lateness must be at least as long as window")
        if self.group_by is not None and (barred := sorted(UNGROUPED & set(self.group_by))):
            raise ValueError(
                f"group_by {barred[0]!r} would end every alert when a new version of the model arrives"
            )
        return self

    @property
    def fingerprint(self) -> str:
        """Return a digest of all that decides which alerts there are. Texts, labels and severity don't."""
        return _digest(
            self, {"select", "agg", "window", "when", "for_", "recover_when", "group_by", "interval"}
        )

    @property
    def gap_ns(self) -> int:
        """Return how long a pause in the data may be without interrupting a pending alert."""
        return max(self.window, self.for_)


class LinkRule(Common):
    """Judges whether agents are heard from, by the collector's own connection log and clock. Backfill never changes it."""

    kind: Literal["link"]
    """`link` judges the connection log."""
    agents: Annotated[
        str, Field(max_length=4_000), AfterValidator(lambda text: read_selector(text) if text else text)
    ] = ""
    """Which agents: label matchers on what agents say about themselves, like `{site="plant1"}`; `agent` is the name. Empty: all."""
    after: Duration = parse_duration("2m")
    """An agent is silent when nothing came from it for this long."""

    @property
    def fingerprint(self) -> str:
        """Return a digest of all that decides which alerts there are."""
        return _digest(self, {"agents", "after"})


Rule = Annotated[MetricRule | LinkRule, Field(union_mode="left_to_right")]


def _digest(rule: MetricRule | LinkRule, keys: set[str]) -> str:
    meaning = rule.model_dump(mode="json", include=keys) | {"kind": rule.kind}
    return hashlib.sha256(json.dumps(meaning, sort_keys=True).encode()).hexdigest()[:32]
