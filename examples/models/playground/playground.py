"""A small model for the local runtime that uses every feature of a model.

It streams moving video with a machine-readable code (see framecode.py) and a tone, shows the
camera's video, mixes in the microphone's audio, and has a command for each case that a client
has to handle: replies, errors, uploads, large messages, changes of resolution, a crash.
"""

from __future__ import annotations

import asyncio
import io
import os
import time

from PIL import Image
from reactor_runtime import (
    Audio,
    BufferClosed,
    ClientInfo,
    CommandError,
    InputField,
    InputFrame,
    InputState,
    MediaInput,
    ModelMessage,
    Output,
    ReactorApp,
    ReadMode,
    TrackPayload,
    UploadedFile,
    Video,
    connected,
    disconnected,
    event,
    session_started,
)

import framecode
from picture import Picture
from sound import Sound

# How often per second the runtime polls for a new frame. Its default is once per frame period,
# which delays a frame by half a period on average. The interval is just above the 5 ms for
# which the runtime sleeps at a time, so that it does not spin.
PLAYOUT_RATE = 1 / 0.0053
# If the schedule is late by more seconds than this, it restarts instead of catching up.
MAX_BEHIND = 0.25


def _setting(name: str, default: int) -> int:
    return int(os.environ.get(f"PLAYGROUND_{name}") or default)


class PlaygroundOutput(Output):
    main_video: Video
    main_audio: Audio


class PlaygroundInput(MediaInput):
    camera: Video
    microphone: Audio


class PlaygroundState(InputState):
    brightness: float = InputField(
        0.0, ge=-1, le=1, description="Added to the picture: -1 is black, 1 is white."
    )
    paused: bool = InputField(False, description="While true, no frames are sent.")


class Tick(ModelMessage):
    """Sent every second: the newest frame's counter and how many clients there are."""

    frame: int
    clients: int


class PromptChanged(ModelMessage):
    """Sent to every client when the prompt changes: the first frame with it has this counter."""

    prompt: str
    frame: int


class Echoed(ModelMessage):
    """The answer to `echo`."""

    text: str
    length: int


class BlobData(ModelMessage):
    """The answer to `blob`."""

    size: int
    data: str


class CameraMetadata(ModelMessage):
    """Sent with PLAYGROUND_METADATA=1: what came attached to a picture of the camera's."""

    text: str
    capture_time_us: int


class Playground(ReactorApp):
    state: PlaygroundState
    media: PlaygroundInput

    def __init__(self) -> None:
        super().__init__()
        self._size = (_setting("WIDTH", 640), _setting("HEIGHT", 360))
        self._rate = _setting("FPS", 30)
        # The runtime repeats a frame that has metadata until the next frame is emitted, so
        # metadata is off by default.
        self._metadata = bool(_setting("METADATA", 0))
        self._reset()

    def _reset(self) -> None:
        # A client that the end of a session overtook connects after that end.
        self._audience: set[int] = set()
        self._counter = 0
        self._new_size: tuple[int, int] | None = None
        self._picture = Picture(*self._size)
        self._sound = Sound(self._rate)
        self._crash = False
        self._camera_metadata: CameraMetadata | None = None

    # -- session and clients -------------------------------------------------------

    @session_started
    def on_session_started(self) -> None:
        self._reset()

    @connected
    def on_connected(self, client: ClientInfo) -> None:
        if not client.system:
            self._audience.add(client.id)

    @disconnected
    def on_disconnected(self, client: ClientInfo) -> None:
        self._audience.discard(client.id)

    # -- commands --------------------------------------------------------------------

    @event(name="set_prompt", description="Show this text and tell every client.")
    async def set_prompt(self, prompt: str = InputField(max_length=500, moderate=True)) -> None:
        self._picture.set_prompt(prompt)
        await self.send(PromptChanged(prompt=prompt, frame=self._counter))

    @event(name="set_resolution", description="Change the picture's size from the next frame on.")
    def set_resolution(
        self,
        width: int = InputField(ge=160, le=1920),
        height: int = InputField(ge=120, le=1080),
    ) -> None:
        if width % 2 or height % 2:
            raise CommandError("bad_resolution", "Width and height must be even.")
        self._new_size = (width, height)

    @event(name="set_image", description="Show an uploaded image in the right third.")
    async def set_image(self, image: UploadedFile = InputField()) -> None:
        def decode() -> Image.Image:
            picture = Image.open(io.BytesIO(image.data)).convert("RGB")
            picture.thumbnail((1920, 1080))
            return picture

        try:
            picture = await asyncio.to_thread(decode)
        except Exception as error:
            raise CommandError("bad_image", f"{image.name} is not an image.") from error
        self._picture.set_image(picture)

    @event(name="echo", description="Answer with the same text.")
    def echo(self, text: str) -> Echoed:
        return Echoed(text=text, length=len(text))

    @event(name="blob", description="Answer with a message that carries this many characters.")
    def blob(self, size: int = InputField(ge=0, le=10_000_000)) -> BlobData:
        return BlobData(size=size, data=("0123456789abcdef" * (size // 16 + 1))[:size])

    @event(name="sleep", description="Reply after this time, in seconds.")
    async def sleep(self, seconds: float = InputField(ge=0, le=60)) -> None:
        await asyncio.sleep(seconds)

    @event(name="fail", description="Always fails.")
    def fail(self) -> None:
        raise CommandError("told_to_fail", "You asked for it.")

    @event(name="crash", description="End the session, and the runtime, with an error.")
    def crash(self) -> None:
        self._crash = True

    # -- the loop ----------------------------------------------------------------------

    async def run(self) -> None:
        period = 1 / self._rate
        while True:
            await self.connected.wait()
            due = next_tick = time.monotonic()
            while self.connected.is_set():
                begun = time.monotonic()
                if self._crash:
                    raise RuntimeError("told to crash")
                if self.state is not None and not self.state.paused:
                    await self._emit_frame(period)
                if self._camera_metadata is not None:
                    metadata, self._camera_metadata = self._camera_metadata, None
                    await self.send(metadata)
                if time.monotonic() >= next_tick:
                    next_tick += 1
                    await self.send(Tick(max(0, self._counter - 1), len(self._audience)))
                due += period
                now = time.monotonic()
                if now - due > MAX_BEHIND:
                    due = now
                # A late schedule catches up at twice the rate: an encoder drops frames of a burst.
                await asyncio.sleep(max(due, begun + period / 2, now) - now)
            self._read_inputs()
            self._sound.clear_microphone()
            self._picture.set_camera(None)

    async def _emit_frame(self, period: float) -> None:
        if self._new_size:
            self._picture.resize(*self._new_size)
            self._new_size = None
        self._picture.set_brightness(self.state.brightness)
        self._read_inputs()
        counter = self._counter
        self._counter += 1
        sound = self._sound.frame(counter)
        frame = self._picture.draw(counter)
        framecode.write_row(frame, 0, counter)
        framecode.write_row(frame, 1, time.monotonic_ns() // 1000)
        if self._metadata:
            frame = TrackPayload(frame, metadata=f"frame-{counter}".encode())
        # compute_time tags the frame with its real rate, which the recording uses.
        await self.emit(PlaygroundOutput(main_video=frame, main_audio=sound), compute_time=period)
        # Frames with metadata would be repeated at the playout rate, and some of them arrived
        # with the metadata of the previous frame.
        self.output.fps = self._rate if self._metadata else PLAYOUT_RATE

    def _read_inputs(self) -> None:
        try:
            if pictures := self.media.camera.try_read(1, ReadMode.LATEST):
                self._picture.set_camera(pictures[0].data)
                self._read_metadata(pictures[0])
            if waiting := self.media.microphone.available:
                for part in self.media.microphone.try_read(waiting, ReadMode.FIFO) or ():
                    self._sound.queue_microphone(part.data)
        except BufferClosed:
            pass

    def _read_metadata(self, picture: InputFrame) -> None:
        if self._metadata:
            text = (picture.metadata or b"").decode(errors="replace")
            self._camera_metadata = CameraMetadata(text, picture.capture_time_us or 0)
