#!/usr/bin/env bash
# Fuzzes what servers, networks and users give, with libFuzzer and AddressSanitizer:
#
#   tests/fuzz.sh SECONDS [TARGET...]
#
# Each target of fuzz/ runs for that time, FUZZ_JOBS (1) of them at once. It begins with its
# seeds (fuzz/corpus) and prints how many inputs it has tried, how many of the program's edges
# they reached, and what it found. An input that breaks something is kept in fuzz/artifacts:
# `cargo +nightly fuzz run TARGET FILE` repeats it. The exit status is 1 if there is one.
#
# Needs a nightly Rust, which rustup installs, and cargo-fuzz, which cargo installs. Builds into
# fuzz/target, 3 GB that may be deleted afterwards. `cargo test --lib fuzzing` tries the
# targets without any of that.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
. pipelines/lib/deps.sh

if ! [[ ${1:-} =~ ^[1-9][0-9]*$ ]]; then
    sed -n '2,/^set/s/^# \?//p' "${BASH_SOURCE[0]}" | head -n -1 >&2
    exit 2
fi
seconds=$1
shift
if ((! $#)); then
    mapfile -t targets < <(basename -s .rs -a fuzz/fuzz_targets/*.rs)
    set -- "${targets[@]}"
fi

# shellcheck disable=SC2086
need_packages $BUILD_PACKAGES $RUN_PACKAGES g++
cargo +nightly --version >/dev/null 2>&1 ||
    rustup toolchain install nightly --profile minimal --no-self-update
command -v cargo-fuzz >/dev/null || cargo install --locked cargo-fuzz
cargo +nightly fuzz build
host=$(rustc +nightly -vV | sed -n 's/^host: //p')

logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
# GStreamer's own types live until the process ends.
export logs seconds host ASAN_OPTIONS=detect_leaks=0 GST_REGISTRY=$logs/registry.bin

# What would otherwise count as the time of the first input.
gst-inspect-1.0 >/dev/null

# New inputs go into the first directory, seeds come from both.
fuzz_target() {
    local target=$1 status=0 last
    mkdir -p "$logs/$target.corpus" "$logs/$target.tmp" "fuzz/artifacts/$target"
    # Not through cargo, which would look at all sources again for each.
    TMPDIR=$logs/$target.tmp "fuzz/target/$host/release/$target" \
        "$logs/$target.corpus" "fuzz/corpus/$target" -max_total_time="$seconds" -timeout=20 \
        -rss_limit_mb=2048 -artifact_prefix="fuzz/artifacts/$target/" >"$logs/$target" 2>&1 ||
        status=$?
    last=$(grep -E '^#[0-9]+.* cov: ' "$logs/$target" | tail -n 1)
    printf '%-14s %10s inputs, %6s edges%s\n' "$target" \
        "$(sed -n 's/^#\([0-9]*\).*/\1/p' <<<"$last")" \
        "$(sed -n 's/.* cov: \([0-9]*\).*/\1/p' <<<"$last")" \
        "$( ((status == 0)) || echo ': FOUND')"
    ((status == 0)) || tail -n 40 "$logs/$target"
    return "$status"
}
export -f fuzz_target
printf '%s\n' "$@" | xargs -P "${FUZZ_JOBS:-1}" -I {} bash -c 'fuzz_target {}' || exit 1
