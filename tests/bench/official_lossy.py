"""Receives through a bad network with the official client; prints one line of JSON.
Measures as lossy.rs does, from the first frame on.

    official_lossy.py --url URL --seconds 60
"""

import argparse
import asyncio
import itertools
import json
import sys
import threading
import time

from reactor_sdk import Reactor

from measure import cpu_seconds, ms_since, now_us, percentile, read_row

FIRST_FRAME_LIMIT = 60
FREEZE_MS = 200


class Meter:
    def __init__(self) -> None:
        self.begun = threading.Event()
        self.frames: list[tuple[int, int, float]] = []
        self.unreadable = 0

    def frame(self, bgra, width, height, frame_id, timestamp_us, user_data) -> None:
        now = now_us()
        counter = read_row(bgra, width, height, 0)
        emitted = read_row(bgra, width, height, 1)
        if counter is None or emitted is None:
            self.unreadable += 1
            return
        if not emitted:
            return  # the black picture before the model's first
        self.frames.append((counter, now, ms_since(now, emitted)))
        self.begun.set()


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
        if not await asyncio.to_thread(meter.begun.wait, FIRST_FRAME_LIMIT):
            print("official_lossy.py: no frame", file=sys.stderr)
            return 1
        cpu, begin = cpu_seconds(), time.monotonic()
        await asyncio.sleep(options.seconds)
        frames = list(meter.frames)
        cpu, window = cpu_seconds() - cpu, time.monotonic() - begin
    finally:
        await reactor.disconnect()
    counters = {counter for counter, _, _ in frames}
    span = max(counters) - min(counters) + 1
    gaps = [(b[1] - a[1]) / 1000 for a, b in itertools.pairwise(frames)]
    freezes = [gap for gap in gaps if gap > FREEZE_MS]
    ages = [age for _, _, age in frames]
    print(
        json.dumps(
            {
                "client": "reactor-sdk",
                "first_frame_ms": round((begin - started) * 1000, 1),
                "frames": len(counters),
                "lost": span - len(counters),
                "lost_percent": round((span - len(counters)) * 100 / span, 2),
                "freezes": len(freezes),
                "frozen_s": round(sum(freezes) / 1000, 2),
                "longest_ms": round(max(freezes, default=0), 2),
                "latency_p50_ms": percentile(ages, 0.5),
                "latency_p95_ms": percentile(ages, 0.95),
                "unreadable": meter.unreadable,
                "cpu_seconds": round(cpu, 2),
                "seconds": round(window, 3),
            }
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
