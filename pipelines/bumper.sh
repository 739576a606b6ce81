#!/usr/bin/env bash
# Broadcasts a model, and a bumper, a picture and sound of your own, while there is nothing of the
# model: before a GPU is free, during an outage, and while the model pauses:
#
#   bumper.sh [OPTION...] rtmp://HOST[:PORT]/APPLICATION/STREAM
#   bumper.sh [OPTION...] srt://HOST:PORT[?OPTIONS]
#   bumper.sh [OPTION...] FILE.mp4
#
# The stream begins at once, and encoder, muxer and connection go on through all of it. For example,
# the playground to a server on this machine:
#
#   bumper.sh --local --bumper "back soon.png" rtmp://127.0.0.1/live/demo
#
# A session that is lost is replaced by another one, which gets --commands again.
#
#   --bumper PICTURE      a PNG or JPEG file, or the elements that are the picture, such as
#                         'videotestsrc is-live=true pattern=snow'. Without it: a dark picture
#                         with --text
#   --text TEXT           of the dark picture (Back soon)
#   --sound SOURCE        the elements that are the bumper's sound, live, such as
#                         'audiotestsrc is-live=true wave=pink-noise volume=0.01'; silence without
#   --after MS            how long nothing comes of the model before the bumper is seen (1000)
#   --mixer NAME          switch, the element fallbackswitch of gst-plugins-rs, or mix, where the
#                         model's picture lies on the bumper, and the bumper's sound is heard with
#                         the model's as well. Without it: switch if the element is installed
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$root/pipelines/lib/output.sh"

bumper=() picture_file='' text='Back soon' bumper_sound=(audiotestsrc is-live=true wave=silence) after=1000 mixer=''
size=1280x720 on_gap=stall
own_option() {
    case $1 in
        --bumper)
            case $2 in
                *.png | *.jpg | *.jpeg)
                    [[ -r $2 ]] || die "not a file that can be read: $2"
                    picture_file=$2
                    ;;
                *) read -ra bumper <<<"$2" ;;
            esac
            ;;
        --text) text=$2 ;;
        --sound) read -ra bumper_sound <<<"$2" ;;
        --after) need_number "$1" "$2" && after=$2 ;;
        --mixer)
            [[ $2 =~ ^(switch|mix)$ ]] || die "--mixer needs switch or mix: $2"
            mixer=$2
            ;;
        *) return 1 ;;
    esac
}
parse_options "$@"

# The elements that show a file, as large as it fits. Behind imagefreeze the pipeline would never end:
# EOS at Ctrl-C goes to the sources, and that of a file has ended before.
show_file() {
    local caps width height to_width=${size%x*} to_height=${size#*x}
    caps=$(gst-launch-1.0 -v filesrc "$(property location "$1")" ! decodebin ! fakesink name=picture 2>&1) ||
        die "not a picture: $1: $caps"
    caps=${caps#*picture.GstPad:sink: caps = video/x-raw}
    width=${caps#*width=(int)} height=${caps#*height=(int)}
    width=${width%%[!0-9]*} height=${height%%[!0-9]*}
    if ((width * to_height > height * to_width)); then
        height=$((height * to_width / width)) width=$to_width
    else
        width=$((width * to_height / height)) height=$to_height
    fi
    bumper=(videotestsrc is-live=true pattern=black ! "video/x-raw,width=$to_width,height=$to_height"
        ! gdkpixbufoverlay "$(property location "$1")" overlay-width="$width" overlay-height="$height"
        offset-x="$(((to_width - width) / 2))" offset-y="$(((to_height - height) / 2))")
}
[[ -z $picture_file ]] || show_file "$picture_file"
# textoverlay takes its property for the markup of Pango, and shows nothing of what is none (1.22). Not
# with ${text//}: since bash 5.2 an & in what it puts in means what was found.
text=$(sed 's/&/\&amp;/g; s/</\&lt;/g' <<<"$text")
[[ -n ${bumper[*]} ]] || bumper=(videotestsrc is-live=true pattern=solid-color
    foreground-color=0xff101218 ! textoverlay "$(property text "$text")" font-desc="Sans 40"
    halignment=center valignment=center)
if [[ -z $mixer ]]; then
    mixer=mix
    ! gst-inspect-1.0 fallbackswitch >/dev/null 2>&1 || mixer=switch
fi

# Both have the size and the rate of the output, so that nothing behind them changes.
# shellcheck disable=SC2054 # the commas are in caps
raw="video/x-raw,format=I420,width=${size%x*},height=${size#*x},pixel-aspect-ratio=1/1"
sound_caps=audio/x-raw,format=F32LE,layout=interleaved,rate=48000,channels=2
fit=(videoconvert ! videoscale add-borders=true)
resample=(audioconvert ! audioresample)
# No sound of the model is no reason to have none of the bumper.
model_sound=$sound
sound=1
# The model is input 1 of a mixer, which is on top, and input 0 of a switch, which goes first.
if [[ $mixer == mix ]]; then
    # An input that has no data is not waited for: the bumper's is live. Sound that is 0.5 s late
    # is still heard.
    pictures=(compositor background=black start-time-selection=first
        "sink_1::max-last-buffer-repeat=${after}000000" name=both)
    sounds=(audiomixer latency=500000000 start-time-selection=first name=heard)
    model_input=sink_1 bumper_input=sink_0
else
    switch=(fallbackswitch immediate-fallback=true "timeout=${after}000000")
    # The mixers cut what begins before the other one has ended.
    pictures=("${switch[@]}" name=both ! compositor start-time-selection=first)
    sounds=("${switch[@]}" name=heard ! audiomixer latency=500000000 start-time-selection=first)
    model_input=sink_0 bumper_input=sink_1
fi
picture=picture. sound_of=sound.
source+=(restart-session=true)

if is_rtmp "$target"; then
    to_rtmp "$target"
elif is_srt "$target"; then
    to_srt "$target"
else
    mp4_target
    to_mp4 "$target"
fi
from_model=(r. ! queue ! "${fit[@]}" ! "$raw" ! "both.$model_input")
[[ -z $model_sound ]] || from_model+=(r. ! queue ! "${resample[@]}" ! "$sound_caps" !
    "heard.$model_input")
from_bumper=("${bumper[@]}" ! "${fit[@]}" ! videorate ! "$raw,framerate=$framerate/1" ! queue !
    "both.$bumper_input"
    "${bumper_sound[@]}" ! "${resample[@]}" ! "$sound_caps" ! queue ! "heard.$bumper_input")
# Both mixers count their inputs in the order in which they are made, whatever their names.
if [[ $mixer == mix ]]; then
    branches=("${from_bumper[@]}" "${from_model[@]}")
else
    branches=("${from_model[@]}" "${from_bumper[@]}")
fi
# The bumper has no end.
end_with_session
# videorate: the second picture of compositor 1.22 sometimes has the time of the first.
run_pipeline "${pictures[@]}" ! "$raw,framerate=$framerate/1" ! \
    videorate name=picture skip-to-first=true \
    "${sounds[@]}" ! capsfilter name=sound "caps=$sound_caps" "${branches[@]}" "${streams[@]}"
