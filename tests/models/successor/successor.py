"""A model that takes the playground's place, with the same tracks and other commands.

`echo` is the same one, `set_prompt` has another parameter, `set_resolution` has one less,
`set_image` has a text in the place of a file, `set_brightness` is gone, `set_speed` is new.
"""

from __future__ import annotations

import asyncio

import numpy as np
from reactor_runtime import (
    Audio,
    InputField,
    InputState,
    MediaInput,
    ModelMessage,
    Output,
    ReactorApp,
    Video,
    event,
)

SIZE = (180, 320, 3)
PERIOD = 1 / 15
SILENCE = np.zeros((1, 3200), dtype=np.int16)


class SuccessorOutput(Output):
    main_video: Video
    main_audio: Audio


class SuccessorInput(MediaInput):
    camera: Video
    microphone: Audio


class SuccessorState(InputState):
    speed: float = InputField(1.0, ge=0, le=2, description="How fast the picture changes.")


class Echoed(ModelMessage):
    """The answer to `echo`."""

    text: str
    length: int


class Told(ModelMessage):
    """The answer to the other commands: their arguments."""

    arguments: str


class Successor(ReactorApp):
    state: SuccessorState
    media: SuccessorInput

    @event(name="echo", description="Answer with the same text.")
    def echo(self, text: str) -> Echoed:
        return Echoed(text=text, length=len(text))

    @event(name="set_prompt", description="Show this text and tell every client.")
    def set_prompt(
        self, prompt: str = InputField(max_length=500), style: str = InputField("oil")
    ) -> Told:
        return Told(arguments=f"{prompt}|{style}")

    @event(name="set_resolution", description="Change the picture's size from the next frame on.")
    def set_resolution(self, width: int = InputField(ge=160, le=1920)) -> Told:
        return Told(arguments=str(width))

    @event(name="set_image", description="Show an image of this name.")
    def set_image(self, image: str = InputField()) -> Told:
        return Told(arguments=image)

    async def run(self) -> None:
        level = 0.0
        while True:
            await self.connected.wait()
            while self.connected.is_set():
                level += self.state.speed if self.state is not None else 0
                frame = np.full(SIZE, int(level) % 256, dtype=np.uint8)
                output = SuccessorOutput(main_video=frame, main_audio=SILENCE)
                await self.emit(output, compute_time=PERIOD)
                await asyncio.sleep(PERIOD)
