# shellcheck shell=bash
# What the scripts that write a session's media to an output share. To be sourced, with $root
# set and the script's own help as its first comment:
#
#   . "$root/pipelines/lib/output.sh"
#   own_option() { ... }            # if the script has options of its own
#   parse_options "$@"
#   encode mux.video mux.audio
#   run_pipeline "${streams[@]}" MUXER name=mux ! SINK "$(property location "$target")"

# shellcheck disable=SC2154 # the script sets root
. "$root/pipelines/lib/deps.sh"
. "$root/pipelines/lib/plugin.sh"
. "$root/pipelines/lib/usage.sh"
. "$root/pipelines/lib/destinations.sh"

SESSION_HELP="
The session:
  --local               connect to a local runtime, which needs no key
  --api-url URL         the address of the local runtime, or of the cloud's API
  --model NAME          the model; a local runtime serves one model and needs no name
  --arguments JSON      the model's arguments when the session is created
  --commands JSON       commands that are sent when the session is ready, such as
                        '[{\"set_prompt\":{\"prompt\":\"a forest\"}}]'
  --on-gap MODE         what is sent while no media arrives, for example during an outage:
                        hold-last-frame (default), black, none or stall"
VIEW_HELP="The picture and the sound:
  --record FILE.mp4     into a file, encoded, instead of a window and loudspeakers; an existing
                        file is overwritten"
ENCODING_HELP="The encoding:
  --bitrate KBIT        bitrate of the H.264 video in kbit/s (2500)
  --framerate N         the model's frames per second (30)
  --speed-preset NAME   speed preset of x264 (veryfast)
  --size WxH            scale to this size and add borders; necessary for a model that changes
                        its size, which most outputs do not support
  --no-audio            for a model without sound, for which the muxer would wait for ever"
END_HELP="
The key is read from the environment (REACTOR_API_KEY or REACTOR_JWT) only.
Ctrl-C, SIGTERM and SIGHUP finish the output and close the session; so does the end of the
model's stream. The exit status is then 0. A failure prints a message and exits with another
status."

usage() {
    print_usage
    echo "$SESSION_HELP"
    [[ -z $views ]] || echo "$VIEW_HELP"
    [[ -z $encodes ]] || echo "$ENCODING_HELP"
    echo "$END_HELP"
}

# --- options ------------------------------------------------------------------------

source=() target='' bitrate=2500 framerate=30 speed_preset=veryfast size='' sound=1
on_gap=hold-last-frame
# Whether the output is encoded, whether one that is not takes --no-audio, and how many seconds the
# pipeline has to finish after EOS.
encodes=1 takes_sound='' eos_timeout=30
# What the positional argument is (empty: there is none), and what to ask if it is missing.
argument=output question='where to?'
# Whether the model is played, or recorded with --record (see `play_or_record`).
views='' record=''

# need_number OPTION VALUE [MINIMUM]: fails unless the value is an integer >= MINIMUM (1).
need_number() {
    if ! [[ $2 =~ ^[1-9][0-9]{0,8}$ ]] || (($2 < ${3:-1})); then
        die "$1 needs a number${3:+ of $3 or more}: $2"
    fi
}

# need_name OPTION VALUE: fails unless the value can be the name of a command.
need_name() { [[ $2 =~ ^[A-Za-z_][A-Za-z0-9_.-]*$ ]] || die "$1 needs the name of a command: $2"; }

# property NAME VALUE: prints a property in the syntax of gst-launch-1.0, quoted.
property() {
    local value=${2//\\/\\\\}
    printf '%s="%s"' "$1" "${value//\"/\\\"}"
}

# own_option NAME VALUE: handles an option of the script's own, or fails if it has none.
own_option() { return 1; }

# Sets `target` to the one positional argument, and the variables above from the options.
parse_options() {
    while (($#)); do
        case $1 in
            -h | --help)
                usage
                exit
                ;;
            --local) source+=(local=true) ;;
            --no-audio)
                [[ -n $encodes$takes_sound ]] || die "this output has no sound: $1"
                sound=''
                ;;
            --*)
                (($# > 1)) || die "$1 needs a value, or is unknown (--help lists the options)"
                common_option "$1" "$2"
                shift
                ;;
            *)
                [[ -n $argument ]] || die "not an option: $1 (--help lists the options)"
                [[ -z $target && -n $1 ]] || die "one $argument only (--help)"
                target=$1
                ;;
        esac
        shift
    done
    [[ -n $target || -z $argument ]] || die "$question (--help)"
}

common_option() {
    case $1 in
        --api-url | --model | --arguments | --commands) source+=("$(property "${1#--}" "$2")") ;;
        --on-gap) on_gap=$2 ;;
        --record)
            [[ -n $views ]] || die "unknown option: $1 (--help lists the options)"
            record=$(mp4_path "$2") || exit
            ;;
        *)
            if [[ -z $encodes ]] || ! encoding_option "$1" "$2"; then
                own_option "$1" "$2" || die "unknown option: $1 (--help lists the options)"
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

# Makes `target` an absolute path.
absolute_target() { [[ $target == /* ]] || target=$PWD/$target; }

# mp4_path FILE: prints its absolute path, and fails unless it can be the name of an MP4 file.
mp4_path() {
    local path=$1
    [[ $path == *?.mp4 && $path != */.mp4 ]] || die "not a name that ends in .mp4: $path"
    [[ $path == /* ]] || path=$PWD/$path
    [[ -d ${path%/*} ]] || die "no such directory: ${path%/*}"
    printf %s "$path"
}
mp4_target() { target=$(mp4_path "$target") || exit; }

# Makes `target` an absolute path, and fails unless it is a file that can be read.
readable_target() {
    [[ -f $target && -r $target ]] || die "not a file that can be read: $target"
    absolute_target
}

# --- the pipeline -------------------------------------------------------------------

# What a script sets for its output: properties of the queues, elements that set the frame rate
# of raw video, the keyframe interval in seconds, and how often the stream repeats its parameter sets
# (-1: with each keyframe, for players that join later).
queue=() rate=() keyframe_interval=2 parameter_sets=0

# The elements whose picture and sound are played or encoded: the source, unless a script mixes.
picture=r. sound_of=r.

# Keeps the timestamps and declares the frame rate. Without one, buffers have no duration, and
# the last frame of an MP4 would have a duration of 0.
nominal_rate() { rate=(capssetter "caps=video/x-raw,framerate=$framerate/1" !); }
# Repeats and drops frames, from the first one on: without skip-to-first, videorate would fill
# the time from 0 to the first frame.
constant_rate() {
    rate=(videorate skip-to-first=true ! capsfilter "caps=video/x-raw,framerate=$framerate/1" !)
}

# encode VIDEO_PAD AUDIO_PAD: sets `streams` to branches that encode the source's media as H.264
# and AAC and link them to these pads.
encode() {
    local scale=()
    [[ -z $size ]] || scale=(videoscale add-borders=true ! capsfilter
        "caps=video/x-raw,width=${size%x*},height=${size#*x},pixel-aspect-ratio=1/1" !)
    # shellcheck disable=SC2054 # the commas are in caps
    # I420: from another chroma format x264enc makes a profile that few players support. Before the
    # frame rate is set: capssetter says upstream that it takes any format.
    streams=("$picture" ! queue "${queue[@]}" ! videoconvert ! "${scale[@]}"
        capsfilter caps=video/x-raw,format=I420 ! "${rate[@]}" x264enc tune=zerolatency
        "speed-preset=$speed_preset"
        "bitrate=$bitrate" "key-int-max=$((keyframe_interval * framerate))" !
        h264parse "config-interval=$parameter_sets" ! "$1")
    # shellcheck disable=SC2054
    [[ -z $sound ]] || streams+=("$sound_of" ! queue "${queue[@]}" ! audioconvert ! audioresample !
        audio/x-raw,rate=48000,channels=2 ! avenc_aac bitrate=128000 ! aacparse ! "$2")
}

# Sets `playback` to branches that play the source `r`, or fails if there is no display.
playback_branches() {
    [[ -n ${DISPLAY:-}${WAYLAND_DISPLAY:-} ]] || return
    # shellcheck disable=SC2034 # for the script
    playback=("$picture" ! queue ! videoconvert ! autovideosink
        "$sound_of" ! queue ! audioconvert ! audioresample ! autoaudiosink)
}

# Sets `streams` to branches that play the source `r`, or record it if --record says so.
play_or_record() {
    if [[ -z $record ]]; then
        playback_branches || die "no display for a window: --record FILE.mp4 makes a file"
        streams=("${playback[@]}")
        return
    fi
    to_mp4 "$record"
}

# Uses the plugin that GStreamer finds. If it finds none, builds the checkout's.
find_plugin() {
    # Not --exists, which finds only plugins of the version of GStreamer itself.
    if gst-inspect-1.0 reactorsrc >/dev/null 2>&1; then return; fi
    # shellcheck disable=SC2086
    need_packages $BUILD_PACKAGES $RUN_PACKAGES
    build_plugin --release
}

# The program with its options, and where its output goes.
launch=(gst-launch-1.0 -e) output=1 launched='' interrupted=''

# Sends SIGINT to gst-launch-1.0 -e, which then sends EOS and waits until it has passed. A
# second SIGINT would end it at once, so one is sent. After `eos_timeout` seconds it is killed.
finish() {
    interrupted=1
    [[ -n $launched && -z $watchdog ]] || return 0
    kill -INT "$launched" 2>/dev/null || true
    (
        sleep "$eos_timeout"
        echo "${0##*/}: the pipeline did not end within $eos_timeout s" >&2
        kill -KILL "$launched"
    ) &
    watchdog=$!
    disown "$watchdog" # bash prints nothing when it ends
}

# For an output that has no end to be written, and whose sinks may miss EOS: does not wait for it,
# neither when it is interrupted nor when the session ends.
without_eos() {
    launch=(gst-launch-1.0)
    end_with_session
}

# For a pipeline that goes on without the session's media: when the session ends, ends the script as
# SIGTERM does.
end_with_session() {
    launch+=(-m)
    exec {output}> >(until_session_ends)
}

# Prints what gst-launch-1.0 -m prints, but for the messages.
until_session_ends() {
    local line
    trap '' INT TERM HUP
    while IFS= read -r line; do
        case $line in
            *reactor-session-ended,*) kill -TERM $$ ;;
            'Got message #'*) ;;
            *) printf '%s\n' "$line" ;;
        esac
    done
}

# run_pipeline ELEMENT...: runs reactorsrc, named r, with the elements that follow.
run_pipeline() {
    local status=0
    watchdog=''
    find_plugin
    trap finish INT TERM HUP
    # A process group of its own: a terminal's Ctrl-C is sent to this script only.
    set -m
    "${launch[@]}" reactorsrc name=r "on-gap=$on_gap" "${source[@]}" "$@" >&"$output" &
    launched=$!
    trap 'kill -KILL "$launched" 2>/dev/null || true' EXIT
    [[ -z $interrupted ]] || finish
    # A signal makes wait return before the process has ended.
    while interrupted=; do
        status=0
        wait "$launched" || status=$?
        [[ -n $interrupted ]] || break
    done
    trap - EXIT
    trap '' INT TERM HUP
    [[ -z $watchdog ]] || kill -- "-$watchdog" 2>/dev/null || true
    return "$status"
}
