"""Several sessions of the official client in one process, each of which receives the picture of a
server of its own; prints one line of JSON. Measures as scale.rs does.

    official_scale.py --url http://127.0.0.1:8080,http://127.0.0.1:8081 --seconds 10
"""

import argparse
import asyncio
import json
import sys
import time
from pathlib import Path

from reactor_sdk import Reactor

from measure import cpu_seconds, percentile, thread_count
from official_client import Meter

WARM_UP = 2


def rss_kib() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))


async def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    parser.add_argument("--seconds", type=float, default=10)
    options = parser.parse_args()

    meters, reactors = [], []
    try:
        for url in options.url.split(","):
            meter = Meter()
            reactor = Reactor("playground", local=True, api_url=url)
            reactor.track("main_video").on_raw_frame(meter.frame)
            await reactor.connect()
            reactors.append(reactor)
            meters.append(meter)
            if not await asyncio.to_thread(meter.seen.wait, 15):
                print("official_scale.py: no frame within 15 s", file=sys.stderr)
                return 1
        await asyncio.sleep(WARM_UP)
        cpu, begin = cpu_seconds(), time.monotonic()
        for meter in meters:
            meter.measuring = True
        await asyncio.sleep(options.seconds)
        for meter in meters:
            meter.measuring = False
        cpu, window = cpu_seconds() - cpu, time.monotonic() - begin
        threads, rss = thread_count(), rss_kib()
    finally:
        await asyncio.gather(*(reactor.disconnect() for reactor in reactors))
    latencies = [latency for meter in meters for latency in meter.latencies]
    print(
        json.dumps(
            {
                "client": "reactor-sdk",
                "threads": threads,
                "rss_mib": rss // 1024,
                "cpu_per_s": round(cpu / window, 3),
                "frames": len(latencies),
                "least_frames": min(len(meter.latencies) for meter in meters),
                "latency_p50_ms": percentile(latencies, 0.5),
                "latency_p95_ms": percentile(latencies, 0.95),
            }
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
