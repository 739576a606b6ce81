#!/usr/bin/env bash
# Runs the tests: tests/run.sh [--quick | --slow] [ARGUMENTS FOR cargo test]
#
#   tests/run.sh           all that CI runs: the gates, the unit tests, every end-to-end test, and
#                          those that the encoding of messages matters to once more in wire v0
#   tests/run.sh --quick   the unit tests, and one real pipeline per element
#   tests/run.sh --slow    what takes longer than CI has: 100 outages, 200 interrupted processes,
#                          10,000 random steps of each of 3 seeds (REACTOR_HAMMER_SEEDS), 10 minutes
#                          of command pads, 200 sessions in one process, 100 joins of the official
#                          clients, 2 minutes of several sessions and all faults, memcheck, each limit
#                          of descriptors, threads and memory, 20 browsers, the benchmarks, 5 s of
#                          each fuzz target, security advisories, the published crates with the oldest
#                          Rust; in Debian 12 and 13, installations, all that CI runs, and the demo
#   tests/run.sh --test clip -- playlists::     only these; see tests/README.md for the names
#
# Installs what is missing and builds first; tests then run in a network namespace where that is
# permitted (see netns.sh). Prints at the end how long each part took. REACTOR_TEST_THREADS sets
# how many tests run at once (2). With REACTOR_TEST_RERUN=0 no failed test is run again.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
. pipelines/lib/deps.sh
. pipelines/lib/plugin.sh

tier=default
case ${1:-} in
    --quick | --slow)
        tier=${1#--}
        shift
        ;;
esac

# What is before a -- among the arguments is for cargo, what is after it for the tests.
cargo_arguments=()
while (($#)) && [[ $1 != -- ]]; do
    cargo_arguments+=("$1")
    shift
done
(($# == 0)) || shift
test_arguments=("$@")
chosen=$((${#cargo_arguments[@]} + ${#test_arguments[@]}))
if [[ $tier != default ]] && ((chosen)); then
    echo "run.sh: --$tier takes no further arguments" >&2
    exit 2
fi

# --- parts: one after the other, each with its time ------------------------------------

times=()
print_times() {
    ((${#times[@]})) || return 0
    printf '\n'
    printf '%s\n' "${times[@]}"
    printf '%6d s  in all\n' "$SECONDS"
}
finish() {
    if [[ -n ${gates:-} ]]; then
        kill -TERM -- "-$gates" 2>/dev/null || true
        rm -f "$gates_log"
    fi
    print_times
}
trap finish EXIT

# part NAME COMMAND...: its exit status is the command's.
part() {
    local name=$1 begin=$SECONDS status=0
    shift
    "$@" || status=$?
    times+=("$(printf '%6d s  %s%s' $((SECONDS - begin)) "$name" "$( ((status == 0)) || echo ': FAILED')")")
    return "$status"
}

# --- what the tests need ---------------------------------------------------------------

packages() {
    local more=''
    case $tier in
        default) more=$GATE_PACKAGES ;;
        slow) more=chromium ;;
    esac
    # shellcheck disable=SC2086
    need_packages $BUILD_PACKAGES $RUN_PACKAGES $TEST_PACKAGES $more
}

install() {
    "$REACTOR_SERVE" setup || return 1
    [[ $tier != quick ]] || return 0
    # Some tests steer the model with the official client.
    "$REACTOR_SERVE" setup --bench || return 1
    # The far side of pipelines/rtmp.sh and hls.sh.
    if [[ ! -e ${REACTOR_NGINX:-}/usr/lib/nginx/modules/ngx_rtmp_module.so ]]; then
        export REACTOR_NGINX=$REACTOR_CACHE/nginx
        unpack_packages "$REACTOR_NGINX" nginx libnginx-mod-rtmp ||
            echo "no nginx: two tests of tools will fail" >&2
    fi
    # A TURN server.
    if [[ ! -e ${REACTOR_COTURN:-}/usr/bin/turnserver ]]; then
        export REACTOR_COTURN=$REACTOR_CACHE/coturn
        # shellcheck disable=SC2046 # a list of package names
        unpack_packages "$REACTOR_COTURN" coturn $(missing_libraries coturn) ||
            echo "no coturn: one test of cloud will fail" >&2
    fi
    # The far side of pipelines/fanout.sh.
    if [[ ! -e ${REACTOR_JANUS:-}/usr/bin/janus ]]; then
        export REACTOR_JANUS=$REACTOR_CACHE/janus
        unpack_janus "$REACTOR_JANUS" || echo "no janus: one test of tools will fail" >&2
    fi
}

build() {
    # With the examples and programs, and all tests.
    build_plugin
}

# The gates take only the time of the processors that nothing else wants (SCHED_IDLE, sched(7)), beside
# all that follows. They compile into a directory of their own: cargo locks the one that it compiles
# into.
begin_gates() {
    gates_log=$(mktemp)
    # A process group of its own, so that all of it can be ended.
    set -m
    CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$root/target}/gates \
        chrt --idle 0 tests/gates.sh >"$gates_log" 2>&1 &
    gates=$!
    set +m
}

end_gates() {
    local status=0
    wait "$gates" || status=$?
    cat "$gates_log"
    rm "$gates_log"
    gates=''
    return "$status"
}

export REACTOR_CACHE=${REACTOR_CACHE:-$root/.cache}
export REACTOR_SERVE=$root/examples/models/serve.sh
export REACTOR_BUILD=$TEST_BUILD
# A first build has nothing to reuse, and takes less time if it keeps nothing for the next one.
[[ -d ${CARGO_TARGET_DIR:-target}/debug/incremental ]] || export CARGO_INCREMENTAL=0
part "packages" packages
gates=''
if [[ $tier == default ]] && ((chosen == 0)); then
    begin_gates
fi
part "install" install
part "build" build

# A registry of its own: the user's neither decides what is found nor learns of this build.
export GST_REGISTRY=$REACTOR_CACHE/gstreamer-registry.bin

# --- the tests -------------------------------------------------------------------------

# in_namespace CARGO_ARGUMENT... -- TEST_ARGUMENT...
#
# Always with --workspace: for a package alone, cargo chooses other features of the dependencies,
# and builds everything once more.
in_namespace() {
    local cargo=()
    while [[ $1 != -- ]]; do
        cargo+=("$1")
        shift
    done
    shift
    tests/netns.sh cargo test --workspace --offline --no-fail-fast "${cargo[@]}" -- \
        --test-threads="${REACTOR_TEST_THREADS:-2}" "$@"
}

unit_tests() {
    local status=0 python
    python=$("$REACTOR_SERVE" python) || return 1
    "$python" -m unittest discover -s examples/models/tests || status=$?
    in_namespace --lib --test api -- || status=$?
    in_namespace --doc -- || status=$?
    return "$status"
}

# one_test BINARY TEST: it is an error if there is no such test.
one_test() {
    local output status=0
    output=$(in_namespace --test "$1" -- --exact "$2" 2>&1) || status=$?
    printf '%s\n' "$output"
    [[ $output == *"running 1 test"* ]] || {
        echo "run.sh: no test $2 in $1" >&2
        return 1
    }
    return "$status"
}

# The test binaries of tests/Cargo.toml.
groups() {
    sed -n '/^\[\[test\]\]/{n;s/^name = "\(.*\)"/\1/p}' tests/Cargo.toml
}

# The crates as they are published, with the oldest Rust that they promise.
oldest_rust() {
    local version
    version=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
    command -v rustup >/dev/null || {
        echo "no rustup: not checked with Rust $version"
        return
    }
    rustup toolchain install "$version" --profile minimal --no-self-update || return 1
    # Unpacks and builds what `cargo publish` would upload.
    CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}/oldest-rust cargo "+$version" package \
        --allow-dirty -p dynamic-gobject -p gst-plugin-reactor
}

# With the JavaScript client too: without its bundle that test passes without a look at it.
second_client() {
    local status=0
    if REACTOR_JS_CLIENT=$(tests/js-client.sh) && [[ -s $REACTOR_JS_CLIENT ]]; then
        export REACTOR_JS_CLIENT
    else
        echo "run.sh: no bundle of the JavaScript client, so nothing is tested with it" >&2
        unset REACTOR_JS_CLIENT
        status=1
    fi
    in_namespace --test session -- second_client:: || status=$?
    return "$status"
}

# wire_v0 GROUP...: what talks to the real server, in the older encoding of its messages.
wire_v0() {
    local group binaries=()
    for group in "$@"; do
        binaries+=(--test "$group")
    done
    REACTOR_TEST_WIRE=v0 in_namespace "${binaries[@]}" -- \
        --skip encoded_streams:: --skip frame_metadata:: --skip peer_servers:: \
        --skip resources:: --skip audio_video_sync:: --skip latency:: \
        --skip resume_window:: --skip hammer:: --skip players:: --skip second_client:: \
        --skip output_caps:: --skip interfaces:: --skip reconnect::on_gap_ --skip playback:: \
        --skip end_of_stream:: --skip encoding:: --skip encoded_video:: --skip live_inputs:: \
        --skip audio_inputs:: \
        --skip decoder_memory:: --skip control_bindings::
}

# The binaries whose tests run one at a time: they wait most of the time.
WAITING="outages lossy congestion"

# run_group GROUP: a binary, v0:GROUP,GROUP for binaries in the older encoding, unit, or
# audio_and_video, a test of outages that is left out there.
run_group() {
    if [[ $1 == unit ]]; then
        unit_tests
    elif [[ $1 == v0:* ]]; then
        # shellcheck disable=SC2046 # a list of names
        wire_v0 $(tr , ' ' <<<"${1#v0:}")
    elif [[ $1 == audio_and_video ]]; then
        in_namespace --test outages -- audio_video_sync::
    else
        in_namespace --test "$1" -- --skip audio_video_sync::
    fi
}

# lane GROUP...: one after the other, the output of each in one piece when it ends. What failed is
# left in $logs/failed.
lane() {
    local group begin status
    for group in "$@"; do
        begin=$SECONDS
        status=0
        run_group "$group" >"$logs/$group" 2>&1 || status=$?
        ((status == 0)) || echo "$group" >>"$logs/failed"
        printf '%6d s  %s%s\n' $((SECONDS - begin)) "$group" \
            "$( ((status == 0)) || echo ': FAILED')" >>"$logs/times"
        flock "$logs" cat "$logs/$group"
    done
}

# failed_tests LOG: each with its binary before it.
failed_tests() {
    awk '/ Running .*\/deps\// { sub(/.*\/deps\//, ""); sub(/-[0-9a-f]+\)$/, ""); binary = $0 }
        /^failures:$/ { listed = 1; names = "" }
        listed && /^    [a-z0-9_:]+$/ { names = names binary " " $1 "\n" }
        /^test result: / { printf "%s", names; listed = 0; names = "" }' "$1"
}

# How many tests may fail because of what runs beside them: 12 of 1214 did where two of these runs
# shared two processors. More take too long to run again.
MAX_RERUNS=16

# Whether others want the processors while nothing of this run does: for 20 % of the time or more a
# thread waited for one (pressure stall information, Linux 4.20; without it nobody is busy).
others_are_busy() {
    local share
    sleep 10
    share=$(sed -n 's/^some avg10=\([0-9]*\).*/\1/p' /proc/pressure/cpu 2>/dev/null) || true
    ((${share:-0} >= 20))
}

# alone BINARY NAME: runs a test with nothing of this run beside it. While others are busy it is not
# alone: with another of these runs beside it, 2 of 50 that had failed failed again, and then passed.
alone() {
    local try
    for try in 1 2 3; do
        if one_test "$1" "$2"; then
            return 0
        fi
        if ((try == 3)) || ! others_are_busy; then
            return 1
        fi
    done
}

# Runs each test that failed once more, with nothing beside it: the servers send in real time, and
# on a machine that is too busy what they send is late or missing. What fails again has failed, and
# what took its whole binary with it; the others are named at the end.
rerun_alone() {
    local group binary name count=0 status=0
    [[ -e $logs/failed ]] || return 0
    [[ ${REACTOR_TEST_RERUN:-1} != 0 ]] || return 1
    while read -r group; do
        [[ -n $(failed_tests "$logs/$group") ]] || status=1
        while read -r binary name; do
            if ((++count > MAX_RERUNS)); then
                return 1
            fi
            (
                [[ $group != v0:* ]] || export REACTOR_TEST_WIRE=v0
                alone "$binary" "$name"
            ) </dev/null && times+=("          passed alone: $name") || status=1
        done < <(failed_tests "$logs/$group")
    done <"$logs/failed"
    return "$status"
}

# All binaries. Those that wait run beside the others, in a network of their own.
two_lanes() {
    local group others=() waiting status=0
    logs=$(mktemp -d)
    for group in $(groups); do
        [[ " $WAITING source clip tools " == *" $group "* ]] || others+=("$group")
    done
    # Nothing beside it: a server that waits for a processor sends sound and pictures apart.
    lane audio_and_video
    # A process group of its own, so that all of it can be ended.
    set -m
    # shellcheck disable=SC2086
    REACTOR_TEST_THREADS=${REACTOR_TEST_THREADS:-1} \
        lane $WAITING v0:outages v0:source,sink,filter,session &
    waiting=$!
    set +m
    trap 'kill -TERM -- "-$waiting" 2>/dev/null; exit 130' INT TERM
    # Last the one that needs most, for which both processors are free by then.
    lane unit "${others[@]}" source clip tools
    wait "$waiting" || status=$?
    trap - INT TERM
    mapfile -t -O "${#times[@]}" times <"$logs/times"
    rerun_alone || status=1
    rm -r "$logs"
    return "$status"
}

status=0
if ((chosen)); then
    part "cargo test" in_namespace "${cargo_arguments[@]}" -- "${test_arguments[@]}" ||
        status=$?
    exit "$status"
fi

case $tier in
    quick)
        part "unit tests" unit_tests || status=$?
        while read -r binary test; do
            part "$binary" one_test "$binary" "$test" </dev/null || status=$?
        done <<'END'
source playback::raw_video_and_audio_play_together
sink audio_inputs::camera_and_microphone_feed_their_tracks
filter filter_sends_camera_and_returns_model_video
clip live_sessions::session_name_of_other_pipeline_is_found
END
        ;;
    slow)
        export REACTOR_TEST_SLOW=1
        part "outages" tests/netns.sh "${CARGO_TARGET_DIR:-target}/debug/reactor-outages" --count 100 ||
            status=$?
        part "interrupts" tests/netns.sh \
            "${CARGO_TARGET_DIR:-target}/debug/reactor-interrupts" --count 200 || status=$?
        part "hammer" tests/hammer.sh "${REACTOR_HAMMER_SEEDS:-3}" || status=$?
        part "pads" tests/netns.sh "${CARGO_TARGET_DIR:-target}/debug/reactor-pads" || status=$?
        part "show" in_namespace --test sink -- --nocapture commands::prompts_of_a_minute || status=$?
        export REACTOR_CYCLES=200
        part "cycles" in_namespace --test session -- resources:: || status=$?
        part "soak" tests/soak.sh 0.035 || status=$?
        part "valgrind" tests/valgrind.sh || status=$?
        part "second client" second_client || status=$?
        part "faults" in_namespace --test faults -- limits:: memory:: suspended:: || status=$?
        part "browsers" in_namespace --test tools -- --nocapture fanout::chromium || status=$?
        part "benchmarks" tests/bench.sh || status=$?
        part "fuzz targets" tests/fuzz.sh 5 || status=$?
        part "advisories" tests/gates.sh advisories || status=$?
        part "oldest Rust" oldest_rust || status=$?
        for debian in 12 13; do
            part "installation in Debian $debian" tests/install.sh "$debian" || status=$?
            part "suite in Debian $debian" tests/in-debian.sh "$debian" tests/run.sh || status=$?
            part "demo in Debian $debian" tests/in-debian.sh "$debian" pipelines/demo.sh ||
                status=$?
        done
        ;;
    *)
        part "tests" two_lanes || status=$?
        part "gates" end_gates || status=$?
        ;;
esac
exit "$status"
