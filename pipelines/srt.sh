#!/usr/bin/env bash
# Sends a model's stream by SRT, as an MPEG transport stream with H.264 and AAC:
#
#   srt.sh [OPTION...] srt://HOST:PORT[?OPTIONS]
#   srt.sh [OPTION...] srt://:PORT?mode=listener
#
# to a server, or to players that connect to this machine. For example, the playground for
# players in the local network (ffplay srt://HOST:7001):
#
#   srt.sh --local 'srt://:7001?mode=listener'
#
# The OPTIONS are those of GStreamer's srtsink, such as latency=MS, streamid=ID and passphrase=TEXT.
# With mode=listener players come and go; otherwise a lost connection is made anew. While there is
# none, the stream is dropped. The frame rate is constant: frames are repeated or dropped. The URL is
# visible to everyone who can list this machine's processes.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$root/pipelines/lib/output.sh"

parse_options "$@"
form='^srt://[^/?]*:[0-9]+/?([?].*)?$'
[[ $target =~ $form ]] || die "not like srt://HOST:PORT: $target"

queue=(leaky=downstream max-size-time=500000000 max-size-buffers=0 max-size-bytes=0)
parameter_sets=-1
constant_rate
encode mux.sink_65 mux.sink_66
# 7 packets of a transport stream fit into one of SRT. sync is off: what the muxer outputs is sent
# at once.
run_pipeline "${streams[@]}" mpegtsmux name=mux alignment=7 latency=1500000000 ! \
    srtsink wait-for-connection=false sync=false "$(property uri "$target")"
