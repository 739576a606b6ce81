"""The pictures of the benchmarks' camera, equal for both clients.

Two files of BGRA pixels: `scene.bgra`, two widths wide and repeating after one, so that a
scene that drifts is a slice of it; `codes.bgra`, a line of pixels for each number from 1
on, repeated at the top of a picture over the height of both of framecode's rows.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples/models/playground"))

import framecode

NUMBERS = 1023
DRIFT = 2  # pixels a picture, as in camera.rs
TILE = 16


def write(directory: Path, width: int, height: int) -> None:
    """Soft colours under tiles with hard edges, which an encoder has to work for."""
    random = np.random.default_rng(1)
    x = np.arange(width) * (2 * np.pi / width)
    soft = np.stack([np.sin(x + part) * 50 + 110 for part in (0, 2.1, 4.2)], axis=-1)
    tiles = random.integers(-40, 40, (height // TILE + 1, width // TILE))
    tiles = tiles.repeat(TILE, axis=0)[:height].repeat(TILE, axis=1)
    scene = np.full((height, width, 4), 255, dtype=np.uint8)
    scene[..., :3] = soft[None] + tiles[..., None]
    np.concatenate([scene, scene], axis=1).tofile(directory / "scene.bgra")

    codes = np.full((NUMBERS, width, 4), 255, dtype=np.uint8)
    line = np.empty((height, width, 3), dtype=np.uint8)
    for number in range(1, NUMBERS + 1):
        framecode.write_row(line, 0, number)
        codes[number - 1, :, :3] = line[0]
    codes.tofile(directory / "codes.bgra")


class Scene:
    def __init__(self, directory: Path, width: int, height: int) -> None:
        self.width, self.height = width, height
        scene = np.fromfile(directory / "scene.bgra", dtype=np.uint8)
        self._scene = scene.reshape(height, 2 * width, 4)
        self._codes = np.fromfile(directory / "codes.bgra", dtype=np.uint8).reshape(-1, width, 4)
        self._top = framecode.code_height(height)
        self._picture = np.empty((height, width, 4), dtype=np.uint8)

    @property
    def numbers(self) -> int:
        return len(self._codes)

    def draw(self, number: int) -> np.ndarray:
        """The picture with this number; the next call overwrites it."""
        shift = number * DRIFT % self.width
        self._picture[: self._top] = self._codes[number - 1]
        self._picture[self._top :] = self._scene[self._top :, shift : shift + self.width]
        return self._picture
