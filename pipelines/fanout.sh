#!/usr/bin/env bash
# Feeds a model's RTP packets, neither decoded nor encoded, into a streaming mountpoint of Janus
# (https://janus.conf.meetecho.com), a media server: any number of browsers watch one session.
#
#   fanout.sh [OPTION...] HOST
#   fanout.sh [OPTION...] --mountpoint ID HOST
#
# HOST is where Janus runs. With --mountpoint it prints what belongs into Janus'
# janus.plugin.streaming.jcfg, and ends; ID is the number by which browsers watch. For example,
# the playground, with Janus on this machine:
#
#   pipelines/fanout.sh --mountpoint 1 127.0.0.1 >>/etc/janus/janus.plugin.streaming.jcfg
#   systemctl restart janus
#   pipelines/fanout.sh --local 127.0.0.1
#
# pipelines/fanout.html is a page that plays it. When a viewer joins, Janus asks for a keyframe
# (RTCP), which the model then sends to all.
#
#   --port PORT           the first of the four UDP ports of Janus that are used: an even number
#                         (5004). Video goes to PORT, audio to PORT + 2, RTCP of each to the next
#   --codec NAME          vp8 (default), vp9, h264 or av1: what the model's server offers and the
#                         viewers' browsers play
#   --no-audio            for a model without sound
#   --mountpoint ID       print the mountpoint's configuration
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$root/pipelines/lib/output.sh"

encodes='' takes_sound=1 argument=host question='which host?' port=5004 codec=vp8 mountpoint=''
own_option() {
    case $1 in
        --port)
            need_number "$1" "$2"
            (($2 % 2 == 0 && $2 <= 65532)) || die "--port needs an even number up to 65532: $2"
            port=$2
            ;;
        --codec)
            [[ $2 =~ ^(vp8|vp9|h264|av1)$ ]] || die "--codec needs vp8, vp9, h264 or av1: $2"
            codec=$2
            ;;
        --mountpoint) need_number "$1" "$2" && mountpoint=$2 ;;
        *) return 1 ;;
    esac
}
parse_options "$@"
[[ $target =~ ^[A-Za-z0-9.:-]+$ ]] || die "not the name or address of a host: $target"

# The payload types are those that browsers see: Janus writes them into the packets.
media() {
    printf '        {\n            type = "%s"\n            mid = "%s"\n            codec = "%s"\n' \
        "$1" "$1" "$2"
    printf '            pt = %s\n            port = %s\n            rtcpport = %s\n        }' \
        "$3" "$4" "$(($4 + 1))"
}
if [[ -n $mountpoint ]]; then
    printf 'model-%s: {\n    type = "rtp"\n    id = %s\n    description = "A model"\n    media = (\n' \
        "$mountpoint" "$mountpoint"
    media video "$codec" 96 "$port"
    [[ -z $sound ]] || { printf ',\n' && media audio opus 111 "$((port + 2))"; }
    printf '\n    )\n}\n'
    exit
fi

# rtpsink sends RTP and RTCP, and turns a request for a keyframe (PLI, FIR) into an event that
# reactorsrc passes on to the model's server.
send() {
    streams+=(r. ! "application/x-rtp,media=$1,encoding-name=${2^^}" ! queue !
        rtpsink "uri=rtp://$target:$3")
}
streams=()
send video "$codec" "$port"
[[ -z $sound ]] || send audio opus "$((port + 2))"
# rtpsession of 1.22 often sends no EOS after its last RTCP packet.
without_eos
run_pipeline "${streams[@]}"
