"""The Prometheus text: exact, escaped, and nothing that isn't declared."""

from telemetryx.api.metrics import Metric, Registry


def test_an_exposition_has_help_type_and_escaped_labels() -> None:
    """A label's value may hold anything and stays one line."""
    registry = Registry()
    registry.add(lambda: [(Metric.AGENT_BACKLOG, [(('a"\\\n\rb',), 3.0)]), (Metric.SAMPLES, [((), 1e15)])])
    assert registry.exposition().splitlines() == [
        "# HELP telemetryx_collector_samples_total Samples stored.",
        "# TYPE telemetryx_collector_samples_total counter",
        "telemetryx_collector_samples_total 1000000000000000",
        "# HELP telemetryx_collector_agent_backlog_bytes Bytes in the agent's spool.",
        "# TYPE telemetryx_collector_agent_backlog_bytes gauge",
        'telemetryx_collector_agent_backlog_bytes{agent="a\\"\\\\\\n\\rb"} 3',
    ]


def test_totals_sum_over_labels() -> None:
    """The status page shows one number a metric."""
    registry = Registry()
    registry.add(
        lambda: [
            (Metric.BATCHES, [(("stored",), 2.0), (("duplicate",), 3.0)]),
            (Metric.READY, [(("store",), 1.0)]),
        ]
    )
    assert registry.totals() == {"batches_total": 5.0}


def test_every_metric_is_named_by_its_unit_or_as_a_total() -> None:
    """Counters end in _total and gauges don't; each says what it means."""
    for metric in Metric:
        declared = metric.value
        assert declared.name.endswith("_total") == (declared.kind == "counter"), declared
        assert declared.help.endswith(".")
