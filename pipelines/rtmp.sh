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
to_rtmp "$target"
run_pipeline "${streams[@]}"
