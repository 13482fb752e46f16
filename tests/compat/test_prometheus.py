"""Prometheus' own programs against the collector: promtool asks it, and Prometheus on the same samples answers the same.

The samples lie off whole seconds and the questions on them, so that it doesn't matter that Prometheus 2 (Debian's) closes a
range on its left where Prometheus 3 and we leave it open; that edge has tests of its own in collector/tests/promql.
"""

import json
import random
import shutil
import subprocess
import time
import urllib.error
from collections.abc import Iterator

import pytest

from tests.harness import Collector, Stack
from tests.harness.prometheus import get, same, serve

pytestmark = pytest.mark.skipif(
    shutil.which("promtool") is None or shutil.which("prometheus") is None,
    reason="Prometheus isn't installed: packaging/bootstrap.sh setup test installs Debian's",
)
MS = 1_000_000
#: Series by name; the agent's label is part of what Prometheus is given.
HOSTS = ("a", "b", "c")
MINUTES = 30

INSTANT = (
    "level",
    'level{host=~"a|b"} offset 2m',
    "strokes_total @ {middle}",
    "-level",
    "level + strokes_total",
    "level > 50",
    "level > bool 50",
    "50 < level",
    "level * on (host) group_left (site) place",
    "sum by (host) (strokes_total) / ignoring (nothing) level",
    'strokes_total and on (host) place{{site="north"}}',
    'strokes_total unless on (host) place{{site="north"}}',
    'level{{host="a"}} or level',
    "level % 7 ^ 2",
    "sum(level)",
    "avg by (site) (level * on (host) group_left (site) place)",
    "min without (host) (level)",
    "max(level)",
    "count by (port) (strokes_total)",
    "group(level)",
    "stddev(level)",
    "stdvar by (port) (strokes_total)",
    "quantile(0.3, level)",
    "topk(2, level)",
    "bottomk by (port) (1, strokes_total)",
    'count_values("value", place)',
    "rate(strokes_total[2m])",
    "irate(strokes_total[2m])",
    "increase(strokes_total[5m])",
    "delta(level[5m])",
    "idelta(level[5m])",
    "deriv(level[5m])",
    "predict_linear(level[5m], 600)",
    "changes(place[5m])",
    "resets(strokes_total[30m])",
    "avg_over_time(level[3m])",
    "min_over_time(level[3m])",
    "max_over_time(level[3m])",
    "sum_over_time(level[3m])",
    "count_over_time(level[3m])",
    "last_over_time(level[3m])",
    "present_over_time(level[3m])",
    "stddev_over_time(level[3m])",
    "stdvar_over_time(level[3m])",
    "quantile_over_time(0.9, level[3m])",
    "abs(level - 50)",
    "ceil(level)",
    "floor(level)",
    "round(level, 0.5)",
    "exp(level / 100)",
    "ln(level)",
    "log2(level)",
    "log10(level)",
    "sqrt(level)",
    "sgn(level - 50)",
    "clamp(level, 30, 60)",
    "clamp_min(level, 50)",
    "clamp_max(level, 50)",
    "timestamp(level)",
    "time()",
    "scalar(sum(level))",
    "vector(1)",
    'absent(level{{host="z"}})',
    "absent(level)",
    'absent_over_time(level{{host="z"}}[5m])',
    'label_replace(level, "kind", "x-$1", "host", "(.*)")',
    'label_join(strokes_total, "both", "/", "host", "port")',
    "sort_desc(level)",
    "hour(vector({middle}))",
    "day_of_year(vector({middle}))",
    "max_over_time(rate(strokes_total[1m])[10m:30s])",
    "avg_over_time(sum(level)[5m:])",
    "sum by (host) (rate(strokes_total[2m])) > 0.5",
    "sum_over_time(cancels[5m])",
    "sum_over_time(cancels[200s])",
    "avg_over_time(cancels[5m])",
    "histogram_quantile(0.9, span_bucket)",
    "histogram_quantile(0.5, sum by (le) (rate(span_bucket[5m])))",
    'histogram_quantile(scalar(level{{host="a"}}) / 100, sum without (host) (span_bucket))',
    "level[45s]",
)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Collector, str, int]]:
    """Start a collector and a Prometheus with the same samples; yield the collector, Prometheus' URL and the newest second."""
    folder = tmp_path_factory.mktemp("prometheus")
    stack = Stack(folder)
    # Off the multiples of 15 s: the points of subqueries lie on those, and Prometheus 2 takes one exactly at a range's start.
    newest = int(time.time()) // 15 * 15 - 68
    samples = _samples(newest)
    collector = stack.collector()
    agent = stack.agent(collector)
    lines = "".join(f"{name},{tags} value={value!r} {ms * MS}\n" for name, tags, ms, value in samples)
    assert agent.write(lines) == 204
    agent.wait_drained()
    url, prometheus = serve(folder, _lines(samples))
    try:
        yield collector, url, newest
    finally:
        prometheus.kill()
        stack.close()


def _samples(newest: int) -> list[tuple[str, str, int, float]]:
    """Gauges that wander, counters that start again, and a constant, every ten seconds with some jitter.

    And the buckets of a histogram, and numbers that cancel out but for what plain sums lose.
    """
    chance = random.Random(7)
    out: list[tuple[str, str, int, float]] = []
    for number, host in enumerate(HOSTS):
        level, counts = 40.0 + number, {"1": 0.0, "2": 1000.0}
        spans = dict.fromkeys(("0.1", "0.5", "2.5", "+Inf"), 0.0)
        for step in range(6 * MINUTES):
            second = newest - 60 * MINUTES + 10 * step
            level = min(99.0, max(1.0, level + chance.uniform(-3, 3)))
            out.append(("level", f"host={host},device=d", 1000 * second + chance.randrange(1, 999), level))
            site = "north" if number else "south"
            out.append(("place", f"host={host},device=d,site={site}", 1000 * second + 500, 1.0))
            cancels = (1.0, 1e100, 1.0, -1e100)[step % 4]
            out.append(("cancels", f"host={host},device=d", 1000 * second + 300, cancels))
            taken = [chance.expovariate(2.0 - number / 2) for _ in range(20)]
            for bound in spans:
                spans[bound] += sum(one <= float(bound) for one in taken)
                out.append(
                    ("span_bucket", f"host={host},device=d,le={bound}", 1000 * second + 700, spans[bound])
                )
            for port, reached in counts.items():
                counts[port] = 0.0 if chance.random() < 0.02 else reached + chance.randrange(20)
                tags = f"host={host},device=d,port={port}"
                out.append(("strokes_total", tags, 1000 * second + chance.randrange(1, 999), counts[port]))
    return out


def _lines(samples: list[tuple[str, str, int, float]]) -> Iterator[str]:
    """Write samples as OpenMetrics."""
    for name in ("cancels", "level", "place", "span_bucket", "strokes_total"):
        yield f"# TYPE {name} unknown\n"
        some = [(tags, ms, value) for one, tags, ms, value in samples if one == name]
        for tags, ms, value in sorted(some):
            pairs = ",".join(
                f'{key}="{label}"' for key, label in (pair.split("=") for pair in tags.split(","))
            )
            yield f'{name}{{agent="edge",{pairs}}} {value!r} {ms / 1000:.3f}\n'


def test_prometheus_and_the_collector_give_the_same_answers(pair: tuple[Collector, str, int]) -> None:
    """Every expression of the table, at one time and over ten minutes."""
    collector, url, newest = pair
    ours = f"http://127.0.0.1:{collector.http}/prometheus"
    for template in INSTANT:
        text = (
            template.format(middle=newest - 900) if "{{" in template or "{middle}" in template else template
        )
        asked = {"query": text, "time": newest}
        same(get(f"{ours}/api/v1/query", **asked), get(f"{url}/api/v1/query", **asked), text)
        if text.endswith("]"):
            continue
        ranged = {"query": text, "start": newest - 600, "end": newest, "step": 15}
        same(get(f"{ours}/api/v1/query_range", **ranged), get(f"{url}/api/v1/query_range", **ranged), text)


def test_prometheus_and_the_collector_list_the_same_series(pair: tuple[Collector, str, int]) -> None:
    """Labels, values and series, and the refusal of an expression with two series of the same labels."""
    collector, url, newest = pair
    ours = f"http://127.0.0.1:{collector.http}/prometheus"
    span = {"start": newest - 1_800, "end": newest}
    for path, more in (
        ("labels", {"match[]": '{__name__=~"level|place|strokes_total"}'}),
        ("label/host/values", {"match[]": 'level{host!="a"}'}),
        ("series", {"match[]": '{__name__=~"level|strokes_total",host="b"}'}),
    ):
        one = get(f"{ours}/api/v1/{path}", **more, **span)["data"]
        two = get(f"{url}/api/v1/{path}", **more, **span)["data"]
        assert sorted(map(str, one)) == sorted(map(str, two)) or sorted(one, key=str) == sorted(two, key=str)
    for text in ("level + on (device) level", "sum(", 'label_replace(level, "host", "", "", "")'):
        refused = []
        for base in (ours, url):
            with pytest.raises(urllib.error.HTTPError) as caught:
                get(f"{base}/api/v1/query", query=text, time=newest)
            refused.append((caught.value.code, json.loads(caught.value.read())["errorType"]))
        assert refused[0] == refused[1], text


def _promtool(*words: str) -> str:
    done = subprocess.run(["promtool", *words], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_promtool_asks_the_collector(pair: tuple[Collector, str, int]) -> None:
    """Query instant, range, series and labels, as it asks a Prometheus."""
    collector, url, newest = pair
    ours = f"http://127.0.0.1:{collector.http}/prometheus"
    at, span = f"--time={newest}", (f"--start={newest - 600}", f"--end={newest}")
    for words in (
        ("query", "instant", at, "{}", "sum by (host) (rate(strokes_total[2m]))"),
        ("query", "range", *span, "--step=30s", "{}", 'level{host="a"}'),
        ("query", "labels", *span, "{}", "host"),
        ("query", "series", *span, '--match=level{host=~"a|b"}', "{}"),
    ):
        mine, wanted = (
            _promtool(*(word.replace("{}", base) if word == "{}" else word for word in words))
            for base in (ours, url)
        )
        assert mine
        assert [line.split()[0] for line in sorted(mine.splitlines())] == [
            line.split()[0] for line in sorted(wanted.splitlines())
        ]
    assert "host=" in _promtool("query", "series", "--match=level", ours)
    for probe in ("healthy", "ready"):
        assert get(f"{ours}/-/{probe}")
