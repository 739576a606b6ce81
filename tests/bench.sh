#!/usr/bin/env bash
# Measures the elements side by side with the official Python client: tests/bench.sh [OPTIONS]
#
# Both receive, send a camera's picture there and back, change the picture by a command, receive
# in several sessions at once and on lossy networks, and fetch a long recording, in turn, from the
# playground on the same servers. The cost of encoding is measured, too. Figures are medians;
# ratios are of pairs of one run. Options go to tests/bench/compare.py (--only, --runs, --seconds,
# --size, --plots); a full run takes about 50 minutes. It prints figures and judges nothing.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
. pipelines/lib/deps.sh

# shellcheck disable=SC2086
need_packages $BUILD_PACKAGES $RUN_PACKAGES $TEST_PACKAGES
export REACTOR_CACHE=${REACTOR_CACHE:-$root/.cache}
serve=$root/examples/models/serve.sh
"$serve" setup
"$serve" setup --bench
python=$("$serve" python --bench)
if [[ " $* " == *" --plots"* ]]; then
    "$python" -m pip install --quiet -r tests/bench/requirements-plots.txt
fi
cargo build --release -p reactor-tests --bin bench --bin reactor-relay
target=${CARGO_TARGET_DIR:-$root/target}
exec tests/netns.sh "$python" tests/bench/compare.py "$serve" "$target/release/bench" "$@"
