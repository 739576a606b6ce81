# shellcheck shell=bash
# Builds the plugin and makes GStreamer find it. To be sourced, with $root set.

# build_plugin [--release]: sets and exports GST_PLUGIN_PATH and GST_PRESET_PATH.
build_plugin() {
    local profile=debug library directory target=${CARGO_TARGET_DIR:-$root/target}
    [ "${1:-}" != --release ] || profile=release
    if ! command -v cargo >/dev/null; then
        echo "building the plugin needs Rust: https://rustup.rs" >&2
        return 1
    fi
    (cd "$root" && cargo build -p gst-plugin-reactor "$@") || return 1
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
