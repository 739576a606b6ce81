#!/usr/bin/env bash
# Saves a picture of what a model shows every few seconds, as JPEG or PNG:
#
#   snapshot.sh [OPTION...] FILE.jpg
#   snapshot.sh [OPTION...] FILE.png
#
# writes FILE-00000.jpg, FILE-00001.jpg and so on, or with --count 1 FILE.jpg. Existing files are
# overwritten.
#
#   --every SECONDS       how often (5)
#   --count N             end after N pictures; without it at Ctrl-C or with the model
#   --size WxH            scale to this size
#   --quality N           of JPEG, 1 to 100 (85)
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$root/pipelines/lib/output.sh"

encodes='' every=5 count='' quality=85
own_option() {
    case $1 in
        --every | --count | --quality)
            need_number "$1" "$2"
            printf -v "${1#--}" %s "$2"
            ;;
        --size)
            [[ $2 =~ ^[1-9][0-9]*x[1-9][0-9]*$ ]] || die "--size needs WIDTHxHEIGHT: $2"
            size=$2
            ;;
        *) return 1 ;;
    esac
}
parse_options "$@"
((quality <= 100)) || die "--quality needs a number from 1 to 100: $quality"
case $target in
    *?.jpg) encoder=(jpegenc "quality=$quality") ;;
    *?.png) encoder=(pngenc) ;;
    *) die "not a name that ends in .jpg or .png: $target" ;;
esac
absolute_target
[[ -d ${target%/*} ]] || die "no such directory: ${target%/*}"

# %%: a % in the name is not part of the pattern.
name=${target//%/%%}
[[ $count == 1 ]] || name=${name%.*}-%05d.${name##*.}
scale=() end=()
[[ -z $size ]] || scale=(videoscale ! "video/x-raw,width=${size%x*},height=${size#*x}" !)
# The queue ends as a whole: videorate sends one more picture at the end.
[[ -z $count ]] || end=(queue ! identity "eos-after=$((count + 1))" !)
# One picture waits: a slow disk does not make them late. skip-to-first: videorate would repeat the
# first picture for the time before it.
run_pipeline r. ! queue max-size-buffers=1 leaky=downstream ! videorate skip-to-first=true ! \
    "video/x-raw,framerate=1/$every" ! "${end[@]}" videoconvert ! "${scale[@]}" "${encoder[@]}" ! \
    multifilesink "$(property location "$name")"
