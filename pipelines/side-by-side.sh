#!/usr/bin/env bash
# Shows two models side by side, and mixes their sound:
#
#   side-by-side.sh [OPTION...]
#
# The options of the session are those of the model on the left, and these of the one on the right:
#
#   --right-model NAME, --right-api-url URL, --right-arguments JSON, --right-commands JSON
#
# --local is for both. For example, with two playgrounds:
#
#   examples/models/serve.sh run --port 8080 &
#   examples/models/serve.sh run --port 8081 &
#   pipelines/side-by-side.sh --local --right-api-url http://localhost:8081
#
#   --each WxH            size of each picture (640x360); what has another is scaled, with borders
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$root/pipelines/lib/output.sh"

views=1 argument='' right=() each=640x360
own_option() {
    case $1 in
        --right-model | --right-api-url | --right-arguments | --right-commands)
            right+=("$(property "${1#--right-}" "$2")")
            ;;
        --each)
            [[ $2 =~ ^[1-9][0-9]*x[1-9][0-9]*$ ]] || die "--each needs WIDTHxHEIGHT: $2"
            each=$2
            ;;
        *) return 1 ;;
    esac
}
parse_options "$@"
[[ " ${source[*]} " != *" local=true "* ]] || right=(local=true "${right[@]}")

picture=picture. sound_of=sound.
play_or_record
width=${each%x*} height=${each#*x}
fit=(videoconvert ! videoscale add-borders=true !
    "video/x-raw,width=$width,height=$height,pixel-aspect-ratio=1/1")
# Each has a session of its own, and neither waits for the other, which may wait for a GPU. Without
# ignore-inactive-pads: with it, a mixer of 1.22 that is to mix before any pad has data ends its
# stream. Without it, its second picture sometimes has the time of the first, which videorate drops.
source+=(session=left)
run_pipeline reactorsrc name=q session=right "on-gap=$on_gap" "${right[@]}" \
    compositor name=both background=black "sink_1::xpos=$width" ! \
    "video/x-raw,format=I420,width=$((2 * width)),height=$height,framerate=$framerate/1" ! \
    videorate name=picture skip-to-first=true \
    r. ! queue ! "${fit[@]}" ! both.sink_0 \
    q. ! queue ! "${fit[@]}" ! both.sink_1 \
    audiomixer name=sound \
    r. ! queue ! audioconvert ! audioresample ! sound. \
    q. ! queue ! audioconvert ! audioresample ! sound. \
    "${streams[@]}"
