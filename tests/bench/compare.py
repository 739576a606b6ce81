"""Runs reactorsrc and the official client in turn against one server each run and prints
the medians side by side, with the ratio of each pair's figures.

    compare.py SERVE_SCRIPT BENCH_BINARY [--runs 5] [--seconds 10] [--size 640x360]...
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
FIGURES = (
    "connect_ms",
    "first_frame_ms",
    "first_frame_again_ms",
    "latency_p50_ms",
    "latency_p95_ms",
    "cpu_seconds",
    "peak_rss_kib",
    "threads",
    "missing",
)


def serve(script: str, width: str, height: str) -> str:
    env = os.environ | {"PLAYGROUND_WIDTH": width, "PLAYGROUND_HEIGHT": height}
    command = [script, "start", "--port", "0"]
    line = subprocess.run(command, env=env, check=True, capture_output=True, text=True).stdout
    return dict(part.split("=", 1) for part in line.split())["port"]


def measure(command: list[str]) -> dict:
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    if done.returncode != 0:
        sys.exit(f"{command[0]} failed:\n{done.stdout}{done.stderr}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def compare(options, size: str) -> None:
    width, height = size.split("x")
    ours, theirs = [], []
    for _ in range(options.runs):
        port = serve(options.serve, width, height)
        try:
            url = f"http://127.0.0.1:{port}"
            ours.append(measure([options.bench, url, str(options.seconds), str(options.latency)]))
            theirs.append(
                measure(
                    [sys.executable, str(HERE / "official_client.py")]
                    + ["--url", url, "--seconds", str(options.seconds)]
                )
            )
        finally:
            subprocess.run([options.serve, "stop", "--port", port], stdout=subprocess.DEVNULL)
    print(f"\n{size}, 30 frames/s, {options.seconds} s, median of {options.runs} runs")
    print(f"{'':18}{'reactorsrc':>12}{'official':>12}{'ratio':>9}   ratios of the pairs")
    for figure in FIGURES:
        mine = statistics.median(run[figure] for run in ours)
        other = statistics.median(run[figure] for run in theirs)
        pairs = [a[figure] / b[figure] for a, b in zip(ours, theirs) if b[figure]]
        ratio = f"{statistics.median(pairs):.2f}" if pairs else "-"
        spread = f"{min(pairs):.2f} .. {max(pairs):.2f}" if pairs else ""
        print(f"{figure:18}{mine:12.2f}{other:12.2f}{ratio:>9}   {spread}")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("serve")
    parser.add_argument("bench")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--latency", type=int, default=10, help="reactorsrc's jitter buffer, ms")
    parser.add_argument("--size", action="append", help="WIDTHxHEIGHT, may be repeated")
    options = parser.parse_args()
    for size in options.size or ["640x360", "1280x720"]:
        compare(options, size)


if __name__ == "__main__":
    main()
