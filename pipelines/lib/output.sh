# shellcheck shell=bash
# What the scripts that put a session out somewhere have in common. Meant to be sourced, with
# $root set and the script's own help as its first comment:
#
#   . "$root/pipelines/lib/output.sh"
#   own_option() { ... }            # where a script has options of its own
#   parse_options "$@"
#   encode mux.video mux.audio
#   run_pipeline "${streams[@]}" MUXER name=mux ! SINK "$(property location "$target")"

# shellcheck disable=SC2154 # the script sets root
. "$root/pipelines/lib/deps.sh"
. "$root/pipelines/lib/plugin.sh"

SESSION_HELP="
The session:
  --local               a local runtime, which needs no key
  --api-url URL         where the runtime, or the cloud's API, is
  --model NAME          the model; a local runtime serves one and needs none
  --arguments JSON      for the model, when the session is created
  --commands JSON       sent as soon as the session is ready, such as
                        '[{\"set_prompt\":{\"prompt\":\"a forest\"}}]'
  --on-gap WHAT         hold-last-frame (if not given), black or nothing: what is sent while
                        nothing comes, as when the connection is lost"
ENCODING_HELP="The encoding:
  --bitrate KBIT        of the H.264 video (2500)
  --framerate N         the model's pictures in a second (30)
  --speed-preset NAME   of x264 (veryfast)
  --size WxH            scale to this size, with borders; needed where a model changes its
                        own, which most outputs do not take
  --no-audio            for a model without sound: what waits for it would wait for ever"
END_HELP="
The key comes from the environment, REACTOR_API_KEY or REACTOR_JWT, and from nowhere else.
Ctrl-C, SIGTERM and SIGHUP finish the output and end the session, as does the model's end of
it, with exit status 0. What fails is said, with another exit status."

usage() {
    sed -n '2,/^set -/{/^#/s/^# \{0,1\}//p}' "$0"
    echo "$SESSION_HELP"
    [[ -z $encodes ]] || echo "$ENCODING_HELP"
    echo "$END_HELP"
}

die() {
    echo "${0##*/}: $*" >&2
    exit 2
}

# --- options ------------------------------------------------------------------------

source=() target='' bitrate=2500 framerate=30 speed_preset=veryfast size='' sound=1
on_gap=hold-last-frame
# Whether there is anything to encode, and how many seconds to wait for what is finished.
encodes=1 patience=10

# Checks a number, and that it is not smaller than the third argument.
need_number() {
    if ! [[ $2 =~ ^[1-9][0-9]{0,8}$ ]] || (($2 < ${3:-1})); then
        die "$1 needs a number${3:+ of $3 or more}: $2"
    fi
}

# A property as gst-launch-1.0 reads it, whatever is in the value.
property() {
    local value=${2//\\/\\\\}
    printf '%s="%s"' "$1" "${value//\"/\\\"}"
}

# own_option NAME VALUE: takes what is not known here, or fails.
own_option() { return 1; }

# Sets `target` to the one argument that is no option, and what else is above.
parse_options() {
    while (($#)); do
        case $1 in
            -h | --help)
                usage
                exit
                ;;
            --local) source+=(local=true) ;;
            --no-audio)
                [[ -n $encodes ]] || die "nothing to encode here: $1"
                sound=''
                ;;
            --*)
                (($# > 1)) || die "$1 needs a value, or is unknown (--help lists what there is)"
                common_option "$1" "$2"
                shift
                ;;
            *)
                [[ -z $target && -n $1 ]] || die "one output only (--help)"
                target=$1
                ;;
        esac
        shift
    done
    [[ -n $target ]] || die "where to? (--help)"
}

common_option() {
    case $1 in
        --api-url | --model | --arguments | --commands) source+=("$(property "${1#--}" "$2")") ;;
        --on-gap) on_gap=$2 ;;
        *)
            if [[ -z $encodes ]] || ! encoding_option "$1" "$2"; then
                own_option "$1" "$2" || die "unknown option: $1 (--help lists what there is)"
            fi
            ;;
    esac
}

encoding_option() {
    case $1 in
        --bitrate | --framerate)
            need_number "$1" "$2"
            printf -v "${1#--}" %s "$2"
            ;;
        --speed-preset) speed_preset=$2 ;;
        --size)
            [[ $2 =~ ^[1-9][0-9]*x[1-9][0-9]*$ ]] || die "--size needs WIDTHxHEIGHT: $2"
            size=$2
            ;;
        *) return 1 ;;
    esac
}

# --- the pipeline -------------------------------------------------------------------

# What an output sets where it differs: properties of the queues, what gives raw pictures their
# rate, and seconds from keyframe to keyframe.
queue=() rate=() keyframes=2

# Their times stay as they are. Without a rate they have no duration, and the last picture
# of an MP4 would be shown for no time at all.
nominal_rate() { rate=(capssetter "caps=video/x-raw,framerate=$framerate/1" !); }
# Some are repeated or left out; not the first, until then from the beginning of time.
constant_rate() {
    rate=(videorate skip-to-first=true ! capsfilter "caps=video/x-raw,framerate=$framerate/1" !)
}

# encode VIDEO_PAD AUDIO_PAD: sets `streams`, from the source as H.264 and AAC to these pads.
encode() {
    local scale=()
    [[ -z $size ]] || scale=(videoscale add-borders=true ! capsfilter
        "caps=video/x-raw,width=${size%x*},height=${size#*x},pixel-aspect-ratio=1/1" !)
    # shellcheck disable=SC2054 # the commas are in caps
    # I420: another format of a model's would make H.264 that few players take.
    streams=(r. ! queue "${queue[@]}" ! videoconvert ! "${scale[@]}" "${rate[@]}"
        capsfilter caps=video/x-raw,format=I420 ! x264enc tune=zerolatency "speed-preset=$speed_preset"
        "bitrate=$bitrate" "key-int-max=$((keyframes * framerate))" ! h264parse ! "$1")
    # shellcheck disable=SC2054
    [[ -z $sound ]] || streams+=(r. ! queue "${queue[@]}" ! audioconvert ! audioresample !
        audio/x-raw,rate=48000,channels=2 ! avenc_aac bitrate=128000 ! aacparse ! "$2")
}

# With the plugin that GStreamer finds; in a checkout that was not built yet, it is built.
find_plugin() {
    # Not --exists, which takes plugins of GStreamer's own version only.
    if gst-inspect-1.0 reactorsrc >/dev/null 2>&1; then return; fi
    # shellcheck disable=SC2086
    need_packages $BUILD_PACKAGES $RUN_PACKAGES
    build_plugin --release
}

launched='' told=''

# What Ctrl-C is to gst-launch-1.0 -e: it sends EOS and waits until all is written. The
# second one ends it at once, so it gets one only; it is not waited for longer than that.
finish() {
    told=1
    [[ -n $launched && -z $watchdog ]] || return 0
    kill -INT "$launched" 2>/dev/null || true
    (
        sleep "$patience"
        echo "${0##*/}: the pipeline did not end within $patience s" >&2
        kill -KILL "$launched"
    ) &
    watchdog=$!
    disown "$watchdog" # nothing is said of its end
}

# run_pipeline ELEMENTS...: plays reactorsrc, named r, and what follows.
run_pipeline() {
    local status=0
    watchdog=''
    find_plugin
    trap finish INT TERM HUP
    # In a process group of its own, so that a terminal's Ctrl-C comes here and not there too.
    set -m
    gst-launch-1.0 -e reactorsrc name=r "on-gap=$on_gap" "${source[@]}" "$@" &
    launched=$!
    trap 'kill -KILL "$launched" 2>/dev/null || true' EXIT
    [[ -z $told ]] || finish
    # A signal ends the waiting before its end.
    while told=; do
        status=0
        wait "$launched" || status=$?
        [[ -n $told ]] || break
    done
    trap - EXIT
    trap '' INT TERM HUP
    [[ -z $watchdog ]] || kill -- "-$watchdog" 2>/dev/null || true
    return "$status"
}
