#!/usr/bin/env bash
# Does 10,000 random things to the elements with each of several seeds: tests/hammer.sh SEEDS
#
# Seeds follow one another from a random one, so that the server alone and the stand-in coordinator,
# which odd seeds have, take turns. Each is printed: `reactor-hammer --seed` repeats it. The exit
# status is 1 if any seed had a complaint.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
. pipelines/lib/deps.sh
. pipelines/lib/plugin.sh
. pipelines/lib/usage.sh

case ${1:-} in
    -h | --help)
        print_usage
        exit
        ;;
esac
[[ ${1:-} =~ ^[1-9][0-9]*$ && $# == 1 ]] || die "how many seeds? (--help explains)"
# shellcheck disable=SC2086
need_packages $BUILD_PACKAGES $RUN_PACKAGES $TEST_PACKAGES
export REACTOR_CACHE=${REACTOR_CACHE:-$root/.cache}
export REACTOR_SERVE=${REACTOR_SERVE:-$root/examples/models/serve.sh}
"$REACTOR_SERVE" setup
REACTOR_BUILD=$TEST_BUILD build_plugin
# A lock that is taken in an order that docs/locks.md does not list is a complaint, too.
export REACTOR_LOCK_ORDER_STRICT=1

first=$SRANDOM failed=()
for ((seed = first; seed < first + $1; seed++)); do
    tests/netns.sh "${CARGO_TARGET_DIR:-target}/debug/reactor-hammer" --seed "$seed" ||
        failed+=("$seed")
done
((${#failed[@]} == 0)) || {
    echo "hammer.sh: complaints with the seeds ${failed[*]}" >&2
    exit 1
}
