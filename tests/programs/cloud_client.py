"""Uses the cloud's API with the official client, and prints the results.

    cloud_client.py URL API_KEY            every call once, and an orderly end
    cloud_client.py URL API_KEY --again    reconnects, and joins with a second client
    cloud_client.py URL API_KEY --vanish   connects and exits without notice

Prints one line of JSON.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import sys
import threading
import time

from PIL import Image
from reactor_sdk import Reactor

FRAMES = 30
LIMIT = 30


def picture() -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(data, "PNG")
    return data.getvalue()


class Frames:
    """Counts pictures that are not black: the first may be."""

    def __init__(self, reactor: Reactor) -> None:
        self.count = 0
        self.enough = threading.Event()
        reactor.track("main_video").on_raw_frame(self.frame)

    def frame(self, bgra, width, height, frame_id, timestamp_us, user_data) -> None:
        if any(bgra[1::4]):
            self.count += 1
        if self.count >= FRAMES:
            self.enough.set()


async def everything(reactor: Reactor, frames: Frames, told: dict) -> None:
    told["enough_frames"] = await asyncio.to_thread(frames.enough.wait, LIMIT)
    told["echo"] = await reactor.send_command("echo", {"text": "hello"})
    image = await reactor.upload_file(picture(), name="red.png", mime_type="image/png")
    told["upload"] = image.size
    told["set_image"] = await reactor.send_command("set_image", {"image": image})
    clip = await reactor.request_clip(2)
    told["clip_session"] = clip.session_id
    video = await asyncio.wait_for(reactor.download(clip), LIMIT)
    told["clip_bytes"] = len(video)
    told["clip_boxes"] = [video[4:8].decode(), video.count(b"moof")]


async def again(reactor: Reactor, url: str, key: str, told: dict) -> None:
    await reactor.reconnect()
    told["after_reconnect"] = await reactor.send_command("echo", {"text": "back"})
    # The second client's key is exchanged for a token that is bound to the session.
    second = Reactor("playground", key, api_url=url)
    await second.connect(session_id=reactor.session_id)
    told["second"] = await second.send_command("echo", {"text": "joined"})
    await second.disconnect()
    told["after_second"] = await reactor.send_command("echo", {"text": "still"})


async def last_word(told: dict) -> None:
    """The client reports its status on a thread of its own, which may be late."""
    deadline = time.monotonic() + LIMIT
    while told["statuses"][-1] != "disconnected" and time.monotonic() < deadline:
        await asyncio.sleep(0.01)


async def main(url: str, key: str, *flags: str) -> None:
    reactor = Reactor("playground", key, api_url=url)
    told: dict = {"statuses": []}
    reactor.on_status(lambda status: told["statuses"].append(str(getattr(status, "value", status))))
    frames = Frames(reactor)
    await reactor.connect()
    told["session_id"] = reactor.session_id
    if "--vanish" in flags:
        await asyncio.to_thread(frames.enough.wait, LIMIT)
        print(json.dumps(told), flush=True)
        os._exit(0)
    try:
        if "--again" in flags:
            await again(reactor, url, key, told)
        else:
            await everything(reactor, frames, told)
    finally:
        await reactor.disconnect()
    await last_word(told)
    print(json.dumps(told))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
