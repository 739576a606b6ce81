#!/usr/bin/env bash
# Records a model's stream as MP4, with H.264 and AAC, in parts:
#
#   record.sh [OPTION...] FILE.mp4
#
# writes FILE-00000.mp4, FILE-00001.mp4 and so on. Each is a complete file that begins with a
# keyframe and continues where the previous one ends. Existing files are not overwritten.
# For example, ten minutes of the playground, which then ends as at Ctrl-C:
#
#   timeout 10m pipelines/record.sh --local playground.mp4
#
#   --part SECONDS        maximum duration of a part (60); parts end at a keyframe, one every
#                         2 s
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
mp4_target
name=${target%.mp4}
for old in "$name"-[0-9][0-9][0-9][0-9][0-9].mp4; do
    [[ ! -e $old ]] || die "is there already: $old"
done

nominal_rate
encode mux.video mux.audio_0
# The index is written once per second. A recording that is interrupted can be played except
# for its last 3 s, because the muxer collects 2 s from keyframe to keyframe. Unbuffered
# (buffer-mode 2): the index names no sample for which the disk had no room. %%: a % in the name
# is not part of the pattern.
run_pipeline "${streams[@]}" splitmuxsink name=mux "max-size-time=${part}000000000" \
    async-finalize=true use-robust-muxing=true \
    "muxer-properties=properties,reserved-moov-update-period=(guint64)1000000000" \
    "sink-properties=properties,buffer-mode=(int)2" \
    "$(property location "${name//%/%%}-%05d.mp4")"
