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
to_srt "$target"
# srtsink 1.26 waits for its next connection in the middle of a write, which EOS does not reach.
without_eos
run_pipeline "${streams[@]}"
