"""The machine-readable code at the top of every video frame.

Two rows of 40 cells; a cell is black (0) or white (1), most significant bit first:
a 32-bit value, then CRC-8 (polynomial 0x07) over its four big-endian bytes. Row 0 is
the frame counter, row 1 the emit time (CLOCK_MONOTONIC, microseconds modulo 2**32).
An all-black frame, which is not the playground's, reads as 0 and 0 with a matching CRC.
"""

from __future__ import annotations

import numpy as np

CELLS = 40
ROWS = 2


def _crc_table() -> list[int]:
    table = []
    for crc in range(256):
        for _ in range(8):
            crc = ((crc << 1) ^ 0x07) & 0xFF if crc & 0x80 else crc << 1  # noqa: PLW2901
        table.append(crc)
    return table


_CRC = _crc_table()


def crc8(data: bytes) -> int:
    crc = 0
    for byte in data:
        crc = _CRC[crc ^ byte]
    return crc


def cell_size(width: int, height: int) -> tuple[int, int]:
    return width // CELLS, max(8, height // 24)


def code_height(height: int) -> int:
    return ROWS * max(8, height // 24)


def write_row(frame: np.ndarray, row: int, value: int) -> None:
    """Draw `value` into code row `row` of an (H, W, 3) frame."""
    height, width = frame.shape[:2]
    cell_w, cell_h = cell_size(width, height)
    data = (value & 0xFFFFFFFF).to_bytes(4, "big")
    bits = np.unpackbits(np.frombuffer(data + bytes([crc8(data)]), dtype=np.uint8))
    band = frame[row * cell_h : (row + 1) * cell_h]
    band[:, : CELLS * cell_w] = np.repeat(bits * np.uint8(255), cell_w)[None, :, None]
    band[:, CELLS * cell_w :] = 0


def read_row(frame: np.ndarray, row: int) -> int | None:
    """Read code row `row` of an (H, W) or (H, W, C) frame; None if the CRC does not match."""
    height, width = frame.shape[:2]
    cell_w, cell_h = cell_size(width, height)
    line = frame[row * cell_h + cell_h // 2, cell_w // 2 : CELLS * cell_w : cell_w]
    if line.ndim == 2:
        line = line[:, 1]
    data = np.packbits(line >= 128).tobytes()
    return int.from_bytes(data[:4], "big") if crc8(data[:4]) == data[4] else None
