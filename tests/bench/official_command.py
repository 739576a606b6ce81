"""Measures the time from a command that changes the picture to the first picture that shows it,
with the official client; prints one line of JSON.

    official_command.py --url http://127.0.0.1:8080 --seconds 10

Measures as command.rs does.
"""

import argparse
import asyncio
import json
import sys
import threading
import time

from reactor_sdk import Reactor

from measure import ms_since, now_us, percentile

INTERVAL = 0.4127
WARM_UP = 1
BRIGHTNESS = (0.6, 0.0)
THRESHOLD = 100


class Changes:
    """Since when the prompt's background has this brightness."""

    def __init__(self) -> None:
        self.any = threading.Event()
        self.list: list[tuple[bool, int]] = []

    def frame(self, bgra, width, height, frame_id, timestamp_us, user_data) -> None:
        seen = now_us()
        at = (height - height // 16) * width + width - width // 20
        bright = bgra[at * 4 + 1] >= THRESHOLD
        if not self.list or self.list[-1][0] != bright:
            self.list.append((bright, seen))
            self.any.set()


def shown(changes: list, bright: bool, at: int) -> float | None:
    """The time from a command to its effect, unless the next command came first."""
    waits = [ms_since(time, at) for now, time in changes if now == bright]
    return min((wait for wait in waits if wait < INTERVAL * 1000), default=None)


async def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    parser.add_argument("--seconds", type=float, default=10)
    options = parser.parse_args()

    changes = Changes()
    reactor = Reactor("playground", local=True, api_url=options.url)
    reactor.track("main_video").on_raw_frame(changes.frame)
    await reactor.connect()
    try:
        if not await asyncio.to_thread(changes.any.wait, 15):
            print("official_command.py: no picture within 15 s", file=sys.stderr)
            return 1
        await asyncio.sleep(WARM_UP)
        sent, count, begin = [], int(options.seconds / INTERVAL), time.monotonic()
        for index in range(count):
            await asyncio.sleep(max(0, begin + index * INTERVAL - time.monotonic()))
            brightness = BRIGHTNESS[index % 2]
            sent.append((brightness > 0, now_us()))
            await reactor.send_command("set_brightness", {"brightness": brightness})
        await asyncio.sleep(INTERVAL)
    finally:
        await reactor.disconnect()
    waits = [shown(changes.list, bright, at) for bright, at in sent]
    seen = [wait for wait in waits if wait is not None]
    print(
        json.dumps(
            {
                "client": "reactor-sdk",
                "latency_p50_ms": percentile(seen, 0.5),
                "latency_p95_ms": percentile(seen, 0.95),
                "commands": count,
                "unseen": count - len(seen),
            }
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
