#!/usr/bin/env bash
# Runs every test: tests/run.sh [ARGUMENTS FOR cargo test]
#
# Installs what is missing and builds first, then tests in a network namespace where that
# is permitted (see netns.sh). REACTOR_TEST_THREADS sets how many run at once (2).
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
. pipelines/lib/deps.sh
. pipelines/lib/plugin.sh

# shellcheck disable=SC2086
need_packages $BUILD_PACKAGES $RUN_PACKAGES $TEST_PACKAGES

export REACTOR_CACHE=${REACTOR_CACHE:-$root/.cache}
export REACTOR_SERVE=$root/examples/models/serve.sh
"$REACTOR_SERVE" setup
# Some tests steer the model with the official client.
"$REACTOR_SERVE" setup --bench
python=$("$REACTOR_SERVE" python)

# The far side of pipelines/rtmp.sh and hls.sh.
if [[ ! -e ${REACTOR_NGINX:-}/usr/lib/nginx/modules/ngx_rtmp_module.so ]]; then
    export REACTOR_NGINX=$REACTOR_CACHE/nginx
    unpack_packages "$REACTOR_NGINX" nginx libnginx-mod-rtmp ||
        echo "no nginx: two tests of pipelines will fail" >&2
fi

build_plugin
# The examples have no tests of their own, so no test build brings them.
cargo build --workspace
cargo test --workspace --no-run

# A registry of its own: the user's neither decides what is found nor learns of this build.
export GST_REGISTRY=$REACTOR_CACHE/gstreamer-registry.bin

"$python" -m unittest discover -s examples/models/tests

# What is before a -- among the arguments is for cargo, what is after it for the tests.
cargo_arguments=()
while (($#)) && [[ $1 != -- ]]; do
    cargo_arguments+=("$1")
    shift
done
(($# == 0)) || shift
status=0
tests/netns.sh cargo test --workspace --offline --no-fail-fast "${cargo_arguments[@]}" -- \
    --test-threads="${REACTOR_TEST_THREADS:-2}" "$@" || status=$?

# Once more what talks to the real server, in the older encoding of its messages; with
# arguments only what was asked for is run.
if ((${#cargo_arguments[@]} == 0 && $# == 0)); then
    REACTOR_TEST_WIRE=v0 tests/netns.sh cargo test -p reactor-tests --offline --no-fail-fast \
        --test reactorsrc --test reactorsink --test sharing --test states --test commands \
        --test reconnect -- \
        --test-threads="${REACTOR_TEST_THREADS:-2}" || status=$?
fi
exit "$status"
