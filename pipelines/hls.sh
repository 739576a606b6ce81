#!/usr/bin/env bash
# Writes what a model sends as HLS, H.264 and AAC, into a directory for a web server:
#
#   hls.sh [OPTION...] DIRECTORY
#
# DIRECTORY/playlist.m3u8 lists the last segments, segment00000.ts and so on; older ones are
# deleted. The directory is made if need be; what an earlier run left there is written over.
# For example the playground, for players of this network:
#
#   pipelines/hls.sh --local live & python3 -m http.server --directory live
#
#   --segment SECONDS     how long a segment is (2)
#   --list N              so many segments in the playlist, 3 or more (5); 0 lists them all,
#                         and none is deleted
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$root/pipelines/lib/output.sh"

segment=2 list=5
own_option() {
    case $1 in
        --segment) need_number "$1" "$2" && segment=$2 ;;
        --list)
            [[ $2 == 0 ]] || need_number "$1" "$2" 3
            list=$2
            ;;
        *) return 1 ;;
    esac
}
parse_options "$@"
[[ $target == /* ]] || target=$PWD/$target
mkdir -p -- "$target"

# hlssink2 asks for a keyframe where a segment begins; one next to it would be a segment.
keyframes=$((2 * segment))
nominal_rate
encode out.video out.audio
# A segment stays for as long again after it has left the list: players are behind. A % in
# the name is none of the pattern's.
run_pipeline "${streams[@]}" hlssink2 name=out "target-duration=$segment" \
    "playlist-length=$list" "max-files=$((2 * list))" \
    "$(property location "${target//%/%%}/segment%05d.ts")" \
    "$(property playlist-location "$target/playlist.m3u8")"
