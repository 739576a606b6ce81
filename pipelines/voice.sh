#!/usr/bin/env bash
# Speaks to a model: what a transcriber hears is the prompt:
#
#   voice.sh [OPTION...] TRANSCRIBER
#
# TRANSCRIBER is a command line. It reads the microphone's sound from standard input (16-bit
# little-endian samples, mono, 16,000 per second) and prints a line for each utterance, which it
# must not keep in a buffer (Python: flush=True, or PYTHONUNBUFFERED=1). For example:
#
#   voice.sh --local './transcribe.py --language en'
#
#   --microphone SOURCE   the elements that are the microphone (autoaudiosrc), such as
#                         'alsasrc device=hw:1'; none for a transcriber that listens by itself
#   --command NAME        the command whose text the lines are (set_prompt)
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$root/pipelines/lib/output.sh"

views=1 argument=transcriber question='which transcriber?'
command=set_prompt microphone=(autoaudiosrc)
own_option() {
    case $1 in
        --command) need_name "$1" "$2" && command=$2 ;;
        --microphone) read -ra microphone <<<"$2" ;;
        *) return 1 ;;
    esac
}
parse_options "$@"
play_or_record

# A process group of its own: Ctrl-C does not end it before the pipeline.
set -m
coproc TRANSCRIBER { exec bash -c "$target"; }
set +m
transcriber=$TRANSCRIBER_PID
# Opened anew: bash closes a coprocess's descriptors, and copies of them, in other children.
exec 3<"/dev/fd/${TRANSCRIBER[0]}" 4>"/dev/fd/${TRANSCRIBER[1]}"

speak=()
# The queue drops sound that a slow transcriber does not read.
[[ ${microphone[*]} == none ]] || speak=("${microphone[@]}" ! audioconvert ! audioresample !
    "audio/x-raw,format=S16LE,layout=interleaved,rate=16000,channels=1" !
    queue leaky=downstream max-size-time=5000000000 max-size-buffers=0 max-size-bytes=0 !
    fdsink fd=4 sync=false async=false)
status=0
run_pipeline "${streams[@]}" "${speak[@]}" reactorsink name=s \
    fdsrc fd=3 ! text/x-raw,format=utf8 ! "s.command_$command" || status=$?
((status == 0)) || kill -0 "$transcriber" 2>/dev/null || echo "voice.sh: the transcriber ended" >&2
disown "$transcriber" 2>/dev/null || true # bash prints nothing when it ends
kill -- "-$transcriber" 2>/dev/null || true
exit "$status"
