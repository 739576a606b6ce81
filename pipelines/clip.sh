#!/usr/bin/env bash
# Plays a model, where there is a display, and saves its last seconds at Ctrl-C, as the
# platform recorded them:
#
#   clip.sh [OPTION...] FILE.mp4
#
# For example the playground's:
#
#   clip.sh --local --seconds 20 clip.mp4
#
# The file is written over, but only by one that is complete.
#
#   --seconds N           how much to save (10)
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$root/pipelines/lib/output.sh"

seconds=10
own_option() {
    [[ $1 == --seconds ]] || return
    need_number "$1" "$2"
    seconds=$2
}
# What is saved has to be recorded to its end first, and fetched.
encodes='' patience=60
parse_options "$@"
[[ $target == *?.mp4 && $target != */.mp4 ]] || die "not a name that ends in .mp4: $target"
[[ $target == /* ]] || target=$PWD/$target
[[ -d ${target%/*} ]] || die "no such directory: ${target%/*}"

part=$target.$$.part

if [[ -n ${DISPLAY:-}${WAYLAND_DISPLAY:-} ]]; then
    screen=(r. ! queue ! videoconvert ! autovideosink
        r. ! queue ! audioconvert ! audioresample ! autoaudiosink)
else
    screen=(r. ! fakesink)
fi
status=0
run_pipeline "${screen[@]}" reactorclip "duration=$seconds" request=eos trim=true ! \
    filesink "$(property location "$part")" || status=$?
if ((status == 0)) && [[ -s $part ]]; then
    mv -- "$part" "$target"
else
    rm -f -- "$part"
fi
exit "$status"
