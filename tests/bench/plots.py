"""Draws what clients received over time, each in a column: latency, frames and bit rate."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

PANELS = ("latency, ms", "frames per second", "kbit/s")


def draw(directory: Path, title: str, clients: dict[str, dict]) -> None:
    """`clients` are their series by name: [ms, latency] of each frame, [ms, bytes so far]."""
    # Only who wants plots has it: tests/bench.sh installs it then.
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(
        len(PANELS), len(clients), sharex=True, sharey="row", squeeze=False,
        figsize=(5 * len(clients), 7),
    )  # fmt: skip
    for column, (name, series) in enumerate(clients.items()):
        frames = [(seen / 1000, age) for seen, age in series["frames"]]
        axes[0][column].set_title(name)
        axes[0][column].plot(*zip(*frames, strict=True), ".", markersize=2)
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
