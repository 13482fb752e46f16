"""A scripted collector: it greets, stores each batch once by its name, pushes configurations and asks for things."""

import hashlib
import os
import queue
import threading
import time
from collections.abc import Iterator
from concurrent import futures
from typing import Any, Self

import grpc

from telemetryx.wire import payload
from telemetryx.wire._pb2 import link_pb2 as pb
from telemetryx.wire._pb2.link_pb2_grpc import LinkServicer, add_LinkServicer_to_server
from tests.harness.processes import free_port, until

PHASES = {
    pb.CONFIG_NONE: "none",
    pb.CONFIG_TRIAL: "trial",
    pb.CONFIG_APPLIED: "applied",
    pb.CONFIG_FAILED: "failed",
    pb.CONFIG_DECLINED: "declined",
}


def pushed(version: int, toml: str) -> pb.FromCollector:
    """Make the frame that pushes a text."""
    digest = hashlib.sha256(toml.encode()).digest()
    return pb.FromCollector(config=pb.PushedConfig(version=version, toml=toml, digest=digest))


class Pusher(LinkServicer):
    """One agent's collector. Everything it hears is kept."""

    def __init__(self, *, silent: bool = False) -> None:
        """Listen on a free port; a `silent` one greets nobody until that is changed."""
        self.silent = silent
        self.hellos: list[pb.Hello] = []
        self.states: list[pb.ConfigState] = []
        self.values: list[float] = []
        self.answers: dict[bytes, pb.Answer] = {}
        self._stored: set[tuple[bytes, int]] = set()
        self._lock = threading.Lock()
        self._out: queue.Queue[pb.FromCollector | None] = queue.Queue()
        self._wanted: pb.FromCollector | None = None
        self.port = free_port()
        self._server: grpc.Server | None = None
        self.up()

    def up(self) -> None:
        """Listen."""
        self._server = grpc.server(futures.ThreadPoolExecutor(8))
        add_LinkServicer_to_server(self, self._server)
        self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        self._server.start()

    def down(self) -> None:
        """Be away."""
        if self._server is not None:
            self._out.put(None)
            self._server.stop(0).wait(30)
            self._server = None

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(self, *_: object) -> None:
        """End."""
        self.down()

    # --- the link

    def Session(self, request_iterator: Iterator[pb.FromAgent], context: Any) -> Iterator[pb.FromCollector]:  # noqa: N802
        """Serve one session."""
        hello = next(request_iterator).hello
        if self.silent:
            context.abort(grpc.StatusCode.UNAVAILABLE, "not now")
        with self._lock:
            held: dict[bytes, list[int]] = {}
            for epoch, seq in self._stored:
                held.setdefault(epoch, []).append(seq)
            if not hello.probe:
                self.hellos.append(hello)
                self.states.append(hello.config)
                out = self._out = queue.Queue()
            # What is wanted from here on comes to this session by its queue: each configuration once.
            wanted = self._wanted
        yield pb.FromCollector(
            greeting=pb.Greeting(
                wire=1,
                collector="scripted",
                holdings=[_holdings(epoch, seqs) for epoch, seqs in held.items()],
                credit_bytes=8 << 20,
                max_batch_bytes=4 << 20,
                wall_ns=time.time_ns(),
            )
        )
        if hello.probe:
            return
        if wanted is not None and hello.HasField("config") and hello.config.digest != wanted.config.digest:
            yield wanted
        threading.Thread(target=self._hear, args=(request_iterator, out), daemon=True).start()
        while (frame := out.get()) is not None:
            yield frame

    def _hear(self, frames: Iterator[pb.FromAgent], out: "queue.Queue[pb.FromCollector | None]") -> None:
        try:
            for frame in frames:
                with self._lock:
                    self._take(frame, out)
        except grpc.RpcError:
            pass
        out.put(None)

    def _take(self, frame: pb.FromAgent, out: "queue.Queue[pb.FromCollector | None]") -> None:
        match frame.WhichOneof("frame"):
            case "batch":
                batch = frame.batch
                if (batch.epoch, batch.seq) not in self._stored:
                    self._stored.add((batch.epoch, batch.seq))
                    self.values.extend(payload.decode(batch.payload).samples.values.tolist())
                self._ack(batch.epoch, batch.seq, len(batch.payload), out)
            case "loss":
                self._stored.add((frame.loss.epoch, frame.loss.seq))
                self._ack(frame.loss.epoch, frame.loss.seq, 0, out)
            case "config_state":
                self.states.append(frame.config_state)
            case "answer":
                part = frame.answer
                if part.offset == 0:
                    self.answers[part.id] = pb.Answer(id=part.id)
                whole = self.answers[part.id]
                assert part.offset == len(whole.data)
                whole.data += part.data
                whole.done, whole.error = part.done, part.error

    def _ack(self, epoch: bytes, seq: int, size: int, out: "queue.Queue[pb.FromCollector | None]") -> None:
        out.put(pb.FromCollector(ack=pb.Ack(holdings=[_holdings(epoch, [seq])])))
        out.put(pb.FromCollector(credit=pb.Credit(bytes=size)))

    # --- what a test does with it

    def want(self, version: int, toml: str) -> None:
        """Want a configuration from now on: it is pushed into the open session, and after each greeting that lacks it."""
        with self._lock:
            self._wanted = pushed(version, toml)
            self._out.put(self._wanted)

    def ask(self, **what: Any) -> bytes:
        """Send a request, and return its id."""
        name = os.urandom(16)
        self._out.put(pb.FromCollector(request=pb.Request(id=name, **what)))
        return name

    def answer(self, name: bytes) -> pb.Answer:
        """Wait for the whole answer."""
        until("the answer", lambda: name in self.answers and self.answers[name].done)
        return self.answers[name]

    def connected(self) -> None:
        """Wait for the first session."""
        until("a session", lambda: self.hellos)

    def phase(self, version: int, phase: str) -> pb.ConfigState:
        """Wait until the agent says so of a version, and return what it said."""

        def seen() -> pb.ConfigState | None:
            said = [s for s in list(self.states) if s.version == version and PHASES.get(s.phase) == phase]
            return said[-1] if said else None

        return until(f"configuration {version} is {phase}: {self.states[-3:]}", seen, 180)


def _holdings(epoch: bytes, seqs: list[int]) -> pb.Holdings:
    return pb.Holdings(epoch=epoch, ranges=[pb.Range(first=seq, last=seq) for seq in sorted(seqs)])
