#!/usr/bin/env bash
# Installs the plugin from this checkout: install.sh --user [--uninstall]
#
#   --user        for the user who runs this, in GStreamer's own directory for a user's plugins,
#                 ${XDG_DATA_HOME:-~/.local/share}/gstreamer-1.0/plugins
#   --uninstall   takes it away again
#
# Builds a release (5 to 10 min on two cores) and checks that gst-inspect-1.0 finds the elements.
# Debian packages that the build needs are installed where root or sudo permits. For all users of
# a Debian system: packaging/build-deb.sh.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$root"
. pipelines/lib/deps.sh
. pipelines/lib/usage.sh

user="" uninstall=""
while (($#)); do
    case $1 in
        --user) user=1 ;;
        --uninstall) uninstall=1 ;;
        -h | --help)
            print_usage
            exit
            ;;
        *) die "unknown option: $1 (--help lists them)" ;;
    esac
    shift
done
[[ -n $user || -n $uninstall ]] ||
    die "say --user to install for yourself (--help explains)"

directory=${XDG_DATA_HOME:-$HOME/.local/share}/gstreamer-1.0/plugins
library=libgstreactor.so
[[ $(uname) != Darwin ]] || library=libgstreactor.dylib

if [[ -n $uninstall ]]; then
    [[ -e $directory/$library ]] || die "not installed: there is no $directory/$library"
    rm "$directory/$library"
    # Directories that were made for it.
    rmdir -p "$directory" 2>/dev/null || true
    echo "removed $directory/$library"
    exit
fi

# shellcheck disable=SC2086 # lists of package names
need_packages $BUILD_PACKAGES $RUN_PACKAGES
command -v cargo >/dev/null || die "the build needs Rust: https://rustup.rs"
cargo build --release --locked --package gst-plugin-reactor
target=$(cargo metadata --format-version 1 --no-deps --offline |
    sed 's/.*"target_directory":"\([^"]*\)".*/\1/')

mkdir -p "$directory"
# A running process may have the old library mapped: replaced as a whole, not written into.
strip --strip-unneeded -o "$directory/$library.new" "$target/release/$library" 2>/dev/null ||
    cp "$target/release/$library" "$directory/$library.new"
mv "$directory/$library.new" "$directory/$library"
echo "installed $directory/$library"

# GStreamer looks into that directory without being told.
if ! env -u GST_PLUGIN_PATH -u GST_PLUGIN_PATH_1_0 gst-inspect-1.0 reactor; then
    echo "install.sh: gst-inspect-1.0 does not find the plugin; GST_DEBUG=2 gst-inspect-1.0" \
        "$directory/$library says why" >&2
    exit 1
fi
