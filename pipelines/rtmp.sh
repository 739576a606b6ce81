#!/usr/bin/env bash
# Streams what a model sends to an RTMP server, as H.264 and AAC:
#
#   rtmp.sh [OPTION...] rtmp://HOST[:PORT]/APPLICATION/STREAM
#
# For example the playground's to a server on this machine:
#
#   rtmp.sh --local rtmp://127.0.0.1/live/demo
#
# rtmps:// is taken as well. On a network that is too slow, pictures and sound are left out
# before they are encoded. The rate of the pictures is constant, for which some are repeated
# or left out. Whoever may list this machine's processes sees the URL.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$root/pipelines/lib/output.sh"

parse_options "$@"
[[ $target =~ ^rtmps?://[^/]+/[^/]+/.+ ]] || die "not like rtmp://HOST/APPLICATION/STREAM: $target"

queue=(leaky=downstream max-size-time=500000000 max-size-buffers=0 max-size-bytes=0)
constant_rate
encode mux.video mux.audio
# The muxer puts both in order, and waits for what is late: without a connection, what is
# sent instead begins with the half second until that is certain. What it has is sent at once.
run_pipeline "${streams[@]}" flvmux name=mux streamable=true latency=1500000000 ! \
    rtmp2sink sync=false "$(property location "$target")"
