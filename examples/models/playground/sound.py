"""The playground's audio: a tone that marks every second, mixed with the microphone's audio."""

from __future__ import annotations

from collections import deque

import numpy as np

RATE = 48_000
LEVEL = 0.1  # -20 dBFS peak
MARK_SAMPLES = RATE // 10
MAX_BACKLOG = RATE // 5  # 200 ms of microphone samples; older ones are dropped
PREROLL = (
    RATE // 50
)  # 20 ms of microphone samples that are queued first, so that jitter makes no gaps


def _one_second() -> np.ndarray:
    # Both tones have a whole number of periods (88 and 396), so the second repeats seamlessly.
    t = np.arange(RATE) / RATE
    hz = np.where(np.arange(RATE) < MARK_SAMPLES, 880.0, 440.0)
    tone = np.sin(2 * np.pi * hz * t) * LEVEL * 32767
    return np.rint(tone).astype(np.int16)


class Sound:
    def __init__(self, fps: int) -> None:
        self._fps = fps
        second = _one_second()
        self._tone = np.concatenate([second, second])
        self._mic: deque[np.ndarray] = deque()
        self._mic_samples = 0
        self._mixing = False

    def queue_microphone(self, samples: np.ndarray) -> None:
        """Queue microphone samples, int16 in any shape."""
        samples = samples.reshape(-1)
        self._mic.append(samples)
        self._mic_samples += samples.size
        while self._mic_samples > MAX_BACKLOG:
            self._mic_samples -= self._mic.popleft().size

    def clear_microphone(self) -> None:
        self._mic.clear()
        self._mic_samples = 0
        self._mixing = False

    def frame(self, counter: int) -> np.ndarray:
        """Return the samples of video frame `counter`, as (1, N)."""
        start = counter * RATE // self._fps
        count = (counter + 1) * RATE // self._fps - start
        offset = start % RATE
        out = self._tone[offset : offset + count]
        mic = self._take_microphone(count)
        if mic is not None:
            out = out.astype(np.int32)
            out[: mic.size] += mic
            out = out.clip(-32768, 32767).astype(np.int16)
        return out.reshape(1, -1)

    def _take_microphone(self, count: int) -> np.ndarray | None:
        self._mixing = bool(self._mic) and (self._mixing or self._mic_samples >= count + PREROLL)
        if not self._mixing:
            return None
        parts, got = [], 0
        while self._mic and got < count:
            part = self._mic.popleft()
            rest = part[count - got :]
            if rest.size:
                self._mic.appendleft(rest)
                part = part[: count - got]
            parts.append(part)
            got += part.size
        self._mic_samples -= got
        return np.concatenate(parts)
