"""The playground's video frames, composed of layers that are rendered when a setting changes.

A frame is then a few block copies: the drifting background, the ball, the prompt, the uploaded
image and the camera. Brightness is applied to the layers, and so never to the code rows at the
top.
"""

from __future__ import annotations

import textwrap

import numpy as np
from PIL import Image, ImageDraw, ImageFont

import framecode

DRIFT = 2  # pixels per frame


class Picture:
    def __init__(self, width: int, height: int) -> None:
        self.prompt = ""
        self._brightness = 0.0
        self._image: Image.Image | None = None
        self._camera: np.ndarray | None = None
        self.resize(width, height)

    # -- settings -------------------------------------------------------------

    def resize(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self._top = framecode.code_height(height)
        self._bottom = height - max(14, height // 8)  # the prompt is below
        self._plain = {
            "background": self._draw_background(),
            "prompt": self._draw_prompt(),
            "ball": self._draw_ball(),
        }
        self._fit_image()
        self._bake()

    def set_prompt(self, prompt: str) -> None:
        self.prompt = prompt
        self._plain["prompt"] = self._draw_prompt()
        self._bake("prompt")

    def set_brightness(self, brightness: float) -> None:
        if brightness != self._brightness:
            self._brightness = brightness
            self._bake()

    def set_image(self, image: Image.Image | None) -> None:
        self._image = image
        self._fit_image()
        self._bake()

    def set_camera(self, frame: np.ndarray | None) -> None:
        """Show `frame` (H, W, 3), inverted, in the lower left."""
        self._camera = None
        if frame is None:
            return
        room = self._bottom - self._top
        width = -(-self.width // 3)
        height = max(1, min(room, width * frame.shape[0] // frame.shape[1]))
        rows = np.arange(height) * frame.shape[0] // height
        columns = np.arange(width) * frame.shape[1] // width
        self._camera = self._lit(255 - frame[rows].take(columns, axis=1))

    # -- a frame -----------------------------------------------------------------

    def draw(self, counter: int) -> np.ndarray:
        """Return a new frame without its code rows. The caller owns it."""
        frame = np.empty((self.height, self.width, 3), dtype=np.uint8)
        frame[: self._top] = 0
        shift = counter * DRIFT % self.width
        frame[self._top : self._bottom] = self._layers["background"][:, shift : shift + self.width]
        frame[self._bottom :] = self._layers["prompt"]

        ball = self._layers["ball"]
        size = ball.shape[0]
        x = _bounce(counter * 5, self.width - size)
        y = self._top + _bounce(counter * 3, self._bottom - self._top - size)
        np.copyto(frame[y : y + size, x : x + size], ball, where=self._ball_mask)

        image = self._layers.get("image")
        if image is not None:
            y = self._top + (self._bottom - self._top - image.shape[0]) // 2
            frame[y : y + image.shape[0], self.width - image.shape[1] :] = image
        if self._camera is not None:
            height, width = self._camera.shape[:2]
            frame[self._bottom - height : self._bottom, :width] = self._camera
        return frame

    # -- layers ------------------------------------------------------------------

    def _lit(self, layer: np.ndarray) -> np.ndarray:
        if not self._brightness:
            return layer
        table = np.arange(256) + round(self._brightness * 255)
        return table.clip(0, 255).astype(np.uint8)[layer]

    def _bake(self, *names: str) -> None:
        if not names:
            self._layers = {}
        for name in names or tuple(self._plain):
            self._layers[name] = self._lit(self._plain[name])

    def _draw_background(self) -> np.ndarray:
        """Two periods of a horizontal gradient whose period is the width: slices of it drift."""
        x = np.arange(2 * self.width) * (2 * np.pi / self.width)
        wave = np.stack(
            [np.sin(x) * 50 + 90, np.sin(x + 2.1) * 50 + 100, np.sin(x + 4.2) * 50 + 110]
        )
        # Sums are at most 200, so bytes suffice: a change of resolution must not cost frames.
        shade = np.linspace(0, 40, self._bottom - self._top).astype(np.uint8)
        return wave.T.astype(np.uint8)[None] + shade[:, None, None]

    def _draw_ball(self) -> np.ndarray:
        size = max(8, min(self.height // 6, self.width // 6, (self._bottom - self._top) // 2))
        axis = np.linspace(-1, 1, size)
        distance = np.hypot(axis[:, None], axis[None])
        self._ball_mask = (distance <= 1)[..., None]
        shade = (255 - 110 * distance).clip(0, 255)
        return np.stack([shade, shade * 0.75, shade * 0.2], axis=-1).astype(np.uint8)

    def _draw_prompt(self) -> np.ndarray:
        height = self.height - self._bottom
        band = Image.new("RGB", (self.width, height), (16, 18, 28))
        text = " ".join(self.prompt.split())
        if text:
            lines, size = [text], max(9, height * 5 // 8)
            # Long prompts get two, then three lines of smaller text; the rest is cut off.
            for count in (1, 2, 3):
                size = max(8, height * 5 // (8 if count == 1 else 6 * count))
                lines = textwrap.wrap(text, max(8, int(self.width / (size * 0.52))))
                if len(lines) <= count:
                    break
            lines = lines[:3]
            font = ImageFont.load_default(size)
            draw = ImageDraw.Draw(band)
            step = height / len(lines)
            for index, line in enumerate(lines):
                middle = step * (index + 0.5)
                draw.text((size // 2, middle), line, (255, 255, 255), font, anchor="lm")
        return np.asarray(band)

    def _fit_image(self) -> None:
        self._plain.pop("image", None)
        if self._image is not None:
            room = (self.width // 3, self._bottom - self._top)
            scale = min(room[0] / self._image.width, room[1] / self._image.height)
            size = tuple(max(1, round(side * scale)) for side in self._image.size)
            self._plain["image"] = np.asarray(self._image.resize(size))


def _bounce(distance: int, room: int) -> int:
    """Return the position after `distance` of an object that moves to and fro in `room` pixels."""
    if room <= 0:
        return 0
    distance %= 2 * room
    return distance if distance <= room else 2 * room - distance
