"""Measures two ways of doing the same against one server in turn, and prints the medians
side by side, with the ratio of each pair's figures.

    compare.py SERVE_SCRIPT BENCH_BINARY [--only receive|roundtrip|command|encoding]...
        [--runs 5] [--seconds 10] [--size 640x360]...

receive     the model's picture and sound, ours and the official client
roundtrip   a camera's picture to the model and back, ours and the official client
command     from a command to the picture that shows it, ours and the official client
encoding    sending what is encoded already, and having reactorsink encode it
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pictures
from machine import Share

HERE = Path(__file__).resolve().parent
OURS = ("ours", "official")
LATENCY = ("latency_p50_ms", "latency_p95_ms")
RECEIVE = (
    "connect_ms",
    "first_frame_ms",
    "first_frame_again_ms",
    *LATENCY,
    "cpu_seconds",
    "peak_rss_kib",
    "threads",
    "missing",
)
ROUNDTRIP = (
    *LATENCY,
    "up_p50_ms",
    "down_p50_ms",
    "cpu_seconds",
    "pictures",
    "unreadable",
    "sent_width",
    "sent_height",
    "sent_kbit_s",
)
COMMAND = (*LATENCY, "commands", "unseen")
ENCODING = ("cpu_seconds", "pictures", "sent_kbit_s")


def serve(script: str, width: str, height: str) -> dict[str, str]:
    env = os.environ | {"PLAYGROUND_WIDTH": width, "PLAYGROUND_HEIGHT": height}
    command = [script, "start", "--port", "0"]
    line = subprocess.run(command, env=env, check=True, capture_output=True, text=True).stdout
    return dict(part.split("=", 1) for part in line.split())


def measure(command: list[str]) -> dict:
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    if done.returncode != 0:
        sys.exit(f"{command[0]} failed:\n{done.stdout}{done.stderr}")
    return json.loads(done.stdout.strip().splitlines()[-1])


class Bench:
    """The commands that measure, each for a server's address."""

    def __init__(self, options) -> None:
        self._options = options

    def ours(self, what: str, url: str, *rest: str) -> list[str]:
        options = self._options
        return [options.bench, what, url, str(options.seconds), str(options.latency), *rest]

    def official(self, script: str, url: str, *rest: str) -> list[str]:
        seconds = str(self._options.seconds)
        return [sys.executable, str(HERE / script), "--url", url, "--seconds", seconds, *rest]

    def compare(
        self, title: str, size: str, commands: Callable, figures: tuple, names: tuple = OURS
    ) -> None:
        """`commands` are those of a pair, by the server's address."""
        options = self._options
        pairs, shares = [], []
        for _ in range(options.runs):
            server = serve(options.serve, *size.split("x"))
            try:
                pairs.append([])
                for command in commands(f"http://127.0.0.1:{server['port']}"):
                    with Share(int(server["pid"])) as share:
                        pairs[-1].append(measure(command))
                    shares.append(share)
            finally:
                stop = [options.serve, "stop", "--port", server["port"]]
                subprocess.run(stop, stdout=subprocess.DEVNULL)
        print(f"\n{title}: {size}, 30 frames/s, {options.seconds} s, median of {options.runs} runs")
        show(pairs, figures, names)
        others = [share.others for share in shares]
        print(
            f"processors: {statistics.median(share.server for share in shares):.2f} the server's, "
            f"{statistics.median(others):.2f} ({min(others):.2f} .. {max(others):.2f}) those of "
            f"others, of {os.cpu_count()}",
            flush=True,
        )

    def receive(self, size: str) -> None:
        def commands(url: str) -> list:
            return [self.ours("receive", url), self.official("official_client.py", url)]

        self.compare("receive", size, commands, RECEIVE)

    def roundtrip(self, size: str) -> None:
        with tempfile.TemporaryDirectory() as directory:
            width, height = size.split("x")
            pictures.write(Path(directory), int(width), int(height))

            def commands(url: str) -> list:
                official = ("--pictures", directory, "--size", size)
                return [
                    self.ours("roundtrip", url, directory, width, height),
                    self.official("official_roundtrip.py", url, *official),
                ]

            self.compare("roundtrip", size, commands, ROUNDTRIP)

    def command(self, size: str) -> None:
        def commands(url: str) -> list:
            return [self.ours("command", url), self.official("official_command.py", url)]

        self.compare("command", size, commands, COMMAND)

    def encoding(self, size: str) -> None:
        with tempfile.TemporaryDirectory() as directory:
            width, height = size.split("x")
            pictures.write(Path(directory), int(width), int(height))

            def commands(url: str) -> list:
                ways = ("encoded", "raw")
                return [self.ours(way, url, directory, width, height) for way in ways]

            self.compare("reactorsink", size, commands, ENCODING, ("VP8 before", "raw"))


def show(pairs: list, figures: tuple, names: tuple) -> None:
    first, second = names
    print(f"{'':20}{first:>12}{second:>12}{'ratio':>9}   ratios of the pairs")
    for figure in figures:
        columns = [statistics.median(run[figure] for run in runs) for runs in zip(*pairs)]
        ratios = [a[figure] / b[figure] for a, b in pairs if b[figure]]
        ratio = f"{statistics.median(ratios):.2f}" if ratios else "-"
        spread = f"{min(ratios):.2f} .. {max(ratios):.2f}" if ratios else ""
        print(f"{figure:20}{columns[0]:12.2f}{columns[1]:12.2f}{ratio:>9}   {spread}")


# What is measured, and at which sizes unless told otherwise.
MEASUREMENTS = {
    "receive": ("640x360", "1280x720"),
    "roundtrip": ("640x360", "1280x720"),
    "command": ("1280x720",),
    "encoding": ("1280x720",),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("serve")
    parser.add_argument("bench")
    parser.add_argument("--only", action="append", choices=MEASUREMENTS, help="may be repeated")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--latency", type=int, default=10, help="our jitter buffer, ms")
    parser.add_argument("--size", action="append", help="WIDTHxHEIGHT, may be repeated")
    options = parser.parse_args()
    for name in options.only or MEASUREMENTS:
        for size in options.size or MEASUREMENTS[name]:
            getattr(Bench(options), name)(size)


if __name__ == "__main__":
    main()
