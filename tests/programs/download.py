"""Downloads a clip with the official client: download.py PLAYLIST_URL FILE

Prints one line of JSON: the seconds that it took, and its peak memory in KiB.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import time

from reactor_sdk import Clip, download_clip


async def main(url: str, path: str) -> None:
    clip = Clip(
        session_id="",
        kind="snap",
        start_marker=0.0,
        end_marker=0.0,
        now_marker=0.0,
        predicted_ready_at_ms=int(time.time() * 1000),
        playlist_url=url,
    )
    began = time.monotonic()
    await download_clip(clip, path)
    seconds = time.monotonic() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"seconds": seconds, "peak_kib": peak}))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
