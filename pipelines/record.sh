#!/usr/bin/env bash
# Records what a model sends as MP4, H.264 and AAC, in parts:
#
#   record.sh [OPTION...] FILE.mp4
#
# writes FILE-00000.mp4, FILE-00001.mp4 and so on. Each is a whole file that begins with a
# keyframe, and goes on where the one before it ends. None that exists is written over.
# For example ten minutes of the playground, which end like Ctrl-C:
#
#   timeout 10m pipelines/record.sh --local playground.mp4
#
#   --part SECONDS        how long a part is at most (60), in steps of 2, from keyframe to
#                         keyframe
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$root/pipelines/lib/output.sh"

part=60
own_option() {
    [[ $1 == --part ]] || return
    need_number "$1" "$2"
    part=$2
}
parse_options "$@"
[[ $target == *?.mp4 && $target != */.mp4 ]] || die "not a name that ends in .mp4: $target"
[[ $target == /* ]] || target=$PWD/$target
name=${target%.mp4}
[[ -d ${name%/*} ]] || die "no such directory: ${name%/*}"
for old in "$name"-[0-9][0-9][0-9][0-9][0-9].mp4; do
    [[ ! -e $old ]] || die "is there already: $old"
done

nominal_rate
encode mux.video mux.audio_0
# Once a second the file's index is written, so that a recording that is cut off can be played
# but for its last 3 s: 2 s are collected from keyframe to keyframe. A % in the name is none
# of the pattern's.
run_pipeline "${streams[@]}" splitmuxsink name=mux "max-size-time=${part}000000000" \
    async-finalize=true use-robust-muxing=true \
    "muxer-properties=properties,reserved-moov-update-period=(guint64)1000000000" \
    "$(property location "${name//%/%%}-%05d.mp4")"
