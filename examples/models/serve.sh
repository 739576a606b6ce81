#!/usr/bin/env bash
# Serves the models of this directory on Reactor's local runtime.
#
#   serve.sh setup [--bench]     install the runtime into a virtual environment
#   serve.sh start [OPTIONS]     serve in the background; print pid=... port=... log=...
#   serve.sh run [OPTIONS]       serve in the foreground, in this process (exec)
#   serve.sh stop [--port N]     stop the server that `start` started on this port
#   serve.sh status [--port N]   print whether a runtime serves there, and its /health response
#   serve.sh python [--bench]    print the path of the virtual environment's interpreter
#
#   --model NAME (playground)  --host H (127.0.0.1)  --port N (8080; start: 0 = a free port)
#   --bench                      with the official client, which tests and benches use
#
# REACTOR_CACHE is the directory for environments, logs and pid files (default: .cache in the
# repository), REACTOR_PYTHON the interpreter to use. The environment variables of the runtime
# (for example ORPHAN_TIMEOUT_SECONDS, WEBRTC_VIDEO_CODECS, STUN_SERVERS) and of the model
# (PLAYGROUND_WIDTH, _HEIGHT, _FPS, _METADATA) are passed on.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=pipelines/lib/deps.sh
. "$here/../../pipelines/lib/deps.sh"
# shellcheck source=pipelines/lib/usage.sh
. "$here/../../pipelines/lib/usage.sh"
export REACTOR_CACHE=${REACTOR_CACHE:-$(cd "$here/../.." && pwd)/.cache}
mkdir -p "$REACTOR_CACHE"
REACTOR_CACHE=$(cd "$REACTOR_CACHE" && pwd)

die() {
    echo "serve.sh: $*" >&2
    exit 1
}

model=playground host=127.0.0.1 port=8080 bench=

parse_options() {
    while (($#)); do
        case $1 in
            --bench) bench=1 ;;
            --model | --host | --port)
                (($# > 1)) || die "$1 needs a value"
                printf -v "${1#--}" %s "$2"
                shift
                ;;
            *) die "unknown option: $1 (serve.sh help lists them)" ;;
        esac
        shift
    done
    if ! [[ $port =~ ^[0-9]+$ ]] || ((port > 65535)); then die "not a port: $port"; fi
    [[ -f $here/$model/reactor.yaml ]] || die "no model of that name here: $model"
}

# --- the virtual environment --------------------------------------------------------

requirements() {
    echo "$here/requirements${bench:+-bench}.txt"
}

venv_dir() {
    local hash
    hash=$(cat "$here/requirements.txt" "$(requirements)" | sha256)
    echo "$REACTOR_CACHE/venv-${hash:0:12}"
}

sha256() {
    if command -v sha256sum >/dev/null; then sha256sum; else shasum -a 256; fi
}

# A version manager's shim can be on PATH and fail when it is run, so each candidate is run.
usable_python() {
    "$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 12))' >/dev/null 2>&1
}

# Debian 13 has 3.13, Debian 12 has 3.11. Testing and unstable have no number.
debian_packages_python() {
    local ID='' VERSION_ID=14
    [[ ! -r /etc/os-release ]] || . /etc/os-release
    [[ $ID == debian && ${VERSION_ID%%.*} -ge 13 ]]
}

find_python() {
    local candidate
    if [[ -n ${REACTOR_PYTHON:-} ]]; then
        usable_python "$REACTOR_PYTHON" ||
            die "REACTOR_PYTHON=$REACTOR_PYTHON is not a Python >= 3.12 with venv and ensurepip"
        echo "$REACTOR_PYTHON"
        return
    fi
    for candidate in python3.12 python3.13 python3.14 python3 \
        "$HOME"/.pyenv/versions/3.1[2-9]*/bin/python3; do
        if usable_python "$candidate"; then
            command -v "$candidate"
            return
        fi
    done
    if debian_packages_python; then
        need_packages python3 python3-venv
        if usable_python python3; then
            command -v python3
            return
        fi
    fi
    die "the local runtime needs Python 3.12 or newer, with venv, and none was found on PATH
or under ~/.pyenv/versions. Install one (for example 'pyenv install 3.12', or the packages
python3.12 and python3.12-venv) or name one with REACTOR_PYTHON=/path/to/python3.12."
}

# Its interpreter is a link, to a Python that may have been removed since.
is_complete() { [[ -f $1/.complete && -x $1/bin/python ]]; }

setup() {
    local venv python
    venv=$(venv_dir)
    if ! is_complete "$venv"; then
        (
            # One process installs; concurrent ones wait for the lock and find .complete.
            if command -v flock >/dev/null; then flock 9; fi
            if is_complete "$venv"; then exit; fi
            rm -f "$venv/.complete"
            python=$(find_python)
            create_venv "$venv" "$python" -r "$(requirements)"
        ) 9>"$REACTOR_CACHE/setup.lock"
    fi
}

# --- one server per port ------------------------------------------------------------

pid_file() { echo "$REACTOR_CACHE/serve-$port.pid"; }

# start_time PID: prints when the process started. With the pid, it identifies a process even
# after the pid is reused. Prints nothing for a zombie.
start_time() {
    if [[ -r /proc/$1/stat ]]; then
        sed 's/.*) //' "/proc/$1/stat" | awk '$1 != "Z" { print $20 }'
    else
        ps -o lstart= -p "$1" | tr -d ' '
    fi
}

# Prints the pid of the server that `start` started on this port, or fails if it has ended.
running_pid() {
    local pid started
    [[ -f $(pid_file) ]] || return 1
    read -r pid started _ <"$(pid_file)" || return 1
    [[ -n $started && $(start_time "$pid" 2>/dev/null) == "$started" ]] || return 1
    echo "$pid"
}

url_host() { [[ $host == 0.0.0.0 ]] && echo 127.0.0.1 || echo "$host"; }

start() {
    local venv pid log
    setup
    venv=$(venv_dir)
    if pid=$(running_pid); then
        die "already serving on port $port, pid $pid"
    fi
    port=$("$venv/bin/python" - "$host" "$port" <<'PY'
import socket, sys
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
try:
    s.bind((sys.argv[1], int(sys.argv[2])))
except OSError as error:
    sys.exit(f"serve.sh: cannot serve on {sys.argv[1]}:{sys.argv[2]}: {error.strerror}")
print(s.getsockname()[1])
PY
    )
    log=$REACTOR_CACHE/serve-$port.log
    HOST=$host PORT=$port nohup "$venv/bin/python" "$here/launch.py" "$here/$model" \
        >"$log" 2>&1 </dev/null 9>&- &
    pid=$!
    echo "$pid $(start_time "$pid") $log" >"$(pid_file)"
    if ! "$venv/bin/python" - "http://$(url_host):$port/health" "$pid" <<'PY'; then
import json, os, sys, time, urllib.request

url, pid = sys.argv[1], int(sys.argv[2])
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
deadline = time.monotonic() + 60
while time.monotonic() < deadline:
    try:
        os.kill(pid, 0)
        with open(f"/proc/{pid}/stat") as stat:
            if stat.read().rpartition(") ")[2][0] == "Z":
                sys.exit(1)
    except ProcessLookupError:
        sys.exit(1)
    except FileNotFoundError:
        pass  # no /proc
    try:
        with opener.open(url, timeout=2) as response:
            health = json.load(response)
        if health["status"] == "healthy" and health["state"] == "available":
            sys.exit(0)
    except (OSError, ValueError, KeyError):
        pass
    time.sleep(0.05)
sys.exit(1)
PY
        kill -KILL "$pid" 2>/dev/null || true
        rm -f "$(pid_file)"
        tail -n 20 "$log" >&2
        die "the runtime did not come up; its log is $log"
    fi
    echo "pid=$pid port=$port log=$log"
}

stop() {
    local pid i
    if ! pid=$(running_pid); then
        rm -f "$(pid_file)"
        echo "nothing is served on port $port"
        return
    fi
    kill -TERM "$pid" 2>/dev/null || true
    for ((i = 0; i < 100; i++)); do
        running_pid >/dev/null || break
        sleep 0.1
    done
    if running_pid >/dev/null; then
        kill -KILL "$pid" 2>/dev/null || true
    fi
    rm -rf "$REACTOR_CACHE/recordings/$pid"
    rm -f "$(pid_file)"
    echo "stopped pid=$pid port=$port"
}

run() {
    setup
    HOST=$host PORT=$port exec "$(venv_dir)/bin/python" "$here/launch.py" "$here/$model"
}

# Also for a server that `run` or another program started: whoever answers is asked.
status() {
    local pid health python
    python=$(venv_dir)/bin/python
    [[ -x $python ]] || python=python3
    pid=$(running_pid) || pid=
    if health=$("$python" - "http://$(url_host):$port/health" <<'PY'
import json, sys, urllib.request
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
try:
    text = opener.open(sys.argv[1], timeout=5).read().decode()
    json.loads(text)["state"]
except (OSError, ValueError, KeyError, TypeError):
    sys.exit(1)
print(text)
PY
    ); then
        echo "pid=${pid:-unknown} port=$port"
        echo "$health"
    elif [[ -n $pid ]]; then
        echo "pid=$pid port=$port"
        echo "it does not answer"
        return 1
    else
        echo "nothing is served on port $port"
        return 3
    fi
}

command=${1:-help}
(($# == 0)) || shift
case $command in
    setup | start | stop | run | status)
        parse_options "$@"
        "$command"
        ;;
    python)
        parse_options "$@"
        setup
        echo "$(venv_dir)/bin/python"
        ;;
    help | -h | --help) print_usage ;;
    *)
        print_usage >&2
        die "unknown command: $command"
        ;;
esac
