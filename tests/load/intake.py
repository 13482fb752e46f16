"""Intake: how many readings a second are acknowledged, each fsynced before its acknowledgement.

Inputs and journal run alone here, in a process of their own, and the journal is released as it grows; what fold,
spool and uplink add is measured by `flow`. The load generator takes its share of the same cores.
"""

from tests.harness import Process, free_port
from tests.load.bed import Bed, listening, settle
from tests.load.usage import Watch

MOSQUITTO = """listener {port} 127.0.0.1
allow_anonymous true
persistence false
log_type none
set_tcp_nodelay true
"""


def http(bed: Bed) -> None:
    """Line protocol over HTTP: 1,000 lines a request, 8 and 32 connections."""
    _ceiling(bed, "http", "line_load", "8 connections x 1,000 lines", "events/s", "--connections", 8)
    with bed.serving("line_load") as (process, port):
        for connections in (8, 32):
            _lines(bed, "http", process, port, connections)


def _ceiling(bed: Bed, bench: str, program: str, what: str, unit: str, *words: object) -> None:
    """Measure the generator against a server that answers at once and keeps nothing: no figure below can be higher."""
    with bed.serving(program, "--sink") as (_, port):
        settle()
        found = bed.load(program, "--port", port, "--seconds", min(bed.seconds, 5), *words)
    bed.add(bench, f"{what}: the load generator's own ceiling", found["per_second"], unit)


def tcp(bed: Bed) -> None:
    """Line protocol over TCP in ACK mode: groups of 1,000 lines, 8 connections with 4 groups on the way each."""
    with bed.serving("line_load") as (process, port):
        _lines(bed, "tcp", process, port + 1, 8, "--tcp", "--inflight", "4")


def _lines(bed: Bed, bench: str, process: Process, port: int, connections: int, *words: str) -> None:
    settle()
    with Watch(process.pid) as watch:
        found = bed.load(
            "line_load", "--port", port, "--connections", connections, "--seconds", bed.seconds, *words
        )
    what = f"{connections} connections x 1,000 lines" + (", 4 on the way" if words else "")
    # DESIGN sets targets for HTTP alone; they hold for any number of connections.
    rate, p99, cpu = (6_000_000, 5, 0.25) if bench == "http" else (None, None, None)
    bed.add(bench, f"{what}: acknowledged", found["per_second"], "events/s", rate)
    bed.add(bench, f"{what}: p50", found["p50_ms"], "ms")
    bed.add(bench, f"{what}: p99", found["p99_ms"], "ms", p99, at_most=True)
    bed.add(bench, f"{what}: CPU", watch.cpu_s / found["acked"] * 1e6, "s/million", cpu, at_most=True)
    bed.add(bench, f"{what}: memory, highest", watch.peak_mb, "MB", 64, at_most=True)


def mqtt(bed: Bed) -> None:
    """MQTT QoS 1, 50 connections with 20 in flight each; mosquitto, which fsyncs nothing, in the same run."""
    ways: list[tuple[str, tuple[str, ...], float | None]] = [
        ("v3.1.1", (), 580_000),
        ("v3.1.1, one live subscriber to all", ("--subscriber",), 350_000),
        ("v5", ("--v5",), None),
    ]
    _ceiling(bed, "mqtt", "mqtt_load", "v3.1.1", "msg/s")
    for name, words, target in ways:
        peer = _mosquitto(bed, *words)
        with bed.serving("mqtt_load") as (process, port):
            settle()
            with Watch(process.pid) as watch:
                found = bed.load("mqtt_load", "--port", port, "--seconds", bed.seconds, *words)
        known = {"peer": "mosquitto", "peer_value": peer["per_second"]}
        bed.add("mqtt", f"{name}: acknowledged", found["per_second"], "msg/s", target, **known)
        if not words:
            bed.add("mqtt", f"{name}: times mosquitto", found["per_second"] / peer["per_second"], "x", 4)
        bed.add("mqtt", f"{name}: p50", found["p50_ms"], "ms", peer="mosquitto", peer_value=peer["p50_ms"])
        bed.add("mqtt", f"{name}: p99", found["p99_ms"], "ms", peer="mosquitto", peer_value=peer["p99_ms"])
        cpu = watch.cpu_s / found["acked"] * 1e6
        bed.add("mqtt", f"{name}: CPU", cpu, "s/million", peer="mosquitto", peer_value=peer["cpu"])
        bed.add("mqtt", f"{name}: memory, highest", watch.peak_mb, "MB", 64, at_most=True)


def _mosquitto(bed: Bed, *words: str) -> dict[str, float]:
    with bed.place() as folder:
        port = free_port()
        config = folder / "mosquitto.conf"
        config.write_text(MOSQUITTO.format(port=port), encoding="utf-8")
        process = Process("mosquitto", ["mosquitto", "-c", config], folder / "log")
        try:
            listening(process, port)
            settle()
            with Watch(process.pid) as watch:
                found = bed.load("mqtt_load", "--port", port, "--seconds", bed.seconds, *words)
        finally:
            process.stop()
    return {**found, "cpu": watch.cpu_s / found["acked"] * 1e6}
