#!/usr/bin/env bash
# Runs each element once under valgrind's memcheck: tests/valgrind.sh
#
# Two sessions with the playground on the real runtime: reactorsrc with reactorsink, then
# reactorfilter with a command, a clip of its session and that clip by its URL. Fails if memory is
# read or freed wrongly, or is lost for certain. valgrind.supp has what other libraries do. Takes
# about 3 minutes.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
. pipelines/lib/deps.sh
. pipelines/lib/plugin.sh
target=${CARGO_TARGET_DIR:-$root/target}
export REACTOR_CACHE=${REACTOR_CACHE:-$root/.cache}
serve=${REACTOR_SERVE:-$root/examples/models/serve.sh}

# With the server's port; in the namespace.
run() {
    local mode
    for mode in camera filter; do
        echo "memcheck: $mode"
        # READY for 25 s: the DTLS key takes longer here than a connection has.
        G_SLICE=always-malloc G_DEBUG=gc-friendly timeout 400 valgrind --quiet --num-callers=30 \
            --error-exitcode=99 --leak-check=full --show-leak-kinds=definite \
            --errors-for-leak-kinds=definite --suppressions=tests/valgrind.supp \
            "$target/debug/reactor-cycle" "http://127.0.0.1:$1" 1 "$mode" 25
    done
}

if [[ ${1:-} == --in-namespace ]]; then
    # Few and small pictures: they are decoded 50 times slower than usual.
    export PLAYGROUND_WIDTH=320 PLAYGROUND_HEIGHT=180 PLAYGROUND_FPS=5
    started=$("$serve" start --port 0)
    port=$(sed -n 's/.*port=\([0-9]*\).*/\1/p' <<<"$started")
    trap '"$serve" stop --port "$port" >/dev/null' EXIT
    run "$port"
    exit
fi
# shellcheck disable=SC2086
need_packages $BUILD_PACKAGES $RUN_PACKAGES $TEST_PACKAGES valgrind
"$serve" setup
REACTOR_BUILD=$TEST_BUILD build_plugin
tests/netns.sh tests/valgrind.sh --in-namespace
