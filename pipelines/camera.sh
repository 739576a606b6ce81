#!/usr/bin/env bash
# A model that follows what a camera sees: every few seconds the camera's picture becomes the
# model's reference image:
#
#   camera.sh [OPTION...]
#
# For example, with the playground, which shows the image in the right third:
#
#   camera.sh --local --every 2
#
#   --every SECONDS       how often (5)
#   --camera SOURCE       the elements that are the camera (v4l2src), such as
#                         'v4l2src device=/dev/video2', or videotestsrc
#   --quality N           of the JPEG that is uploaded, 1 to 100 (85)
#   --command NAME        the command that takes an image (set_image)
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$root/pipelines/lib/output.sh"

views=1 argument='' every=5 camera=(v4l2src) quality=85 command=set_image
own_option() {
    case $1 in
        --every | --quality)
            need_number "$1" "$2"
            printf -v "${1#--}" %s "$2"
            ;;
        --camera) read -ra camera <<<"$2" ;;
        --command) need_name "$1" "$2" && command=$2 ;;
        *) return 1 ;;
    esac
}
parse_options "$@"
((quality <= 100)) || die "--quality needs a number from 1 to 100: $quality"

play_or_record
# One picture waits, the newest: a camera is not held up.
# drop-only: videorate would keep each picture until the next is due, and the last one past the end.
run_pipeline "${streams[@]}" reactorsink name=s \
    "${camera[@]}" ! queue max-size-buffers=1 leaky=downstream ! videoconvert ! videorate drop-only=true ! \
    "video/x-raw,framerate=1/$every" ! jpegenc "quality=$quality" ! "s.command_$command"
