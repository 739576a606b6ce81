#!/usr/bin/env bash
# Plays a model, and sends each line of the standard input to it as a prompt, when it is entered:
#
#   play.sh [OPTION...]
#
# What the model says is printed, as lines of JSON; what it refuses is a warning. After the last
# line (Ctrl-D) the model goes on until Ctrl-C. For example, with the playground, typed and by a
# script:
#
#   pipelines/play.sh --local
#   (echo "a forest at dawn"; sleep 10; echo "at night") | pipelines/play.sh --local
#
#   --command NAME        the command whose text the lines are (set_prompt)
#   --lines FORM          what a line is: text, or json, which is a command with its parameters:
#                         {"set_prompt":{"prompt":"a forest at dawn"}}
#   --picture WHERE       window or none; none plays no sound either, and is for machines without
#                         a display
#   --messages WHERE      where the model's messages go: print or none
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$root/pipelines/lib/output.sh"

views=1 argument='' command=set_prompt lines=text view=window messages=print
# need_choice OPTION VALUE CHOICE CHOICE: fails unless the value is one of the two.
need_choice() { [[ $2 == "$3" || $2 == "$4" ]] || die "$1 needs $3 or $4: $2"; }
own_option() {
    case $1 in
        --command) need_name "$1" "$2" && command=$2 ;;
        --lines) need_choice "$1" "$2" text json && lines=$2 ;;
        --picture) need_choice "$1" "$2" window none && view=$2 ;;
        --messages) need_choice "$1" "$2" print none && messages=$2 ;;
        *) return 1 ;;
    esac
}
parse_options "$@"

if [[ $view == none && -z $record ]]; then
    # Decoded, so that what is wrong with the stream is seen.
    streams=(r. ! queue ! "video/x-raw(ANY)" ! fakesink sync=true)
else
    play_or_record
fi
if [[ $messages == print ]]; then
    # Through a pipe: fdsink goes to the beginning of what can be rewound, such as a file. Ctrl-C is
    # for the pipeline, which may still have a message.
    exec 5> >(trap '' INT && exec cat)
    streams+=(r.messages ! fdsink fd=5 sync=false async=false)
fi
case $lines in
    text) commands=("text/x-raw,format=utf8" ! "s.command_$command") ;;
    json) commands=(application/x-json ! s.commands) ;;
esac

# The pipeline is a background process of this terminal, which may not read from it.
exec 4<&0 3< <(exec cat <&4)
reader=$! status=0
exec 4<&-
# The position would be printed over what is typed.
launch+=(--no-position)
run_pipeline "${streams[@]}" reactorsink name=s fdsrc fd=3 ! "${commands[@]}" || status=$?
# Otherwise it would take the next line of what follows.
kill "$reader" 2>/dev/null || true
exit "$status"
