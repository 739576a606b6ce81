"""Connects through the stand-in for the cloud with the official client; prints one line of JSON.
Measures as ice.rs does.

    official_ice.py --url URL
"""

import argparse
import asyncio
import json
import statistics
import sys
import threading
import time

from reactor_sdk import Reactor

from measure import read_row

KEY = "rk_test"
CONNECTIONS = 4
# Between two sessions: the server takes a moment to end the first.
SETTLE = 1.0


class FirstFrame:
    def __init__(self) -> None:
        self.at = 0.0
        self.seen = threading.Event()

    def frame(self, bgra, width, height, frame_id, timestamp_us, user_data) -> None:
        # The black picture before the model's first has no emit time.
        if not self.seen.is_set() and read_row(bgra, width, height, 1):
            self.at = time.monotonic()
            self.seen.set()


async def connect(url: str) -> tuple[float, float]:
    """The times in ms until the session is ready, and until the first frame."""
    reactor = Reactor("playground", KEY, api_url=url)
    first = FirstFrame()
    reactor.track("main_video").on_raw_frame(first.frame)
    started = time.monotonic()
    await reactor.connect()
    try:
        ready = time.monotonic()
        if not await asyncio.to_thread(first.seen.wait, 15):
            sys.exit("official_ice.py: no frame within 15 s")
    finally:
        await reactor.disconnect()
    return (ready - started) * 1000, (first.at - started) * 1000


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    options = parser.parse_args()
    times = []
    for _ in range(CONNECTIONS):
        times.append(await connect(options.url))
        await asyncio.sleep(SETTLE)
    ready, first = zip(*times)
    print(
        json.dumps(
            {
                "client": "reactor-sdk",
                "connect_ms": round(ready[0], 2),
                "first_frame_ms": round(first[0], 2),
                "connect_again_ms": round(statistics.median(ready[1:]), 2),
                "first_frame_again_ms": round(statistics.median(first[1:]), 2),
            }
        )
    )


if __name__ == "__main__":
    asyncio.run(main())
