# SPDX-License-Identifier: MIT
"""The official client in a local runtime's session, step by step: second_client.py URL

Each line of the standard input is a step: connect, which joins a running session, or leave. Prints
one JSON object a line: {"done": STEP, "session": ID}, and {"frame": [COUNTER, EMITTED]} for each
picture, see framecode.py.
"""

from __future__ import annotations

import asyncio
import json
import sys
import urllib.request
from pathlib import Path

import numpy as np
from reactor_sdk import Reactor

sys.path.insert(0, str(Path(__file__).parents[2] / "examples/models/playground"))
import framecode


def report(what: dict) -> None:
    print(json.dumps(what), flush=True)


def running_session(url: str) -> str | None:
    # No proxy: the server is on this machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"{url}/session", timeout=10) as reply:
        session = json.load(reply)
    # In the state ready, it is nobody's.
    return None if session["state"] == "ready" else session["session_id"]


def see(bgra, width, height, *_: object) -> None:
    picture = np.frombuffer(bgra, np.uint8).reshape(height, width, 4)
    code = [framecode.read_row(picture, row) for row in (0, 1)]
    # A black picture is not the model's.
    if code[0] is not None and code[1]:
        report({"frame": code})


async def main(url: str) -> None:
    loop = asyncio.get_running_loop()
    reactor: Reactor | None = None
    while step := (await loop.run_in_executor(None, sys.stdin.readline)).strip():
        if step == "connect":
            reactor = Reactor("playground", local=True, api_url=url)
            reactor.track("main_video").on_raw_frame(see)
            await reactor.connect(session_id=running_session(url))
            report({"done": step, "session": reactor.session_id})
        elif step == "leave":
            await reactor.disconnect()
            reactor.close()
            report({"done": step})
        else:
            sys.exit(f"no step: {step}")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
