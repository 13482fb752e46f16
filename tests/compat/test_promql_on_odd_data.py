"""PromQL on odd data, beside Debian's Prometheus: NaN, infinities, resets, gaps, ends, labels of any text; a table of expressions at several times.

The collector gets the samples from an agent of the tests, for the real one's inputs refuse NaN. As in test_prometheus.py, samples lie
off whole seconds, and questions off those of subqueries. What Prometheus 2 and 3 do differently isn't asked here: the name of an `atan2`, whether
`.` in a regular expression is a line break too; nor the minute of NaN, which Go leaves to the processor (here it is NaN).
"""

import asyncio
import json
import math
import shutil
import urllib.error
from collections.abc import Iterator
from typing import Any

import pytest

from telemetryx.types import Definition
from telemetryx.wire.payload import Payload
from tests.harness import Collector, Stack
from tests.harness.prometheus import get, same, serve
from tests.harness.reference import ReferenceAgent, samples
from tests.harness.stack import KEEPS_ALL

pytestmark = pytest.mark.skipif(
    shutil.which("promtool") is None or shutil.which("prometheus") is None,
    reason="Prometheus isn't installed: packaging/bootstrap.sh setup test installs Debian's",
)
MS = 1_000_000
#: 2026-03-29T02:00:00Z: an hour after clocks were put forward in Europe, which UTC knows nothing of.
END = 1_774_749_600
SPAN = 3 * 3_600
NAN, INF = math.nan, math.inf
EVIL = 'x"} or vector(1) or {a="\\ \n#'

INSTANT_ONLY = ("sort(odd)", "sort_desc(odd)", "topk(3, odd)", "bottomk(4, odd)", "topk(2, wave) by (zone)")
EXPRESSIONS = (
    # selectors and matchers
    "wave", 'wave{zone="Zürich"}', 'wave{zone=~"Z.*|東京"}', 'wave{zone!~"Z.*"}', 'wave{zone=""}', 'wave{zone!=""}', 'wave{nothing=""}',
    'wave{nothing!=""}', 'wave{zone=~""}', 'wave{zone=~".+"}', 'wave{zone!~".+"}', '{__name__=~"wave|odd"}', '{__name__="wave",zone=~"(?i)zürich"}',
    'wave{agent="edge"}', 'wave{agent!="edge"}', 'wave{zone="nowhere"}', "wave offset 90m", "wave offset -7m", "wave @ 1774740000",
    "wave @ end()", "wave @ start() offset 2m", 'text{note=~".*vector[^z]*"}', "text", 'text{note="plain"} or text', "gone", "sparse", "gone offset 100m",
    # arithmetic with NaN, infinities and zero
    "odd", "-odd", "odd + odd", "odd - odd", "odd * 0", "odd / 0", "odd / odd", "0 / odd", "odd % 3", "-odd % 3", "odd ^ 0.5", "2 ^ odd", "sum by (n) (odd atan2 2)",
    "1 / (wave - wave)", "(wave - wave) / 0", "odd == odd", "odd != odd", "odd > 0", "odd >= bool 0", "odd < bool NaN", "NaN == bool NaN", "Inf - Inf", "odd > -Inf",
    "1 > bool 2", "time() % 60", "-1 ^ 2", "2 ^ 3 ^ 2", "0x1F + 1e3", "wave > 3 < 9", "wave and odd", "wave or odd", "wave unless odd",
    # over series
    "sum(odd)", "avg(odd)", "min(odd)", "max(odd)", "count(odd)", "group(odd)", "stddev(odd)", "stdvar(wave)", "quantile(0.5, odd)", "quantile(-1, wave)",
    "quantile(2, wave)", "quantile(NaN, wave)", "topk(0, wave)", "topk(-3, wave)", "topk(99, wave)", "bottomk(1, wave)", "count_values('v', flag)",
    'count_values("zone", flag)', "sum by (zone) (wave)", "sum without (zone) (wave)", "sum by (nothing) (wave)", "sum by () (wave)", "sum without () (wave)",
    "avg by (zone, agent) (wave)", "count by (__name__) ({__name__=~'wave|flag'})", "sum(wave) by (zone)", "sum(nothing)", "count(nothing)", "min by (zone) (wave > 4)",
    # over time
    "sum_over_time(odd[3m])", "avg_over_time(odd[3m])", "min_over_time(odd[3m])", "max_over_time(odd[3m])", "count_over_time(odd[3m])", "last_over_time(odd[3m])",
    "present_over_time(odd[3m])", "stddev_over_time(wave[3m])", "stdvar_over_time(odd[3m])", "quantile_over_time(0.5, odd[3m])", "quantile_over_time(-0.1, wave[3m])",
    "quantile_over_time(1.1, wave[3m])", "quantile_over_time(0, wave[3m])", "changes(odd[5m])", "resets(odd[5m])", "changes(flag[10m])", "resets(counter_total[20m])",
    "delta(odd[5m])", "deriv(odd[5m])", "idelta(odd[2m])", "predict_linear(wave[5m], -60)", "rate(counter_total[3m])", "rate(counter_total[20s])", "irate(counter_total[3m])",
    "increase(counter_total[30m])", "rate(counter_total[7m] offset 11m)", "rate(gone[5m])", "sum by (zone) (increase(counter_total[10m]))", "rate(odd[5m])",
    "count_over_time(sparse[30m])", "last_over_time(sparse[11m])", "absent(sparse)", "absent(gone)", 'absent(nothing{a="1",b=~"x",c!="y"})', 'absent_over_time(nothing{a="1"}[5m])',
    "absent_over_time(sparse[3m])", 'absent(sum(nothing{a="1"}))', 'absent(nothing{a="1",a="2"})', "absent(wave)", "sum_over_time(big[5m])", "avg_over_time(tiny[5m])",
    # subqueries
    "max_over_time(wave[10m:1m])", "count_over_time(wave[10m:7m])", "sum_over_time((wave > 5)[10m:30s])", "avg_over_time(rate(counter_total[2m])[10m:45s])",
    "min_over_time(sum(wave)[10m:] offset 5m)", "rate(sum(counter_total)[5m:30s])", "max_over_time((time() - 5)[3m:1m])", "count_over_time(vector(1)[1h:17s])",
    "last_over_time(max_over_time(wave[2m])[10m:1m])", "quantile_over_time(0.25, wave[10m:20s] @ 1774745007)", "stddev_over_time(odd[10m:1m])", "max_over_time(gone[30m:1m])",
    # functions of values, times and labels
    "abs(odd)", "ceil(odd)", "floor(odd)", "round(odd)", "round(odd, 5)", "round(-wave, 0.3)", "round(wave, 0)", "exp(odd)", "ln(odd)", "log2(odd)", "log10(odd)", "sqrt(odd)",
    "sgn(odd)", "clamp(odd, -1, 1)", "clamp(odd, 1, -1)", "clamp_min(odd, NaN)", "clamp_max(odd, 0)", "sin(odd)", "acosh(odd)", "deg(wave)", "rad(wave)", "pi()",
    "hour()", "minute(wave)", "day_of_month()", "day_of_week()", "days_in_month(vector(1709164800))", "month()", "year(vector(951782400))", "day_of_year(wave)", "timestamp(wave)",
    "timestamp(wave offset 5m)", "timestamp(sum(wave))", "scalar(wave)", "scalar(nothing)", 'scalar(wave{zone="Zürich"})', "vector(NaN)", "vector(time())",
    'label_replace(wave, "zone", "$1", "zone", "(.).*")', 'label_replace(wave, "zone", "", "zone", ".*")', 'label_replace(wave, "new", "a$0b", "zone", "Z.+")',
    'label_replace(wave, "new", "${1}x", "zone", "(z)")', 'label_join(wave, "new", "-", "zone", "agent", "none")', 'label_join(wave, "zone", "")',
    # vectors with vectors
    "wave * on (zone) flag", "wave / ignoring (lane) flag", "wave * on (zone) group_left (lane) flag", "flag * on (zone) group_right (lane) wave", "wave == on (zone) flag",
    "wave > bool on (zone) flag", "wave and on (zone) flag", "wave unless on (zone) flag > 0", "wave or on (zone) flag", "wave - on () group_left sum(wave)",
    "sum by (zone) (wave) / on (zone) flag", "wave and on () (hour() > bool 25)", "wave + nothing", "vector(1) + wave", "wave + on (agent) group_left vector(1)",
    # histograms
    "histogram_quantile(0.9, h_bucket)", "histogram_quantile(-1, h_bucket)", "histogram_quantile(2, h_bucket)", "histogram_quantile(NaN, h_bucket)",
    "histogram_quantile(0.5, rate(h_bucket[5m]))", "histogram_quantile(0.5, wave)", "histogram_quantile(0.99, sum by (le) (h_bucket))",
)  # fmt: skip
REFUSED = (
    "", "wave[5m] + 1", "sum(wave[5m])", "rate(wave)", "wave +", "wave offset", "{}", '{zone=~".*"}', "wave[0s]", "wave[5m:0s]", "wave @ x", 'wave{zone=~"("}', "topk(wave)", "sum by zone (wave)",
    "wave and 1", "1 and 1", "1 > 2", '"a" + 1', "wave == on (agent) wave", "wave + on (agent) flag", "wave * on (agent) group_left flag", "label_replace(wave, 'a b', '', '', '(')",
    "label_replace(wave, 'x', '$1', 'zone', '(')", "count_values('', wave)", "nofunction(wave)", "rate(wave[5m], 1)", "wave{zone=}", "wave{zone='a' zone='b'}", "sum(wave) by (zone) by (lane)",
    "quantile('a', wave)", "bool", "wave bool wave", "1 +* 2", "((wave)", "wave}", "rate(rate(wave[5m]))", "rate(wave[5m])[5m]", "time() offset 5m", "sum(1)", "absent()", "vector(wave)", "scalar(1)",
    "-'a'", "wave on (zone) wave", "wave and on (zone) group_left flag", "label_replace(wave, 'zone', 'same', '', '')",
)  # fmt: skip


def _series() -> dict[tuple[str, tuple[tuple[str, str], ...]], list[tuple[int, float]]]:
    """Make samples, times in milliseconds, every 15 s with a little jitter that isn't a whole second."""
    grid = [1_000 * (END - SPAN + 15 * n) + 137 + 11 * (n % 7) for n in range(SPAN // 15)]
    odd = [NAN, INF, -INF, -0.0, 0.0, 5.0, -7.5, 1e-300]
    out: dict[tuple[str, tuple[tuple[str, str], ...]], list[tuple[int, float]]] = {}
    for at, zone in enumerate(("Zürich", "東京", "", "z\té")):
        labels = (("zone", zone), ("lane", str(at))) if zone else (("lane", str(at)),)
        out["wave", labels] = [(ms, 5 + 4 * math.sin(n / 20 + at)) for n, ms in enumerate(grid)]
        out["flag", labels[:1]] = [(ms, float(n // 30 % 3)) for n, ms in enumerate(grid)]
        out["counter_total", labels] = [
            (ms, float(n % (97 + 60 * at)) * (at + 1)) for n, ms in enumerate(grid)
        ]
    for at in range(4):
        out["odd", (("n", str(at)),)] = [
            (ms, odd[(n // 3 * (at + 1) + at) % len(odd)]) for n, ms in enumerate(grid)
        ]
    out["text", (("note", EVIL),)] = [(ms, 1.0) for ms in grid]
    out["text", (("note", "plain"),)] = [(ms, 2.0) for ms in grid]
    out["gone", ()] = [(ms, 3.0) for ms in grid[: len(grid) // 2]]
    out["sparse", ()] = [(ms, float(n)) for n, ms in enumerate(grid[::40])]
    out["big", ()] = [(ms, 1e307 * (-1) ** n) for n, ms in enumerate(grid)]
    out["tiny", ()] = [(ms, 5e-324 * (n % 9)) for n, ms in enumerate(grid)]
    for bounds, kind in (
        (("0.1", "1", "+Inf"), "good"),
        (("1", "2"), "endless"),
        (("+Inf",), "alone"),
        (("-1", "0", "5", "+Inf"), "below"),
    ):
        for at, le in enumerate(bounds):
            out["h_bucket", (("kind", kind), ("le", le))] = [
                (ms, float(n * (at + 1) + n % 5)) for n, ms in enumerate(grid)
            ]
    return out


def _quoted(text: str) -> str:
    text = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{text}"'


def _lines(found: dict[tuple[str, tuple[tuple[str, str], ...]], list[tuple[int, float]]]) -> Iterator[str]:
    """Write them as OpenMetrics."""
    name = ""
    for (metric, labels), points in sorted(found.items()):
        if metric != name:
            name = metric
            yield f"# TYPE {name} unknown\n"
        pairs = ",".join(f"{key}={_quoted(value)}" for key, value in (("agent", "edge"), *labels))
        for ms, value in points:
            number = (
                "NaN"
                if math.isnan(value)
                else "+Inf"
                if value == INF
                else "-Inf"
                if value == -INF
                else repr(value)
            )
            yield f"{metric}{{{pairs}}} {number} {ms // 1000}.{ms % 1000:03d}\n"


async def _sent(
    collector: Collector, found: dict[tuple[str, tuple[tuple[str, str], ...]], list[tuple[int, float]]]
) -> None:
    agent = ReferenceAgent("edge")
    defined = [Definition(n, name, dict(labels)) for n, (name, labels) in enumerate(found, 1)]
    async with agent.session(collector.grpc) as link:
        for n, points in enumerate(found.values(), 1):
            block = samples({n: [(ms * MS, value) for ms, value in points]})
            await link.send_within_credit(agent.cut(Payload(block), defined))
        await link.until(lambda: not agent.unacked, 60)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """Start a collector and a Prometheus with the same samples; yield the URLs of their APIs."""
    folder = tmp_path_factory.mktemp("odd")
    stack, found = Stack(folder), _series()
    collector = stack.collector(KEEPS_ALL)
    asyncio.run(_sent(collector, found))
    url, prometheus = serve(folder, _lines(found))
    try:
        yield f"http://127.0.0.1:{collector.http}/prometheus/api/v1", f"{url}/api/v1"
    finally:
        prometheus.kill()
        stack.close()


def _asked(url: str, path: str, **query: object) -> dict[str, Any]:
    try:
        found: dict[str, Any] = get(f"{url}/{path}", **query)
    except urllib.error.HTTPError as error:
        return {"status": error.code, "type": json.loads(error.read())["errorType"]}
    return found


def _alike(pair: tuple[str, str], path: str, **query: object) -> str | None:
    """Ask both; return what differs."""
    ours, theirs = (_asked(url, path, **query) for url in pair)
    if "data" not in ours or "data" not in theirs:
        return (
            None
            if ours == theirs
            else f"{query}: {str(ours)[:300]} where Prometheus says {str(theirs)[:300]}"
        )
    try:
        same(ours, theirs, str(query))
    except AssertionError as error:
        return f"{query}: {str(error)[:600]}"
    return None


@pytest.mark.parametrize("text", [*EXPRESSIONS, *INSTANT_ONLY])
def test_both_say_the_same_at_one_time_and_over_time(pair: tuple[str, str], text: str) -> None:
    """At the end, in the middle, before all and long after; by steps that are shorter and longer than a sample's distance, and than the range."""
    found = [
        _alike(pair, "query", query=text, time=at)
        for at in (END - 4.5, END - SPAN // 2 + 1.5, END - SPAN - 499.5, END + 298.5, END + 90_000.5)
    ]
    if text not in INSTANT_ONLY:
        for start, end, step in (
            (END - 607.5, END, 7),
            (END - SPAN - 61.5, END + 61, 181),
            (END - 50.5, END - 20.5, 3_600),
            (END - 31.5, END - 31.5, 1),
        ):
            found.append(_alike(pair, "query_range", query=text, start=start, end=end, step=step))
    assert [one for one in found if one] == []


@pytest.mark.parametrize("text", REFUSED)
def test_both_refuse_the_same_with_the_same_kind(pair: tuple[str, str], text: str) -> None:
    """Status and errorType, at one time and over time."""
    found = [
        _alike(pair, "query", query=text, time=END - 31),
        _alike(pair, "query_range", query=text, start=END - 60, end=END, step=15),
    ]
    assert [one for one in found if one] == []


@pytest.mark.parametrize(
    "asked",
    [
        {"start": END, "end": END - 1, "step": 15}, {"start": END - 60, "end": END, "step": 0}, {"start": END - 60, "end": END, "step": -1},
        {"start": END - 60, "end": END, "step": "x"}, {"start": END - 60, "end": END}, {"start": END - 11_002, "end": END, "step": 1},
        {"start": END - 11_000, "end": END, "step": 1}, {"start": "2026-03-29T01:30:00Z", "end": "2026-03-29T03:31:00+02:00", "step": "1m"},
        {"start": f"{END - 60}.5", "end": f"{END}.25", "step": 0.5}, {"start": "NaN", "end": END, "step": 1}, {"start": "", "end": END, "step": 1},
        {"start": END - 60, "end": END, "step": "1h30m"}, {"start": END - 60, "end": END, "step": 15, "timeout": "x"}, {"start": END - 60, "end": END, "step": "NaN"},
    ],
)  # fmt: skip
def test_both_read_times_and_steps_alike(pair: tuple[str, str], asked: dict[str, object]) -> None:
    """RFC 3339 with zones, fractions, what is missing and what isn't a number."""
    assert _alike(pair, "query_range", query="wave", **asked) is None


def test_both_list_the_same_labels(pair: tuple[str, str]) -> None:
    """Names, values and series, for one selector, several and none; injections are text."""
    span = {"start": END - SPAN, "end": END}
    asked: list[tuple[str, dict[str, object]]] = [
        ("labels", {}), ("labels", {"match[]": "wave"}), ("labels", {"match[]": ["wave", "h_bucket"]}), ("label/zone/values", {}),
        ("label/note/values", {}), ("label/__name__/values", {}), ("label/le/values", {"match[]": 'h_bucket{kind="good"}'}), ("label/none/values", {}),
        ("label/zone/values", {"match[]": 'wave{lane="99"}'}), ("series", {"match[]": ["text", "gone"]}), ("series", {"match[]": "nothing"}),
        ("series", {}), ("series", {"match[]": "wave["}), ("labels", {"match[]": "sum(wave)"}),
    ]  # fmt: skip
    for path, more in asked:
        ours, theirs = (_asked(url, path, **more, **span) for url in pair)
        if "data" in theirs:
            assert sorted(ours["data"], key=str) == sorted(theirs["data"], key=str), (path, more)
        else:
            assert ours == theirs, (path, more)
