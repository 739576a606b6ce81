#!/usr/bin/env bash
# Installs the plugin from this checkout: install.sh --user [--library FILE] | --uninstall
#
#   --user           for the user who runs this, where GStreamer and applications look without
#                    being told; below ${XDG_DATA_HOME:-~/.local/share}:
#                      gstreamer-1.0/plugins     the library
#                      gstreamer-1.0/presets     presets of the elements
#                      doc/gst-plugin-reactor    documentation, licences, a list of what was installed
#   --library FILE   installs this library, built before, instead of building one
#   --uninstall      takes all of it away again, but for files that were changed since
#
# Builds a release (5 to 10 min on two cores) and checks that gst-inspect-1.0 finds the elements.
# Debian packages that the build needs are installed where root or sudo permits. For all users of
# a Debian system: packaging/build-deb.sh.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$root/pipelines/lib/deps.sh"
. "$root/pipelines/lib/usage.sh"
. "$root/packaging/lib/shared.sh"

user='' uninstall='' built=''
while (($#)); do
    case $1 in
        --user) user=1 ;;
        --uninstall) uninstall=1 ;;
        --library)
            (($# > 1)) || die "--library needs a file (--help explains)"
            built=$2
            shift
            ;;
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
[[ -z $uninstall || -z $built ]] || die "--library is for installing (--help explains)"
[[ -z $built || -f $built ]] || die "there is no library $built"

data=${XDG_DATA_HOME:-$HOME/.local/share}
documents=$data/doc/gst-plugin-reactor
library=$data/gstreamer-1.0/plugins/libgstreactor.so
[[ $(uname) != Darwin ]] || library=${library%.so}.dylib
# What was made, in this order: lines `directory PATH` and `file CHECKSUM SIZE PATH`.
installed=$documents/installed

# --- the list of what was installed ------------------------------------------------------------

# file_line FILE [PATH]: its line in the list, as a file of this path.
file_line() { echo "file $(cksum <"$1") ${2:-$1}"; }

is_listed() { [[ -e $installed ]] && grep -qxF -- "$1" "$installed"; }

add_to_list() { is_listed "$1" || printf '%s\n' "$1" >>"$installed"; }

made=()
make_directory() {
    [[ ! -d $1 ]] || return 0
    make_directory "$(dirname "$1")"
    mkdir "$1"
    made+=("directory $1")
}

# install_file SOURCE FILE: a file of the user's own is kept, another library is replaced.
install_file() {
    if [[ -e $2 && $2 != "$library" ]] && ! is_listed "$(file_line "$2")"; then
        cmp -s "$1" "$2" || echo "kept $2: it is yours, or was changed"
        return 0
    fi
    make_directory "$(dirname "$2")"
    # The list is in one of these directories.
    if ((${#made[@]})); then
        printf '%s\n' "${made[@]}" >>"$installed"
        made=()
    fi
    add_to_list "$(file_line "$1" "$2")"
    # A running process may have the old library mapped: replaced as a whole, not written into.
    cp "$1" "$2.new"
    chmod 644 "$2.new"
    mv "$2.new" "$2"
}

uninstall() {
    [[ -e $installed ]] || die "not installed: there is no $installed"
    local line path directories=() kept=''
    while IFS= read -r line; do
        if [[ $line == "directory "* ]]; then
            # The last one first.
            directories=("${line#directory }" ${directories[@]+"${directories[@]}"})
            continue
        fi
        path=${line#file * * }
        [[ -e $path ]] || continue
        if [[ $path == "$library" ]] || is_listed "$(file_line "$path")"; then
            rm "$path"
        else
            kept+="kept $path: it was changed since"$'\n'
        fi
    done <"$installed"
    printf %s "$kept" | sort -u
    rm "$installed"
    # Those that were made for it, unless something else is in them now.
    for path in ${directories[@]+"${directories[@]}"}; do
        rmdir "$path" 2>/dev/null || true
    done
    echo "removed $library and what was installed with it"
}

if [[ -n $uninstall ]]; then
    uninstall
    exit
fi

# --- installing --------------------------------------------------------------------------------

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

if [[ -z $built ]]; then
    # shellcheck disable=SC2086 # lists of package names
    need_packages $BUILD_PACKAGES $RUN_PACKAGES
    command -v cargo >/dev/null || die "the build needs Rust: https://rustup.rs"
    cd "$root"
    cargo build --release --locked --package gst-plugin-reactor
    target=$(cargo metadata --format-version 1 --no-deps --offline |
        sed 's/.*"target_directory":"\([^"]*\)".*/\1/')
    built=$target/release/${library##*/}
fi
strip --strip-unneeded -o "$scratch/library" "$built" 2>/dev/null || cp "$built" "$scratch/library"

make_directory "$documents"
install_file "$scratch/library" "$library"
while IFS=$'\t' read -r source file; do
    install_file "$source" "$file"
done < <(shared_files "$data/gstreamer-1.0/presets" "$documents")
echo "installed $library ($(du -k "$library" | cut -f1) kB)"

# A registry of its own, so that the check leaves nothing behind.
if ! env -u GST_PLUGIN_PATH -u GST_PLUGIN_PATH_1_0 GST_REGISTRY="$scratch/registry" \
    gst-inspect-1.0 reactor; then
    echo "install.sh: gst-inspect-1.0 does not find the plugin; GST_DEBUG=2 gst-inspect-1.0" \
        "$library says why" >&2
    exit 1
fi
