#!/usr/bin/env bash
# Installs what is missing, builds the plugin, serves the playground on the local runtime and
# plays its stream in a window. The model writes its prompt below the picture; each line that is typed
# is the next one, and Ctrl-C ends the demo. Without a display that can be opened, it records 5 s of the
# stream and makes one picture of six moments of the recording.
#
#   demo.sh [--release] [--keep]
#
#   --release   builds the plugin with optimization, which takes 5 to 10 min on two cores
#   --keep      puts reactor-demo.mp4 and reactor-demo.png into the current directory, where they
#               replace those of an earlier demo; otherwise they are in target/demo until the next
#
# Prints how long each step takes: the first time 3 min on two cores, most of it for crates, then
# less than a minute.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$root/pipelines/lib/output.sh"
. "$root/pipelines/lib/progress.sh"
serve=$root/examples/models/serve.sh
directory=${CARGO_TARGET_DIR:-$root/target}/demo profile=()
while (($#)); do
    case $1 in
        --release) profile=(--release) ;;
        --keep) directory=$PWD ;;
        -h | --help)
            print_usage
            exit
            ;;
        *) die "unknown option: $1 (--help)" ;;
    esac
    shift
done
recording=$directory/reactor-demo.mp4 sheet=$directory/reactor-demo.png

port='' gst='' player='' scratch=$(mktemp -d)
leave() {
    trap '' INT TERM HUP
    end_bar
    # It ends as at Ctrl-C, by itself, and kills a pipeline that does not (see `finish`).
    if [[ -n $player ]]; then
        kill -TERM "$player" 2>/dev/null || true
        wait "$player" || true
    fi
    [[ -z $gst ]] || kill -KILL "$gst" 2>/dev/null || true
    [[ -z $port ]] || "$serve" stop --port "$port" >/dev/null
    rm -rf "$scratch"
}
trap leave EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 129' HUP

# install_packages PACKAGE...: with a bar, and what apt-get prints only if it fails, unless sudo asks for
# a password first, or somebody else has to install them.
install_packages() {
    local missing
    if command -v apt-get >/dev/null && { [[ $(id -u) == 0 ]] || sudo -n true 2>/dev/null; }; then
        missing=$(missing_packages "$@" | tr '\n' ' ')
        [[ -z $missing ]] || echo "installing: $missing" >&2
        progress "packages" 60 quietly need_packages "$@"
    else
        progress "packages" 0 need_packages "$@"
    fi
}

quietly() {
    "$@" >"$scratch/quiet" 2>&1 || {
        end_bar
        cat "$scratch/quiet" >&2
        return 1
    }
}

# shellcheck disable=SC2086
install_packages $BUILD_PACKAGES $RUN_PACKAGES
# Before the build, which takes minutes: this fails at once where there is no Python for it.
progress "local runtime" 60 "$serve" setup
progress "plugin" 0 build_plugin ${profile[@]+"${profile[@]}"}

served=$("$serve" start --port 0)
port=$(sed -n 's/.*port=\([0-9]*\).*/\1/p' <<<"$served")
echo "serving the playground: $served"

source=(reactorsrc local=true "api-url=http://127.0.0.1:$port" name=r)

# display_opens: the variables may be those of a display that is gone. No window is made.
display_opens() {
    { [[ -n ${WAYLAND_DISPLAY:-} ]] && opens waylandsink; } ||
        { [[ -n ${DISPLAY:-} ]] && opens ximagesink; }
}
opens() { timeout 20 gst-launch-1.0 -q fakesrc num-buffers=0 ! "$1" >/dev/null 2>&1; }

if display_opens; then
    echo "type a prompt and press Enter; Ctrl-C ends the demo"
    # In the background, as a signal to this script alone would wait for the end of what is not; of the
    # same process group, so that it reads the terminal and gets Ctrl-C. env and <&0: a background
    # command of a script ignores SIGINT and reads nothing by default.
    status=0
    env --default-signal=INT,QUIT "$root/pipelines/play.sh" --local \
        --api-url "http://127.0.0.1:$port" --messages none \
        --commands "{set_prompt:{prompt:'a forest at dawn'}}" <&0 &
    player=$!
    wait "$player" || status=$?
    player=''
    exit "$status"
fi

# --- without a display -------------------------------------------------------------------------

ended() { ! kill -0 "$gst" 2>/dev/null; }
# wait_until TENTHS COMMAND...: waits until the command succeeds or the pipeline has ended, for
# this number of 0.1 s steps at most.
wait_until() {
    local tenths=$1
    shift
    while ((tenths-- > 0)) && ! "$@" && ! ended; do sleep 0.1; done
}

record() {
    local status=0
    rm -f "$recording"
    # env: a background command of a script ignores SIGINT by default, and SIGINT ends this one.
    env --default-signal=INT gst-launch-1.0 -e "${source[@]}" \
        r. ! queue ! videoconvert ! x264enc tune=zerolatency ! h264parse ! mux. \
        r. ! queue ! audioconvert ! audioresample ! avenc_aac ! mux. \
        mp4mux name=mux ! filesink "$(property location "$recording")" >"$scratch/log" 2>&1 &
    gst=$!
    # The 5 s begin with the first bytes in the file, for which it waits 15 s at most.
    wait_until 150 test -s "$recording"
    wait_until 50 false
    kill -INT "$gst" 2>/dev/null || true
    wait_until 300 false
    ended || {
        echo "the pipeline did not end within 30 s" >&2
        return 1
    }
    wait "$gst" || status=$?
    gst=''
    ((status == 0)) || cat "$scratch/log" >&2
    return "$status"
}

# Six moments of the recording in one picture, two rows of three.
contact_sheet() {
    local branches=() number=0 column row file places=()
    # shellcheck disable=SC2054 # the commas are in caps
    gst-launch-1.0 -q filesrc "$(property location "$recording")" ! decodebin ! videoconvert ! \
        videorate ! video/x-raw,framerate=3/2 ! videoscale ! \
        video/x-raw,width=426,height=240,pixel-aspect-ratio=1/1 ! \
        pngenc ! multifilesink "location=$scratch/%d.png" || return 1
    for file in "$scratch"/[0-5].png; do
        [[ -e $file ]] || return 1
        column=$((number % 3)) row=$((number / 3))
        places+=("sink_$number::xpos=$((434 * column))" "sink_$number::ypos=$((248 * row))")
        branches+=(filesrc "location=$file" ! pngdec ! imagefreeze num-buffers=1 ! "sheet.sink_$number")
        number=$((number + 1))
    done
    gst-launch-1.0 -q compositor name=sheet background=black "${places[@]}" ! videoconvert ! \
        pngenc snapshot=true ! filesink "$(property location "$sheet")" "${branches[@]}"
}

mkdir -p "$directory"
progress "recording 5 s, as no display can be opened" 8 record
progress "contact sheet" 5 contact_sheet
if command -v gst-discoverer-1.0 >/dev/null; then
    gst-discoverer-1.0 "$recording"
else
    ffprobe -hide_banner "$recording"
fi
echo "recording: $recording"
echo "six moments of it: $sheet"
