"""Receives from a local runtime with the official client and prints one line of JSON.

    official_client.py --url http://127.0.0.1:8080 --seconds 20

The playground burns a counter and its emit time into every picture; this reads them from
the decoded pixels. Latency is emit -> callback on one machine's CLOCK_MONOTONIC. CPU
seconds are those of the whole process during the measurement; peak memory is that of its life.
"""

import argparse
import asyncio
import json
import resource
import sys
import threading
import time

from reactor_sdk import Reactor

from measure import cpu_seconds, ms_since, now_us, percentile, read_row, thread_count


class Meter:
    def __init__(self) -> None:
        self.started = time.monotonic()
        self.first: float | None = None
        self.seen = threading.Event()
        self.measuring = False
        self.latencies: list[float] = []
        self.counters: list[int] = []
        self.unreadable = 0
        self.size = (0, 0)

    def frame(self, bgra, width, height, frame_id, timestamp_us, user_data) -> None:
        now = now_us()
        counter = read_row(bgra, width, height, 0)
        emitted = read_row(bgra, width, height, 1)
        if (
            not counter
            and not emitted
            and (counter is None) == (emitted is None)
            and not self.first
        ):
            return  # the black picture before the model's first
        if counter is None or emitted is None:
            self.unreadable += self.measuring
            return
        if self.first is None:
            self.first = time.monotonic()
            self.seen.set()
        if self.measuring:
            self.size = (width, height)
            self.counters.append(counter)
            self.latencies.append(ms_since(now, emitted))


# Between two sessions: the server takes a moment to end the first.
SETTLE = 1.0


async def first_frame_again(options) -> float | None:
    """Connects once more in this process, which has loaded everything by now."""
    await asyncio.sleep(SETTLE)
    meter = Meter()
    reactor = Reactor(options.model, local=True, api_url=options.url)
    reactor.track("main_video").on_raw_frame(meter.frame)
    meter.started = time.monotonic()
    await reactor.connect()
    try:
        if not await asyncio.to_thread(meter.seen.wait, 15):
            return None
    finally:
        await reactor.disconnect()
    return round((meter.first - meter.started) * 1000, 1)


async def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", default="http://127.0.0.1:8080")
    parser.add_argument("--model", default="playground")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--warmup", type=float, default=1, help="not measured after frame one")
    parser.add_argument("--resolution", action="store_true", help="ask for --width x --height")
    parser.add_argument("--width", type=int)
    parser.add_argument("--height", type=int)
    options = parser.parse_args()

    meter = Meter()
    reactor = Reactor(options.model, local=True, api_url=options.url)
    reactor.track("main_video").on_raw_frame(meter.frame)
    meter.started = time.monotonic()
    await reactor.connect()
    connected = time.monotonic()
    try:
        if options.resolution:
            await reactor.send_command(
                "set_resolution", {"width": options.width, "height": options.height}
            )
        if not await asyncio.to_thread(meter.seen.wait, 15):
            print("official_client.py: no frame within 15 s", file=sys.stderr)
            return 1
        await asyncio.sleep(options.warmup)
        cpu, begin = cpu_seconds(), time.monotonic()
        meter.measuring = True
        await asyncio.sleep(options.seconds)
        meter.measuring = False
        cpu, window = cpu_seconds() - cpu, time.monotonic() - begin
        threads = thread_count()
    finally:
        await reactor.disconnect()
    again = await first_frame_again(options)
    counters = meter.counters
    print(
        json.dumps(
            {
                "client": "reactor-sdk",
                "width": meter.size[0],
                "height": meter.size[1],
                "connect_ms": round((connected - meter.started) * 1000, 1),
                "first_frame_ms": round((meter.first - meter.started) * 1000, 1),
                "first_frame_again_ms": again,
                "latency_p50_ms": percentile(meter.latencies, 0.5),
                "latency_p95_ms": percentile(meter.latencies, 0.95),
                "frames": len(counters),
                "missing": counters[-1] - counters[0] + 1 - len(counters) if counters else None,
                "unreadable": meter.unreadable,
                "seconds": round(window, 3),
                "cpu_seconds": round(cpu, 3),
                "peak_rss_kib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
                "threads": threads,
            }
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
