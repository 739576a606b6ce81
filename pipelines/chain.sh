#!/usr/bin/env bash
# Feeds one model with what another one shows, and shows what it makes of it:
#
#   chain.sh [OPTION...]
#
# The options of the session are those of the second model, which is seen, and these of the first:
#
#   --from-model NAME, --from-api-url URL, --from-arguments JSON, --from-commands JSON
#
# --local is for both. For example, with two playgrounds, of which the second shows the picture of
# the first, inverted, in its lower left:
#
#   examples/models/serve.sh run --port 8080 &
#   examples/models/serve.sh run --port 8081 &
#   pipelines/chain.sh --local --from-api-url http://localhost:8081
#
#   --track NAME          the second model's input track; its first for video otherwise
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$root/pipelines/lib/output.sh"

views=1 argument='' first=() pad=''
own_option() {
    case $1 in
        --from-model | --from-api-url | --from-arguments | --from-commands)
            first+=("$(property "${1#--from-}" "$2")")
            ;;
        --track) need_name "$1" "$2" && pad=video_$2 ;;
        *) return 1 ;;
    esac
}
parse_options "$@"
[[ " ${source[*]} " != *" local=true "* ]] || first=(local=true "${first[@]}")

play_or_record
# While the first sends nothing, the second goes on with its last picture.
source+=(session=second)
run_pipeline reactorsink name=s session=second \
    reactorsrc name=first session=first "on-gap=$on_gap" "${first[@]}" \
    first. ! queue max-size-buffers=2 leaky=downstream ! videoconvert ! "s.$pad" \
    "${streams[@]}"
