"""A fast agent: encodes batches, then sends them over the real gRPC path as fast as the collector's credit allows.

    python -m tests.load.uplink --port 8421 --series 95 --batch 10000 --samples 20000000

Encoding ends before the clock starts. The last line is JSON: samples, seconds (first byte sent to last batch
acknowledged), payload bytes, batches, own CPU seconds, the samples a second that encoding alone reached.
"""

import argparse
import asyncio
import json
import os
import resource
import time
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import numpy as np

from telemetryx.types import BatchKey, Definition, SampleBlock
from telemetryx.wire import definitions
from telemetryx.wire._pb2 import link_pb2 as pb
from telemetryx.wire._pb2 import link_pb2_grpc
from telemetryx.wire.frame import encode_batch
from telemetryx.wire.payload import Payload
from tests.load.dataset import columns, wandering

SECOND = 1_000_000_000


def frames(series: int, batch: int, samples: int, data: Path | None) -> list[pb.FromAgent]:
    """Cut batches of `batch` samples, one reading a second and series, the newest of them just taken."""
    each = max(1, batch // series)
    count = max(1, samples // (each * series))
    found = columns(data) if data is not None else wandering(series, 20_000)
    epoch, numbers = os.urandom(16), np.arange(1, series + 1, dtype=np.int64)
    offsets = np.arange(series + 1, dtype=np.int64) * each
    defined = definitions.encode(
        [Definition(int(n), "value", {"device": f"d{n // 8}", "sensor": f"s{n}"}) for n in numbers]
    )
    begin = (time.time_ns() // SECOND - each * count) * SECOND
    out = []
    for at in range(count):
        steps = np.arange(at * each, (at + 1) * each, dtype=np.int64)
        values = np.concatenate([found[n % len(found)].take(steps, mode="wrap") for n in range(series)])
        block = SampleBlock(numbers, offsets, np.tile(begin + steps * SECOND, series), values)
        frame = encode_batch(BatchKey("load", epoch, at + 1), Payload(block), defined=b"" if at else defined)
        out.append(pb.FromAgent(batch=frame))
    return out


class Sender:
    """One session."""

    def __init__(self, out: list[pb.FromAgent], pace: float) -> None:
        """Take what is to be sent, and the seconds from one frame to the next; 0 is as fast as credit allows."""
        self._out = out
        self._credit = 0
        self._pace = pace
        self._more = asyncio.Event()
        self._greeted = asyncio.Event()
        self._done = asyncio.Event()
        self.seconds = 0.0

    async def _frames(self) -> AsyncIterator[pb.FromAgent]:
        first = self._out[0].batch
        hello = pb.Hello(
            wire=1, agent="load", version="bench", epoch=first.epoch, next_seq=len(self._out) + 1
        )
        yield pb.FromAgent(hello=hello)
        await self._greeted.wait()
        begin = time.perf_counter()
        for at, frame in enumerate(self._out):
            if (ahead := begin + at * self._pace - time.perf_counter()) > 0:
                await asyncio.sleep(ahead)
            size = len(frame.batch.payload)
            while self._credit < size:
                self._more.clear()
                await self._more.wait()
            self._credit -= size
            yield frame
        await self._done.wait()

    async def run(self, port: int, ca: bytes | None = None) -> None:
        """Send all and wait until all is acknowledged; with TLS where there is an authority to trust."""
        options = [("grpc.max_send_message_length", 16 << 20)]
        open_channel = (
            grpc.aio.insecure_channel(f"127.0.0.1:{port}", options)
            if ca is None
            else grpc.aio.secure_channel(f"localhost:{port}", grpc.ssl_channel_credentials(ca), options)
        )
        async with open_channel as channel:
            call = link_pb2_grpc.LinkStub(channel).Session(self._frames())
            begin = time.perf_counter()
            acked = 0
            async for answer in call:
                match answer.WhichOneof("frame"):
                    case "greeting":
                        self._credit += answer.greeting.credit_bytes
                        self._greeted.set()
                        begin = time.perf_counter()
                    case "credit":
                        self._credit += answer.credit.bytes
                        self._more.set()
                    case "ack":
                        acked = max(acked, *(held.upto for held in answer.ack.holdings))
                        if acked == len(self._out):
                            self.seconds = time.perf_counter() - begin
                            self._done.set()
                            return
                    case other:
                        raise RuntimeError(f"the collector answered {other}: {answer}")


def main() -> None:
    """Send and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--series", type=int, default=95)
    parser.add_argument("--batch", type=int, default=10_000, help="samples in each")
    parser.add_argument("--samples", type=int, default=10_000_000)
    parser.add_argument("--rate", type=int, default=0, help="samples a second; 0 is as fast as credit allows")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--ca", type=Path, help="PEM file of who signed the collector's certificate: TLS")
    given = parser.parse_args()
    begin = time.perf_counter()
    out = frames(given.series, given.batch, given.samples, given.data)
    encoding = time.perf_counter() - begin
    samples = len(out) * max(1, given.batch // given.series) * given.series
    before = resource.getrusage(resource.RUSAGE_SELF)
    sender = Sender(out, samples / len(out) / given.rate if given.rate else 0.0)
    asyncio.run(sender.run(given.port, given.ca.read_bytes() if given.ca else None))
    after = resource.getrusage(resource.RUSAGE_SELF)
    print(
        json.dumps(
            {
                "samples": samples,
                "batches": len(out),
                "bytes": sum(len(frame.batch.payload) + len(frame.batch.definitions) for frame in out),
                "seconds": sender.seconds,
                "cpu_s": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
                "encoded_per_second": samples / encoding,
            }
        )
    )


if __name__ == "__main__":
    main()
