"""Joins a local runtime's running session, sends commands and leaves.

    command.py URL NAME JSON [NAME JSON]...

Prints one line per reply. The session goes on: a client that joins does not end it.
"""

from __future__ import annotations

import asyncio
import json
import sys
import urllib.request

from reactor_sdk import Reactor


def running_session(url: str) -> str:
    # No proxy: the server is on this machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"{url}/session", timeout=10) as reply:
        return json.load(reply)["session_id"]


async def main(url: str, *commands: str) -> None:
    reactor = Reactor("playground", local=True, api_url=url)
    await reactor.connect(session_id=running_session(url))
    try:
        for name, data in zip(commands[::2], commands[1::2], strict=True):
            print(name, await reactor.send_command(name, json.loads(data)), flush=True)
    finally:
        await reactor.disconnect()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
