#!/usr/bin/env bash
# Installs what is missing, builds the plugin, serves the playground on the local runtime and
# plays its stream. Without a display, 5 s of it are recorded to reactor-demo.mp4 in the current
# directory.
#
#   demo.sh [--debug]    with --debug the plugin is built without optimization, which is faster
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$root/pipelines/lib/output.sh"
serve=$root/examples/models/serve.sh
output=$PWD/reactor-demo.mp4 profile=(--release)
case ${1:-} in
    '') ;;
    --debug) profile=() ;;
    -h | --help)
        print_usage
        exit
        ;;
    *) die "unknown option: $1 (--help)" ;;
esac
(($# < 2)) || die "one option only (--help)"

# shellcheck disable=SC2086
need_packages $BUILD_PACKAGES $RUN_PACKAGES
build_plugin "${profile[@]}"

port='' gst=''
leave() {
    trap '' INT TERM HUP
    [[ -z $gst ]] || kill -KILL "$gst" 2>/dev/null || true
    [[ -z $port ]] || "$serve" stop --port "$port" >/dev/null
}
trap leave EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
served=$("$serve" start --port 0)
port=$(sed -n 's/.*port=\([0-9]*\).*/\1/p' <<<"$served")
echo "serving the playground: $served"

source=(reactorsrc local=true "api-url=http://127.0.0.1:$port" name=r)

if playback_branches; then
    gst-launch-1.0 "${source[@]}" "${playback[@]}"
    exit
fi

echo "no display: recording 5 s to $output"
rm -f "$output"
# env: a background command of a script ignores SIGINT by default, and SIGINT ends this one.
env --default-signal=INT gst-launch-1.0 -e "${source[@]}" \
    r. ! queue ! videoconvert ! x264enc tune=zerolatency ! h264parse ! mux. \
    r. ! queue ! audioconvert ! audioresample ! avenc_aac ! mux. \
    mp4mux name=mux ! filesink "location=$output" &
gst=$!

ended() { ! kill -0 "$gst" 2>/dev/null; }
# wait_until TENTHS COMMAND...: waits until the command succeeds or the pipeline has ended, for
# this number of 0.1 s steps at most.
wait_until() {
    local tenths=$1
    shift
    while ((tenths-- > 0)) && ! "$@" && ! ended; do sleep 0.1; done
}
# The 5 s begin with the first bytes in the file, for which it waits 15 s at most.
wait_until 150 test -s "$output"
wait_until 50 false
kill -INT "$gst" 2>/dev/null || true
wait_until 100 false
ended || {
    echo "the pipeline did not end within 10 s" >&2
    exit 1
}
status=0
wait "$gst" || status=$?
gst=
((status == 0)) || exit "$status"

if command -v gst-discoverer-1.0 >/dev/null; then
    gst-discoverer-1.0 "$output"
else
    ffprobe -hide_banner "$output"
fi
