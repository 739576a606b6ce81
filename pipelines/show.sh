#!/usr/bin/env bash
# Plays a show: a model whose prompts are subtitles, each at its time:
#
#   show.sh [OPTION...] SHOW.srt
#
# The show begins when the model does. For example, with the playground:
#
#   printf '1\n00:00:01,000 --> 00:00:04,000\na forest at dawn\n' >show.srt
#   pipelines/show.sh --local show.srt
#
# After the last prompt the model goes on until Ctrl-C.
#
#   --command NAME        the command whose text the subtitles are (set_prompt)
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$root/pipelines/lib/output.sh"

views=1 argument=show question='which show?' command=set_prompt
own_option() {
    [[ $1 == --command ]] || return
    need_name "$1" "$2"
    command=$2
}
parse_options "$@"
readable_target

play_or_record
run_pipeline "${streams[@]}" reactorsink name=s \
    filesrc "$(property location "$target")" ! subparse ! text/x-raw,format=utf8 ! \
    "s.command_$command"
