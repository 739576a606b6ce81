# shellcheck shell=bash
# Builds the plugin and lets GStreamer find it. Meant to be sourced, with $root set.

# build_plugin [--release]: sets and exports GST_PLUGIN_PATH.
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
    # A directory with nothing else in it: GStreamer would look into every library below
    # target, procedural macros included.
    directory=$target/gst-plugins/$profile
    mkdir -p "$directory"
    ln -sf "../../$profile/$library" "$directory/$library"
    export GST_PLUGIN_PATH="$directory${GST_PLUGIN_PATH:+:$GST_PLUGIN_PATH}"
}
