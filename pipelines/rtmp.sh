#!/usr/bin/env bash
# Sends a model's stream to an RTMP server, with H.264 and AAC:
#
#   rtmp.sh [OPTION...] rtmp://HOST[:PORT]/APPLICATION/STREAM
#
# For example, the playground to a server on this machine:
#
#   rtmp.sh --local rtmp://127.0.0.1/live/demo
#
# rtmps:// is supported as well. If the network is too slow, video frames and audio are dropped
# before they are encoded. The frame rate is constant: frames are repeated or dropped.
# The URL is visible to everyone who can list this machine's processes.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$root/pipelines/lib/output.sh"

parse_options "$@"
[[ $target =~ ^rtmps?://[^/]+/[^/]+/.+ ]] || die "not like rtmp://HOST/APPLICATION/STREAM: $target"

queue=(leaky=downstream max-size-time=500000000 max-size-buffers=0 max-size-bytes=0)
constant_rate
encode mux.video mux.audio
# The muxer interleaves both streams and waits up to its latency (1.5 s) for a late one: during
# an outage the replacement media begins with the half second that its detection took. sync is
# off so that the sink sends at once what the muxer outputs.
run_pipeline "${streams[@]}" flvmux name=mux streamable=true latency=1500000000 ! \
    rtmp2sink sync=false "$(property location "$target")"
