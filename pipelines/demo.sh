#!/usr/bin/env bash
# From nothing to a model's picture: installs what is missing, builds the plugin, serves
# the playground on the local runtime and shows it. Without a display, five seconds of it
# are recorded to reactor-demo.mp4 in the current directory. With --debug the plugin is built
# without optimizing, which is quicker.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$root/pipelines/lib/deps.sh"
. "$root/pipelines/lib/plugin.sh"
serve=$root/examples/models/serve.sh
output=$PWD/reactor-demo.mp4 profile=(--release)
[[ ${1:-} != --debug ]] || profile=()

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
echo "the playground is served: $served"

source=(reactorsrc local=true "api-url=http://127.0.0.1:$port" name=r)

if [[ -n ${DISPLAY:-}${WAYLAND_DISPLAY:-} ]]; then
    gst-launch-1.0 "${source[@]}" \
        r. ! queue ! videoconvert ! autovideosink \
        r. ! queue ! audioconvert ! audioresample ! autoaudiosink
    exit
fi

echo "no display: recording 5 s to $output"
rm -f "$output"
# env: a script's background command ignores SIGINT, which is what ends this one.
env --default-signal=INT gst-launch-1.0 -e "${source[@]}" \
    r. ! queue ! videoconvert ! x264enc tune=zerolatency ! h264parse ! mux. \
    r. ! queue ! audioconvert ! audioresample ! avenc_aac ! mux. \
    mp4mux name=mux ! filesink "location=$output" &
gst=$!

ended() { ! kill -0 "$gst" 2>/dev/null; }
# Five seconds of recording count from the first bytes in the file.
for ((i = 0; i < 150; i++)); do
    [[ ! -s $output ]] || break
    ! ended || break
    sleep 0.1
done
for ((i = 0; i < 50; i++)); do
    ! ended || break
    sleep 0.1
done
kill -INT "$gst" 2>/dev/null || true
for ((i = 0; i < 100; i++)); do
    ! ended || break
    sleep 0.1
done
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
