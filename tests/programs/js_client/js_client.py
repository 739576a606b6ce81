#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The platform's JavaScript client in headless Chromium: js_client.py BUNDLE URL

As second_client.py, with the steps connect, leave (the session may be taken up again), reconnect
and disconnect (ends the session).

Serves the page, and the runtime at URL below /api. Version 2.9 of the client, the newest in the
registry, knows one connection per session, whose address has no id; runtime 3.10 keeps the id
1001 for it, and that is put into the address on the way.
"""

from __future__ import annotations

import http.server
import queue
import subprocess
import sys
import tempfile
import threading
import urllib.error
import urllib.request
from pathlib import Path

PAGE = b"""<!doctype html><video muted autoplay playsinline></video>
<script type="module" src="/client.js"></script>"""

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--autoplay-policy=no-user-gesture-required",
]

OLD, NEW = "/transport/webrtc/sdp_params", "/transport/webrtc/connections/1001/sdp_params"

steps: queue.Queue[str] = queue.Queue()
# Each report is a line: requests come on threads of their own.
reports = threading.Lock()
# No proxy: the server is on this machine.
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/client.js":
            self.answer(200, Path(sys.argv[1]).read_bytes(), "text/javascript")
        elif self.path == "/next":
            self.answer(200, steps.get().encode(), "text/plain")
        elif not self.forward():
            self.answer(200, PAGE, "text/html")

    def do_POST(self) -> None:
        if not self.forward():
            report = self.body().decode()
            with reports:
                print(report, flush=True)
            self.answer(200, b"", "text/plain")

    def do_PUT(self) -> None:
        self.forward()

    def do_DELETE(self) -> None:
        self.forward()

    def forward(self) -> bool:
        if not self.path.startswith("/api/"):
            return False
        url = sys.argv[2] + self.path.removeprefix("/api").replace(OLD, NEW)
        hop = {"host", "connection", "content-length", "accept-encoding"}
        headers = {name: value for name, value in self.headers.items() if name.lower() not in hop}
        request = urllib.request.Request(
            url, self.body() or None, headers=headers, method=self.command
        )
        try:
            with opener.open(request, timeout=30) as reply:
                self.answer(reply.status, reply.read(), reply.headers["Content-Type"])
        except urllib.error.HTTPError as error:
            self.answer(error.code, error.read(), error.headers["Content-Type"])
        return True

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def answer(self, status: int, body: bytes, kind: str | None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind or "application/octet-stream")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def main() -> None:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}/"
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        browser = subprocess.Popen(
            ["chromium", *FLAGS, f"--user-data-dir={profile}", address],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        try:
            for line in sys.stdin:
                steps.put(line.strip())
        finally:
            browser.terminate()
            browser.wait(10)


if __name__ == "__main__":
    main()
