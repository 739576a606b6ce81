"""Camera to model to screen with the official client; prints one line of JSON.

    official_roundtrip.py --url http://127.0.0.1:8080 --pictures DIR --size 1280x720

Measures as roundtrip.rs does: latency is push_frame -> first callback with a picture of the
model that shows it, by one machine's CLOCK_MONOTONIC.
"""

import argparse
import asyncio
import json
import sys
import threading
import time
from pathlib import Path

from reactor_sdk import Reactor

from measure import cpu_seconds, ms_since, now_us, percentile, read_inset, read_row
from pictures import Scene

# Until libwebrtc's bitrate has reached its final value, in seconds.
WARM_UP = 8


class Camera(threading.Thread):
    """Pushes pictures at a steady rate, and records when each was handed in."""

    def __init__(self, track, scene: Scene, period: float) -> None:
        super().__init__(daemon=True)
        self._track, self._scene, self._period = track, scene, period
        self.handed: list[int | None] = [None] * (scene.numbers + 1)
        self.stop = threading.Event()

    def run(self) -> None:
        begin, count = time.monotonic(), 0
        while not self.stop.wait(max(0, begin + count * self._period - time.monotonic())):
            number = count % self._scene.numbers + 1
            picture = self._scene.draw(number)
            self.handed[number] = now_us()
            self._track.push_frame(picture)
            count += 1


class Sights:
    """Decodes the model's pictures: the camera's number, time of emission, time of arrival."""

    def __init__(self) -> None:
        self.any = threading.Event()
        self.list: list[tuple[int, int, int] | None] = []

    def frame(self, bgra, width, height, frame_id, timestamp_us, user_data) -> None:
        seen = now_us()
        emitted = read_row(bgra, width, height, 1)
        number = read_inset(bgra, width, height)
        if not emitted or not number:
            self.list.append(None)
            return
        self.list.append((number, emitted, seen))
        self.any.set()


def trips(sights: list, handed: list) -> dict[str, list[float]]:
    """The transit times of the camera's pictures, when first seen, in ms."""
    total, up, down, last = [], [], [], None
    for number, emitted, seen in filter(None, sights):
        # The first one may have been visible before.
        fresh = last is not None and last != number
        last = number
        if fresh and handed[number] is not None:
            total.append(ms_since(seen, handed[number]))
            up.append(ms_since(emitted, handed[number]))
            down.append(ms_since(seen, emitted))
    return {"total": total, "up": up, "down": down}


async def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    parser.add_argument("--pictures", type=Path, required=True)
    parser.add_argument("--size", required=True)
    parser.add_argument("--seconds", type=float, default=10)
    options = parser.parse_args()
    width, height = map(int, options.size.split("x"))

    sights = Sights()
    reactor = Reactor("playground", local=True, api_url=options.url)
    reactor.track("main_video").on_raw_frame(sights.frame)
    await reactor.connect()
    track = await reactor.track("camera").publish()
    # A little slower than the model, see roundtrip.rs.
    period = 1 / (30 - 1 / options.seconds)
    camera = Camera(track, Scene(options.pictures, width, height), period)
    camera.start()
    try:
        if not await asyncio.to_thread(sights.any.wait, 15):
            print("official_roundtrip.py: no camera within 15 s", file=sys.stderr)
            return 1
        await asyncio.sleep(WARM_UP)
        before = await reactor.get_stats()
        sights.list = []
        cpu, begin = cpu_seconds(), time.monotonic()
        await asyncio.sleep(options.seconds)
        seen, sights.list = sights.list, []
        cpu, window = cpu_seconds() - cpu, time.monotonic() - begin
        after = await reactor.get_stats()
    finally:
        camera.stop.set()
        camera.join()
        await reactor.disconnect()
    # The list contains the audio stream, which is silent.
    out, old = (next(s for s in stats.outbound if s.kind == "video") for stats in (after, before))
    times = trips(seen, camera.handed)
    print(
        json.dumps(
            {
                "client": "reactor-sdk",
                "latency_p50_ms": percentile(times["total"], 0.5),
                "latency_p95_ms": percentile(times["total"], 0.95),
                "up_p50_ms": percentile(times["up"], 0.5),
                "down_p50_ms": percentile(times["down"], 0.5),
                "pictures": len(times["total"]),
                "unreadable": seen.count(None),
                "seconds": round(window, 3),
                "cpu_seconds": round(cpu, 3),
                "sent_width": out.frame_width,
                "sent_height": out.frame_height,
                "sent_kbit_s": round((out.bytes_sent - old.bytes_sent) / 125 / window),
            }
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
