"""The load of the processors during a measurement: figures of a busy machine mean little."""

from __future__ import annotations

import os
import resource
import time
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")


def _whole() -> float:
    """CPU seconds of all processes, from Linux's /proc, without idle and I/O wait."""
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n")[0].split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) / TICK


def _process(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def _children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


class Share:
    """Measures how many processors the servers and others use on average while it is entered."""

    def __init__(self, servers: list[int]) -> None:
        self._servers = servers
        self.server = self.others = 0.0

    def _read(self) -> tuple[float, float, float, float]:
        servers = sum(_process(server) for server in self._servers)
        return time.monotonic(), _whole(), servers, _children()

    def __enter__(self) -> Share:
        self._begin = self._read()
        return self

    def __exit__(self, *_) -> None:
        pairs = zip(self._read(), self._begin)
        elapsed, whole, server, clients = (now - then for now, then in pairs)
        self.server = server / elapsed
        self.others = max(0.0, whole - server - clients) / elapsed
