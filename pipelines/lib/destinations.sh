# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # the variables are those of output.sh
# Where the scripts send H.264 and AAC. Sourced by output.sh. Each to_FORM TARGET sets `streams` to
# branches that encode the picture and the sound and send them there.

# What is live is dropped rather than late.
live_queue=(leaky=downstream max-size-time=500000000 max-size-buffers=0 max-size-bytes=0)

is_rtmp() { [[ $1 =~ ^rtmps?:// ]]; }
is_srt() { [[ $1 == srt://* ]]; }

# The muxers interleave both streams and wait up to their latency (1.5 s) for a late one: during
# an outage the replacement media begins with the half second that its detection took. sync is
# off so that the sinks send at once what the muxers output.

to_rtmp() {
    [[ $1 =~ ^rtmps?://[^/]+/[^/]+/.+ ]] || die "not like rtmp://HOST/APPLICATION/STREAM: $1"
    queue=("${live_queue[@]}")
    constant_rate
    encode mux.video mux.audio
    streams+=(flvmux name=mux streamable=true latency=1500000000 !
        rtmp2sink sync=false "$(property location "$1")")
}

to_srt() {
    local form='^srt://[^/?]*:[0-9]+/?([?].*)?$'
    [[ $1 =~ $form ]] || die "not like srt://HOST:PORT: $1"
    queue=("${live_queue[@]}")
    parameter_sets=-1
    constant_rate
    encode mux.sink_65 mux.sink_66
    # 7 packets of a transport stream fit into one of SRT.
    streams+=(mpegtsmux name=mux alignment=7 latency=1500000000 !
        srtsink wait-for-connection=false sync=false "$(property uri "$1")")
}

# Into an MP4 file, which can be played while it grows, except for its last second. FFmpeg cannot where
# mp4mux 1.22 wrote a fragment that does not tell the size of its first sound, as it did in 4 of 30 of
# bumper.sh with --mixer mix; GStreamer can. In the file that was finished nothing is missing.
to_mp4() {
    nominal_rate
    encode mux.video_0 mux.audio_0
    streams+=(mp4mux name=mux fragment-duration=1000 fragment-mode=first-moov-then-finalise !
        filesink "$(property location "$1")")
}
