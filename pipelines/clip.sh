#!/usr/bin/env bash
# Plays a model's stream, if there is a display, and at Ctrl-C saves its last seconds as the
# platform recorded them:
#
#   clip.sh [OPTION...] FILE.mp4
#
# For example, with the playground:
#
#   clip.sh --local --seconds 20 clip.mp4
#
# An existing file is replaced once the new one is complete.
#
#   --seconds N           length of the clip in seconds (10)
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$root/pipelines/lib/output.sh"

seconds=10
own_option() {
    [[ $1 == --seconds ]] || return
    need_number "$1" "$2"
    seconds=$2
}
# The platform first has to record up to the clip's end, then the clip is downloaded.
encodes='' eos_timeout=60
parse_options "$@"
mp4_target

part=$target.$$.part
playback_branches || playback=(r. ! fakesink)
status=0
run_pipeline "${playback[@]}" reactorclip "duration=$seconds" request=eos trim=true ! \
    filesink "$(property location "$part")" || status=$?
if ((status == 0)) && [[ -s $part ]]; then
    mv -- "$part" "$target"
else
    rm -f -- "$part"
fi
exit "$status"
