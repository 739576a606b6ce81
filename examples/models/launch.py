"""Serves one model on the local runtime: `launch.py MODEL_DIRECTORY`.

Starts a STUN server on loopback, because the runtime's default is a public one, and makes a
directory for recordings that is removed when the process ends.
"""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import stun_responder


def recordings_directory() -> Path:
    """Make a directory named after this process's pid, and remove those of ended processes."""
    cache = os.environ.get("REACTOR_CACHE") or os.path.join(tempfile.gettempdir(), "reactor-models")
    root = Path(cache) / "recordings"
    root.mkdir(parents=True, exist_ok=True)
    for old in root.iterdir():
        if old.name.isdigit() and not is_alive(int(old.name)):
            shutil.rmtree(old, ignore_errors=True)
    own = root / str(os.getpid())
    shutil.rmtree(own, ignore_errors=True)
    own.mkdir()
    return own


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def main() -> None:
    model = Path(sys.argv[1]).resolve()
    # A script's background job inherits an ignored SIGINT; this restores Python's handler.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if not os.environ.get("STUN_SERVERS"):
        os.environ["STUN_SERVERS"] = stun_responder.start()
    if not os.environ.get("REACTOR_RECORDINGS_DIR"):
        directory = recordings_directory()
        os.environ["REACTOR_RECORDINGS_DIR"] = str(directory)
        atexit.register(shutil.rmtree, directory, ignore_errors=True)
    os.chdir(model)

    from reactor_runtime.serve import main as serve

    serve()


if __name__ == "__main__":
    main()
