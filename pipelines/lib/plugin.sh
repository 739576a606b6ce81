# shellcheck shell=bash
# Builds the plugin and makes GStreamer find it. To be sourced, with $root set.

# What tests/run.sh has cargo build: one build for all that tests and their programs need.
# shellcheck disable=SC2034
TEST_BUILD="--workspace --all-targets"

# build_plugin [--release]: sets and exports GST_PLUGIN_PATH and GST_PRESET_PATH.
#
# REACTOR_BUILD says what cargo builds, if not the plugin alone. Cargo chooses other features of the
# dependencies for the plugin alone than for the workspace, and others again where tests are built, and
# each of these builds takes the place of the other's library: it would be built anew each time.
build_plugin() {
    local profile=debug library directory target=${CARGO_TARGET_DIR:-$root/target}
    [ "${1:-}" != --release ] || profile=release
    if ! command -v cargo >/dev/null; then
        echo "building the plugin needs Rust: https://rustup.rs" >&2
        return 1
    fi
    # shellcheck disable=SC2086 # options
    (cd "$root" && cargo build ${REACTOR_BUILD:--p gst-plugin-reactor} "$@") || return 1
    case $(uname) in
        Darwin) library=libgstreactor.dylib ;;
        *) library=libgstreactor.so ;;
    esac
    # A directory that holds the plugin alone: GStreamer scans every library below a plugin
    # path, and target holds procedural macros as well.
    directory=$target/gst-plugins/$profile
    mkdir -p "$directory"
    ln -sf "../../$profile/$library" "$directory/$library"
    export GST_PLUGIN_PATH="$directory${GST_PLUGIN_PATH:+:$GST_PLUGIN_PATH}"
    export GST_PRESET_PATH="$root/gst-plugin-reactor/presets${GST_PRESET_PATH:+:$GST_PRESET_PATH}"
}
