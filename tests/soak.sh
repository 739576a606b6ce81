#!/usr/bin/env bash
# Plays all elements in several sessions while networks and servers fail: tests/soak.sh HOURS [CSV]
#
# HOURS may be a fraction: 0.035 is one round of what `programs/soak/sessions.rs` does to the
# sessions. Every 10 s the process's memory (what malloc handed out, and resident), threads and
# descriptors and the pictures' latency go into the CSV (target/tmp/soak.csv), and at the end into a
# plot beside it (SVG). It stops by itself, prints a verdict, and fails if anything grows.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
hours=${1:-}
if ! [[ $hours =~ ^[0-9]+(\.[0-9]+)?$ ]] || (($# > 2)); then
    echo "usage: soak.sh HOURS [CSV]" >&2
    exit 2
fi
cd "$root"
. pipelines/lib/deps.sh
. pipelines/lib/plugin.sh
# shellcheck disable=SC2086
need_packages $BUILD_PACKAGES $RUN_PACKAGES $TEST_PACKAGES
export REACTOR_CACHE=${REACTOR_CACHE:-$root/.cache}
export REACTOR_SERVE=${REACTOR_SERVE:-$root/examples/models/serve.sh}
"$REACTOR_SERVE" setup --bench
python=$("$REACTOR_SERVE" python --bench)
"$python" -m pip install --quiet -r tests/bench/requirements-plots.txt
REACTOR_BUILD=$TEST_BUILD build_plugin
target=${CARGO_TARGET_DIR:-$root/target}
csv=${2:-$target/tmp/soak.csv}
mkdir -p "$(dirname "$csv")"
# What malloc's threads keep for reuse would count as handed out.
export GLIBC_TUNABLES=glibc.malloc.tcache_count=0:glibc.malloc.arena_max=1
status=0
tests/netns.sh "$target/debug/reactor-soak" --csv "$csv" \
    --seconds "$(awk -v hours="$hours" 'BEGIN { printf "%d", hours * 3600 }')" || status=$?
"$python" tests/bench/plots.py "$csv" "${csv%.csv}.svg"
exit "$status"
