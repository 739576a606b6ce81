"""Unit tests of the playground's video and audio, without a session of the runtime."""

import sys
import time
import unittest
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "playground"))

from PIL import Image

import framecode
from picture import Picture
from sound import LEVEL, RATE, Sound

SIZES = [(640, 360), (1280, 720), (160, 120), (1920, 1080), (1920, 120), (160, 1080), (642, 362)]


def busy_picture(width, height):
    picture = Picture(width, height)
    picture.set_prompt("a forest in the rain " * 10)
    picture.set_image(Image.new("RGB", (300, 500), (200, 30, 30)))
    picture.set_camera(np.full((480, 640, 3), 40, np.uint8))
    return picture


class FrameCodeTest(unittest.TestCase):
    def test_crc8_of_check_string_is_f4(self):
        self.assertEqual(framecode.crc8(b"123456789"), 0xF4)

    def test_rows_round_trip_in_every_size(self):
        for width, height in SIZES:
            for value in (0, 1, 0x12345678, 0xFFFFFFFF):
                frame = busy_picture(width, height).draw(7)
                framecode.write_row(frame, 0, value)
                framecode.write_row(frame, 1, value ^ 0xA5A5A5A5)
                self.assertEqual(framecode.read_row(frame, 0), value)
                self.assertEqual(framecode.read_row(frame, 1), value ^ 0xA5A5A5A5)

    def test_damaged_row_is_refused(self):
        frame = Picture(640, 360).draw(0)
        framecode.write_row(frame, 0, 99)
        frame[:15, :16] = 255 - frame[:15, :16]
        self.assertIsNone(framecode.read_row(frame, 0))

    def test_brightness_does_not_change_code(self):
        for brightness in (-1.0, -0.5, 1.0):
            picture = busy_picture(640, 360)
            picture.set_brightness(brightness)
            frame = picture.draw(3)
            framecode.write_row(frame, 0, 3)
            self.assertEqual(framecode.read_row(frame, 0), 3)
            self.assertEqual(set(np.unique(frame[:15])), {0, 255})
            if abs(brightness) == 1.0:
                self.assertEqual(np.ptp(frame[30 : 360 - 45, 300:400]), 0)


class PictureTest(unittest.TestCase):
    def test_consecutive_pictures_differ(self):
        picture = Picture(640, 360)
        self.assertTrue((picture.draw(0) != picture.draw(1)).any())

    def test_camera_is_shown_inverted(self):
        picture = Picture(640, 360)
        picture.set_camera(np.full((480, 640, 3), 40, np.uint8))
        camera = picture.draw(0)[250:300, 10:200]
        self.assertTrue((camera == 215).all())

    def test_image_is_in_right_third(self):
        picture = Picture(640, 360)
        picture.set_image(Image.new("RGB", (300, 500), (200, 30, 30)))
        self.assertEqual(tuple(picture.draw(0)[180, 600]), (200, 30, 30))

    def test_drawing_takes_little_cpu_time(self):
        picture = busy_picture(1280, 720)
        start = time.thread_time()
        for counter in range(30):
            framecode.write_row(picture.draw(counter), 0, counter)
        self.assertLess(time.thread_time() - start, 0.5)


class SoundTest(unittest.TestCase):
    def test_two_seconds_are_continuous_and_exact(self):
        for fps in (24, 25, 30, 60, 7):
            sound = Sound(fps)
            samples = np.concatenate([sound.frame(i)[0] for i in range(fps * 2)])
            self.assertEqual(samples.size, 2 * RATE)
            peak = np.abs(samples).max() / 32767
            self.assertAlmostEqual(peak, LEVEL, 3)
            # Continuous: no step larger than the steepest of the 880 Hz tone.
            steps = np.abs(np.diff(samples.astype(int))).max()
            self.assertLess(steps, 2 * np.pi * 880 / RATE * LEVEL * 32767 + 2)

    def test_second_begins_with_880_hz(self):
        second = np.concatenate([Sound(30).frame(i)[0] for i in range(30, 60)])
        for part, hz in ((second[:4800], 880), (second[4800:9600], 440)):
            spectrum = np.abs(np.fft.rfft(part.astype(float)))
            self.assertEqual(int(spectrum.argmax()) * 10, hz)

    def test_microphone_is_mixed_in(self):
        sound = Sound(30)
        difference = []
        for counter in range(6):
            for _ in range(6 if counter == 1 else 0):
                sound.queue_microphone(np.full((1, 480), 1000, np.int16))
            mixed, plain = sound.frame(counter)[0], Sound(30).frame(counter)[0]
            difference.append(mixed.astype(int) - plain)
        difference = np.concatenate(difference)
        self.assertEqual(np.flatnonzero(difference).tolist(), list(range(1600, 1600 + 2880)))
        self.assertEqual(set(difference[1600:4480]), {1000})


if __name__ == "__main__":
    unittest.main()
