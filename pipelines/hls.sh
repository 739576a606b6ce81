#!/usr/bin/env bash
# Writes a model's stream as HLS, with H.264 and AAC, into a directory for a web server:
#
#   hls.sh [OPTION...] DIRECTORY
#
# DIRECTORY/playlist.m3u8 lists the latest segments, segment00000.ts and so on; older ones are
# deleted. The directory is created if necessary; files of an earlier run are overwritten.
# For example, the playground for players in the local network:
#
#   pipelines/hls.sh --local live & python3 -m http.server --directory live
#
#   --segment SECONDS     duration of a segment (2)
#   --list N              number of segments in the playlist, 3 or more (5); 0 lists all
#                         segments and deletes none
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
absolute_target
mkdir -p -- "$target"

# hlssink2 requests a keyframe at the start of each segment. A regular keyframe just before or
# after it would start another segment, so the regular interval is longer than a segment.
keyframe_interval=$((2 * segment))
nominal_rate
encode out.video out.audio
# Twice as many files are kept as are listed: players lag behind the playlist. %%: a % in the
# target is not part of the pattern.
run_pipeline "${streams[@]}" hlssink2 name=out "target-duration=$segment" \
    "playlist-length=$list" "max-files=$((2 * list))" \
    "$(property location "${target//%/%%}/segment%05d.ts")" \
    "$(property playlist-location "$target/playlist.m3u8")"
