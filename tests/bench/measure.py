"""Shared by the official client's benchmarks: decoding pictures, figures of this process."""

from __future__ import annotations

import resource
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples/models/playground"))

from framecode import CELLS, cell_size, crc8


def now_us() -> int:
    """CLOCK_MONOTONIC in microseconds, as the playground writes it."""
    return time.monotonic_ns() // 1000


def ms_since(later: int, earlier: int) -> float:
    return ((later - earlier) & 0xFFFFFFFF) / 1000


def read_row(bgra: bytes, width: int, height: int, row: int) -> int | None:
    """Like framecode.read_row, directly from the bytes: 40 look-ups, no conversion."""
    cell_w, cell_h = cell_size(width, height)
    at = ((row * cell_h + cell_h // 2) * width + cell_w // 2) * 4 + 1
    bits = 0
    for _ in range(CELLS):
        bits = bits << 1 | (bgra[at] >> 7)
        at += cell_w * 4
    return _checked(bits)


def read_inset(bgra: bytes, width: int, height: int) -> int | None:
    """The camera's number. Its picture is as large as the model's, and is shown inverted in
    a third of the width, above the prompt, see picture.py. Both rows say the same.
    """
    cell_w, cell_h = cell_size(width, height)
    shown_w = -(-width // 3)
    shown_h = shown_w * height // width
    top = height - max(14, height // 8) - shown_h
    values = []
    for row in (0, 1):
        line = (top + (row * cell_h + cell_h // 2) * shown_h // height) * width
        bits = 0
        for cell in range(CELLS):
            x = (cell * cell_w + cell_w // 2) * shown_w // width
            bits = bits << 1 | (bgra[(line + x) * 4 + 1] < 128)
        values.append(_checked(bits))
    return values[0] if values[0] == values[1] else None


def _checked(bits: int) -> int | None:
    value = bits >> 8
    return value if crc8(value.to_bytes(4, "big")) == bits & 0xFF else None


def percentile(values: list[float], part: float) -> float | None:
    if not values:
        return None
    return round(sorted(values)[min(len(values) - 1, int(len(values) * part))], 2)


def cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def thread_count() -> int:
    try:
        return len(list(Path("/proc/self/task").iterdir()))
    except OSError:
        return threading.active_count()
