"""Draws what clients received over time, each in a column: latency, frames and bit rate.

As a program it draws the samples of reactor-soak: plots.py CSV PLOT (.svg or .png).
"""

from __future__ import annotations

import csv
import itertools
import math
import re
import statistics
import sys
from pathlib import Path

PANELS = ("latency, ms (median of a second)", "frames per second", "kbit/s")
# The columns of a soak in each panel, each with what the panel calls it and how many of its unit
# make one of the panel's.
SOAK_PANELS = {
    "memory, MiB": {"heap_kib": ("heap", 1024), "rss_kib": ("resident", 1024)},
    "number": {"threads": ("threads", 1), "descriptors": ("descriptors", 1)},
    "latency, ms": {"latency_ms": ("latency", 1)},
    "number so far": {"connections": ("connections", 1), "clips": ("clips", 1)},
}


def load_pyplot():
    """Only who wants plots has it: tests/bench.sh and tests/soak.sh install it then."""
    import matplotlib

    # Without a display; by the name of the file it writes SVG as well.
    matplotlib.use("agg")
    from matplotlib import pyplot

    # An SVG with text is smaller than one with the outlines of the letters.
    pyplot.rcParams["svg.fonttype"] = "none"
    return pyplot


def draw(directory: Path, title: str, clients: dict[str, dict]) -> None:
    """`clients` are their series by name: [ms, latency] of each frame, [ms, bytes so far]."""
    pyplot = load_pyplot()
    figure, axes = pyplot.subplots(
        len(PANELS), len(clients), sharex=True, sharey="row", squeeze=False,
        figsize=(5 * len(clients), 7),
    )  # fmt: skip
    for column, (name, series) in enumerate(clients.items()):
        frames = [(seen / 1000, age) for seen, age in series["frames"]]
        axes[0][column].set_title(name)
        axes[0][column].step(*medians(frames), where="post")
        axes[1][column].step(*per_second(frames), where="post")
        axes[2][column].plot(*bit_rates(series["bytes"]))
        axes[-1][column].set_xlabel("s since ready")
    for row, label in zip(axes, PANELS, strict=True):
        row[0].set_ylabel(label)
    axes[0][0].set_yscale("log")
    figure.suptitle(title)
    directory.mkdir(parents=True, exist_ok=True)
    name = re.sub(r"[^0-9a-z]+", "-", title.lower()).strip("-")
    figure.savefig(directory / f"{name}.svg")
    pyplot.close(figure)
    print(f"plot: {directory / name}.svg", flush=True)


def draw_soak(samples: Path, plot: Path) -> None:
    pyplot = load_pyplot()
    with samples.open() as lines:
        rows = list(csv.DictReader(lines))
    figure, axes = pyplot.subplots(
        len(SOAK_PANELS), 1, sharex=True, figsize=(12, 11), layout="constrained"
    )
    for panel, (label, columns) in zip(axes, SOAK_PANELS.items(), strict=True):
        for column, (name, unit) in columns.items():
            # A sample without a picture has no latency.
            points = [
                (float(row["seconds"]) / 60, float(row[column]) / unit)
                for row in rows
                if row[column]
            ]
            panel.plot(*columns_of(points), ".-", markersize=2, linewidth=0.6, label=name)
        panel.set_ylabel(label)
        panel.legend(loc="upper left")
    axes[-1].set_xlabel("minutes")
    figure.suptitle(f"{samples.name}: {len(rows)} samples")
    figure.savefig(plot)
    print(f"plot: {plot}", flush=True)


def columns_of(points: list[tuple[float, float]]) -> tuple[tuple, tuple]:
    """Of no points, zip makes no columns."""
    return tuple(zip(*points, strict=True)) if points else ((), ())


def medians(frames: list[tuple[float, float]]) -> tuple[list[int], list[float]]:
    """A second without a frame has none."""
    seconds = range(int(max((seen for seen, _ in frames), default=-1)) + 1)
    ages = [[age for seen, age in frames if int(seen) == n] for n in seconds]
    return list(seconds), [statistics.median(of) if of else math.nan for of in ages]


def per_second(frames: list[tuple[float, float]]) -> tuple[list[int], list[int]]:
    last = int(max((seen for seen, _ in frames), default=0))
    seconds = list(range(last + 1))
    return seconds, [sum(int(seen) == n for seen, _ in frames) for n in seconds]


def bit_rates(samples: list[list[float]]) -> tuple[list[float], list[float]]:
    # A new connection may begin to count anew.
    pairs = [
        (b[0] / 1000, max(0, b[1] - a[1]) * 8 / (b[0] - a[0]))
        for a, b in itertools.pairwise(samples)
    ]
    return [at for at, _ in pairs], [rate for _, rate in pairs]


if __name__ == "__main__":
    draw_soak(Path(sys.argv[1]), Path(sys.argv[2]))
