"""Measures our elements and the official client against one server in turn; prints the medians
side by side, and the ratio of each pair's figures.

    compare.py SERVE_SCRIPT BENCH_BINARY
        [--only receive|roundtrip|command|encoding|scale|lossy|narrow|ice|clip]...
        [--runs 5] [--seconds 10] [--size 640x360]...

receive     the model's picture and sound, ours and the official client
roundtrip   a camera's picture to the model and back, ours and the official client
command     from a command to the picture that shows it, ours and the official client
encoding    sending encoded video, and raw video that reactorsink encodes
scale       1, 4 and 8 sessions in one process that receive the model's picture, with a server each
lossy       as receive, by default settings, on networks that lose packets, both ways: 5 % and 40 ms
            of jitter, 2 % in bursts of 8, and 2 % with a round trip of 150 ms; each run has a seed
            of its own, which its clients share (20 s by default, from the first frame on)
narrow      as receive, through a link of 400, 700 and 1500 kbit/s with a queue of 30000 bytes (tc,
            in the namespace of tests/netns.sh): ours by default and with max-receive-bitrate, and
            the official client (20 s by default, from the moment at which the session is ready).
            Then a link of 5000 kbit/s that carries 500 from 8 s to 18 s (35 s). --plots DIRECTORY
            draws each client's latency, frames and bit rate over time as SVG
ice         connecting through the stand-in for the cloud, which lists no ICE servers, or a STUN
            and a TURN server (UDP and TCP) that do not answer: a process's first connection, and
            the median of three more
clip    a recording of two hours (--segments of 2 s) from a server that takes 20 ms for each
        request: ours as one MP4, ours as fragments, and the official client
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pictures
import plots
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
SCALE = ("threads", "rss_mib", "cpu_per_s", *LATENCY, "frames", "least_frames")
SESSIONS = (1, 4, 8)
LOSSY = (
    "first_frame_ms",
    "lost_percent",
    "freezes",
    "frozen_s",
    "longest_ms",
    *LATENCY,
    "unreadable",
    "cpu_seconds",
)
NARROW = (
    "frames",
    "first_frame_ms",
    "longest_ms",
    *LATENCY,
    "unreadable",
    "cpu_seconds",
)
ICE = ("connect_ms", "first_frame_ms", "connect_again_ms", "first_frame_again_ms")
# The rate of the link and the bound that is set, bit/s.
LINKS = ((400_000, 300_000), (700_000, 600_000), (1_500_000, 1_300_000))
# What a link carries from a time on, s: bit/s.
STEPS = {0: 5_000_000, 8: 500_000, 18: 5_000_000}
STEP_SECONDS = 35
# Networks of reactor-relay, both ways.
NETWORKS = {
    "5 % loss, 40 ms jitter": ("--loss", "0.05", "--jitter", "40"),
    "2 % loss in bursts of 8": ("--loss", "0.02", "--loss-burst", "8"),
    "2 % loss, 150 ms round trip": ("--loss", "0.02", "--delay", "75"),
}
SLOW_SERVER_MS = 20
CLIP = ("seconds", "peak_kib", "grown_kib", "megabytes")
ENCODING = ("cpu_seconds", "pictures", "sent_kbit_s")


def serve(script: str, width: str, height: str) -> dict[str, str]:
    env = os.environ | {"PLAYGROUND_WIDTH": width, "PLAYGROUND_HEIGHT": height}
    command = [script, "start", "--port", "0"]
    line = subprocess.run(command, env=env, check=True, capture_output=True, text=True).stdout
    return dict(part.split("=", 1) for part in line.split())


def measure(command: list[str], limit: float = 120) -> dict:
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=limit)
    if done.returncode != 0:
        sys.exit(f"{command[0]} failed:\n{done.stdout}{done.stderr}")
    return json.loads(done.stdout.strip().splitlines()[-1])


class Bench:
    """The commands that measure, each for a server's address."""

    def __init__(self, options) -> None:
        self._options = options
        self.seconds = options.seconds or 10

    def ours(self, what: str, url: str, *rest: str) -> list[str]:
        options = self._options
        return [options.bench, what, url, str(self.seconds), str(options.latency), *rest]

    def official(self, script: str, url: str, *rest: str) -> list[str]:
        seconds = str(self.seconds)
        return [sys.executable, str(HERE / script), "--url", url, "--seconds", seconds, *rest]

    def compare(
        self,
        title: str,
        size: str,
        commands: Callable,
        figures: tuple,
        names: tuple = OURS,
        servers: int = 1,
    ) -> None:
        """`commands` are those of a pair, by the servers' addresses, separated by commas."""
        options = self._options
        pairs, shares = [], []
        for _ in range(options.runs):
            serving = []
            try:
                for _ in range(servers):
                    serving.append(serve(options.serve, *size.split("x")))
                pairs.append([])
                urls = ",".join(f"http://127.0.0.1:{server['port']}" for server in serving)
                for command in commands(urls):
                    with Share([int(server["pid"]) for server in serving]) as share:
                        pairs[-1].append(measure(command))
                    shares.append(share)
            finally:
                for server in serving:
                    stop = [options.serve, "stop", "--port", server["port"]]
                    subprocess.run(stop, check=False, stdout=subprocess.DEVNULL)
        print(f"\n{title}: {size}, 30 frames/s, {self.seconds} s, median of {options.runs} runs")
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

    def scale(self, size: str) -> None:
        def commands(urls: str) -> list:
            return [self.ours("scale", urls), self.official("official_scale.py", urls)]

        for count in SESSIONS:
            title = f"{count} in one process"
            self.compare(title, size, commands, SCALE, servers=count)

    def lossy(self, size: str) -> None:
        for title, network in NETWORKS.items():
            self._lossy(size, title, network)

    def _lossy(self, size: str, title: str, network: tuple) -> None:
        options = self._options
        seconds = options.seconds or 20
        pairs = []
        for seed in range(1, options.runs + 1):
            pairs.append([])
            for name in OURS:
                server = serve(options.serve, *size.split("x"))
                try:
                    with Network(options, server["port"], seed, network) as url:
                        command = [options.bench, "lossy", url, str(seconds), "0"]
                        if name == "official":
                            script = str(HERE / "official_lossy.py")
                            command = [sys.executable, script, "--url", url]
                            command += ["--seconds", str(seconds)]
                        pairs[-1].append(measure(command, seconds + 120))
                finally:
                    stop = [options.serve, "stop", "--port", server["port"]]
                    subprocess.run(stop, check=False, stdout=subprocess.DEVNULL)
            print(f"seed {seed}: {json.dumps(dict(zip(OURS, pairs[-1])))}", flush=True)
        print(f"\nlossy, {title}: {size}, 30 frames/s, {seconds} s, {options.runs} seeds")
        show(pairs, LOSSY, OURS)

    def narrow(self, size: str) -> None:
        seconds = self._options.seconds or 20
        for rate, bound in LINKS:
            clients = {"default": "", "bounded": f"max-receive-bitrate={bound}", "official": None}
            self._narrow(f"{rate // 1000} kbit/s", size, seconds, {0: rate}, clients)
        steps = " - ".join(str(rate // 1000) for rate in STEPS.values())
        clients = {"default": "", "official": None}
        self._narrow(f"{steps} kbit/s", size, STEP_SECONDS, STEPS, clients)

    def _narrow(self, title: str, size: str, seconds: float, steps: dict, clients: dict) -> None:
        """`clients` are the names and our element's properties; the official client has none."""
        options = self._options
        runs = []
        for n in range(options.runs):
            runs.append([])
            for properties in clients.values():
                server = serve(options.serve, *size.split("x"))
                url = f"http://127.0.0.1:{server['port']}"
                command = [options.bench, "narrow", url, str(seconds), "0", properties]
                if properties is None:
                    script = str(HERE / "official_narrow.py")
                    command = [sys.executable, script, "--url", url, "--seconds", str(seconds)]
                try:
                    with Link(steps):
                        runs[-1].append(measure(command, seconds + 120))
                finally:
                    stop = [options.serve, "stop", "--port", server["port"]]
                    subprocess.run(stop, check=False, stdout=subprocess.DEVNULL)
            series = {name: run.pop("series") for name, run in zip(clients, runs[-1])}
            print(json.dumps(dict(zip(clients, runs[-1]))), flush=True)
            if options.plots:
                plots.draw(options.plots, f"narrow, {title}, run {n + 1}", series)
        print(f"\nnarrow: {title}, {size}, 30 frames/s, {seconds} s")
        print(f"{'':20}" + "".join(f"{name:>26}" for name in clients))
        for figure in NARROW:
            columns = ([run[figure] for run in column] for column in zip(*runs))
            texts = (", ".join(str(value) for value in column) for column in columns)
            print(f"{figure:20}" + "".join(f"{text:>26}" for text in texts), flush=True)

    def ice(self, size: str) -> None:
        bench = self._options.bench
        for servers in ("none", "silent"):

            def commands(url: str, servers: str = servers) -> Iterator[list[str]]:
                with Serving([bench, "cloud", url, servers]) as cloud:
                    yield [bench, "ice", cloud]
                    yield [sys.executable, str(HERE / "official_ice.py"), "--url", cloud]

            self.compare(f"ICE servers: {servers}", size, commands, ICE)

    def clip(self, size: str) -> None:
        options = self._options
        names = ("faststart", "fragmented", "official")
        script = str(HERE.parent / "tools" / "download.py")
        with tempfile.TemporaryDirectory() as directory:
            base, made = f"{directory}/base.mp4", f"{directory}/made.mp4"
            server = serve(options.serve, *size.split("x"))
            try:
                measure([options.bench, "record", f"http://127.0.0.1:{server['port']}", base])
            finally:
                stop = [options.serve, "stop", "--port", server["port"]]
                subprocess.run(stop, check=False, stdout=subprocess.DEVNULL)
            command = [options.bench, "serve", base, str(options.segments), str(SLOW_SERVER_MS)]
            runs = []
            with Serving(command) as url:
                for _ in range(options.runs):
                    ours = ([options.bench, "clip", url, name, made] for name in names[:2])
                    commands = [*ours, [sys.executable, script, url, made]]
                    runs.append([measure(command, 900) for command in commands])
        print(f"\nclip: {size}, {options.segments} segments, median of {options.runs} runs")
        print(f"{'':20}" + "".join(f"{name:>13}" for name in names))
        for figure in CLIP:
            columns = ([run.get(figure) for run in column] for column in zip(*runs))
            medians = (statistics.median(c) if None not in c else float("nan") for c in columns)
            print(f"{figure:20}" + "".join(f"{median:13.2f}" for median in medians), flush=True)


class Serving:
    """A process that prints its address first, and serves until its input ends."""

    def __init__(self, command: list[str]) -> None:
        self._command = command

    def __enter__(self) -> str:
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        return self._process.stdout.readline().strip()

    def __exit__(self, *_) -> None:
        self._process.communicate(timeout=10)


class Network(Serving):
    """A bad network while the context is entered; gives the URL that leads through it."""

    def __init__(self, options, port: str, seed: int, network: tuple) -> None:
        relay = Path(options.bench).with_name("reactor-relay")
        runtime = f"http://127.0.0.1:{port}"
        super().__init__([str(relay), runtime, "--seed", str(seed), *network])


class Link:
    """Limits the rate of lo while the context is entered, as tests/common/bandwidth_limit.rs.
    `steps` are what it carries from a time on, s: bit/s, 0 the first.
    """

    def __init__(self, steps: dict[int, int]) -> None:
        if not Path("/sys/class/net/reactor0").exists():
            sys.exit("narrow: only in the network of tests/netns.sh")
        self._first = steps[0]
        later = ((at, rate) for at, rate in steps.items() if at)
        self._timers = [threading.Timer(at, self._shape, ["change", rate]) for at, rate in later]

    def _shape(self, verb: str, rate: int) -> None:
        shape = f"class {verb} dev lo parent 1: classid 1:1 htb rate {rate}bit"
        self._tc(f"{shape} burst 3000 quantum 3000")

    def _tc(self, command: str) -> None:
        subprocess.run(["tc", *command.split()], check=True)

    def __enter__(self) -> None:
        self._tc("qdisc add dev lo root handle 1: htb default 1")
        self._shape("add", self._first)
        self._tc("qdisc add dev lo parent 1:1 handle 10: bfifo limit 30000")
        for timer in self._timers:
            timer.start()

    def __exit__(self, *_) -> None:
        for timer in self._timers:
            timer.cancel()
        subprocess.run(["tc", "qdisc", "del", "dev", "lo", "root"], check=False)


def show(pairs: list, figures: tuple, names: tuple) -> None:
    first, second = names
    print(f"{'':20}{first:>12}{second:>12}{'ratio':>9}   ratios of the pairs")
    for figure in figures:
        columns = [statistics.median(run[figure] for run in runs) for runs in zip(*pairs)]
        ratios = [a[figure] / b[figure] for a, b in pairs if b[figure]]
        ratio = f"{statistics.median(ratios):.2f}" if ratios else "-"
        spread = f"{min(ratios):.2f} .. {max(ratios):.2f}" if ratios else ""
        print(f"{figure:20}{columns[0]:12.2f}{columns[1]:12.2f}{ratio:>9}   {spread}")


# The measurements and their default sizes.
MEASUREMENTS = {
    "receive": ("640x360", "1280x720"),
    "roundtrip": ("640x360", "1280x720"),
    "command": ("1280x720",),
    "encoding": ("1280x720",),
    "scale": ("320x180",),
    "lossy": ("1280x720",),
    "narrow": ("1280x720",),
    "ice": ("640x360",),
    "clip": ("640x360",),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("serve")
    parser.add_argument("bench")
    parser.add_argument("--only", action="append", choices=MEASUREMENTS, help="may be repeated")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seconds", type=float, help="of each run [10, lossy: 20]")
    parser.add_argument("--latency", type=int, default=10, help="our jitter buffer, ms")
    parser.add_argument("--plots", metavar="DIRECTORY", type=Path, help="SVG of narrow's runs")
    parser.add_argument("--size", action="append", help="WIDTHxHEIGHT, may be repeated")
    parser.add_argument("--segments", type=int, default=3600, help="of 2 s, of the clip")
    options = parser.parse_args()
    for name in options.only or MEASUREMENTS:
        for size in options.size or MEASUREMENTS[name]:
            getattr(Bench(options), name)(size)


if __name__ == "__main__":
    main()
