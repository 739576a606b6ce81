"""Receives through a link that may be too small with the official client; prints one line of
JSON. Measures as narrow.rs does.

    official_narrow.py --url URL --seconds 20
"""

import argparse
import asyncio
import itertools
import json
import sys
import time

from reactor_sdk import Reactor

from measure import cpu_seconds, ms_since, now_us, percentile, read_row


class Meter:
    def __init__(self) -> None:
        self.frames: list[tuple[int, float]] = []
        self.unreadable = 0

    def frame(self, bgra, width, height, frame_id, timestamp_us, user_data) -> None:
        now = now_us()
        counter = read_row(bgra, width, height, 0)
        emitted = read_row(bgra, width, height, 1)
        if counter is None or emitted is None:
            self.unreadable += 1
        elif emitted:  # else the black picture before the model's first
            self.frames.append((now, ms_since(now, emitted)))


async def sample_bytes(reactor: Reactor, begin: float, seconds: float) -> list[list]:
    samples = []
    while time.monotonic() - begin < seconds:
        stats = await reactor.get_stats()
        received = [s.bytes_received or 0 for s in stats.inbound if s.kind == "video"]
        samples.append([round((time.monotonic() - begin) * 1000, 2), sum(received)])
        await asyncio.sleep(0.5)
    return samples


def per_second(frames: list[tuple[float, float]], seconds: int) -> list[list]:
    ages = [[age for seen, age in frames if int(seen / 1000) == n] for n in range(seconds)]
    return [[len(of_second), percentile(of_second, 0.5)] for of_second in ages]


async def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    parser.add_argument("--seconds", type=float, required=True)
    options = parser.parse_args()
    meter = Meter()
    reactor = Reactor("playground", local=True, api_url=options.url)
    reactor.track("main_video").on_raw_frame(meter.frame)
    started = time.monotonic()
    await reactor.connect()
    try:
        ready, begin = time.monotonic(), now_us()
        cpu = cpu_seconds()
        samples = await sample_bytes(reactor, ready, options.seconds)
        cpu, window = cpu_seconds() - cpu, time.monotonic() - ready
        received = list(meter.frames)
    finally:
        await reactor.disconnect()
    frames = [((seen - begin) / 1000, age) for seen, age in received]
    seen = [0.0, *(at for at, _ in frames), window * 1000]
    ages = [age for _, age in frames]
    print(
        json.dumps(
            {
                "client": "reactor-sdk",
                "ready_ms": round((ready - started) * 1000, 2),
                "first_frame_ms": round(frames[0][0], 2) if frames else None,
                "frames": len(frames),
                "latency_p50_ms": percentile(ages, 0.5),
                "latency_p95_ms": percentile(ages, 0.95),
                "longest_ms": round(max(b - a for a, b in itertools.pairwise(seen)), 2),
                "unreadable": meter.unreadable,
                "cpu_seconds": round(cpu, 2),
                "seconds": round(window, 3),
                "per_second": per_second(frames, int(options.seconds)),
                "series": {
                    "frames": [[round(seen, 2), age] for seen, age in frames],
                    "bytes": samples,
                },
            }
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
