#!/usr/bin/env bash
# Makes Debian packages of the plugin: build-deb.sh [--library FILE] [DIRECTORY]
#
# Writes to DIRECTORY (default: target/debian)
#
#   gstreamer1.0-reactor_VERSION_ARCH.deb         the plugin, its documents and licences
#   gstreamer1.0-reactor-dbgsym_VERSION_ARCH.deb  its debug symbols, for backtraces with lines
#
# for the Debian that it runs on: the library goes where that system's GStreamer looks for plugins,
# and the versions that it depends on are asked from that system's packages. Uses dpkg's own tools.
# Installs what the build needs, where root or sudo permits. The packages are reproducible: with the
# same sources, compilers and libraries, another user, directory, time, umask or locale gives the same
# bytes.
#
#   --library FILE   packages this library, built before, instead of building one
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
. pipelines/lib/deps.sh
. pipelines/lib/usage.sh
. packaging/lib/shared.sh

built='' output=''
while (($#)); do
    case $1 in
        -h | --help)
            print_usage
            exit
            ;;
        --library)
            (($# > 1)) || die "--library needs a file (--help explains)"
            built=$(realpath -e "$2")
            shift
            ;;
        -*) die "unknown option: $1 (--help lists them)" ;;
        *)
            [[ -z $output ]] || die "one directory only, not $output and $1 (--help explains)"
            output=$1
            ;;
    esac
    shift
done

package=gstreamer1.0-reactor
# shellcheck disable=SC2086 # a list of package names
need_packages $BUILD_PACKAGES $RUN_PACKAGES dpkg-dev
output=${output:-$root/target/debian}
mkdir -p "$output"
output=$(cd "$output" && pwd)

version=$(dpkg-parsechangelog -l packaging/debian/changelog -S Version)
crate_version=$(cargo metadata --format-version 1 --no-deps |
    sed 's/.*"name":"gst-plugin-reactor","version":"\([^"]*\)".*/\1/')
if [[ ${version%-*} != "$crate_version" ]]; then
    echo "build-deb.sh: packaging/debian/changelog says $version, Cargo.toml $crate_version" >&2
    exit 1
fi
architecture=$(dpkg --print-architecture)
plugins=$(pkg-config --variable=pluginsdir gstreamer-1.0)

# No time of this build: dpkg-deb and what compilers run take the changelog's.
SOURCE_DATE_EPOCH=$(dpkg-parsechangelog -l packaging/debian/changelog -S Timestamp)
export SOURCE_DATE_EPOCH
if [[ -z $built ]]; then
    # No path of this machine, in the library and in its symbols. The build id is what joins the two.
    target=${CARGO_TARGET_DIR:-$root/target}/debian-build
    cargo_home=${CARGO_HOME:-$HOME/.cargo}
    flags=" -ffile-prefix-map=$root=. -ffile-prefix-map=$cargo_home=cargo -ffile-prefix-map=$target=target"
    export CFLAGS="${CFLAGS:-}$flags" CXXFLAGS="${CXXFLAGS:-}$flags"
    export RUSTFLAGS="${RUSTFLAGS:-} -C link-arg=-Wl,--build-id=sha1 --remap-path-prefix=$root=.
        --remap-path-prefix=$cargo_home=cargo --remap-path-prefix=$target=target"
    cargo build --release --locked --package gst-plugin-reactor --target-dir "$target"
    built=$target/release/libgstreactor.so
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
tree=$work/tree symbols=$work/symbols
mkdir -p "$work/debian" "$tree$plugins" "$tree/usr/share/doc/$package" \
    "$symbols/usr/share/doc"

# --- the library and its symbols ---------------------------------------------------------------

library=$tree$plugins/libgstreactor.so
install -m 644 "$built" "$library"
build_id=$(readelf -n "$library" | sed -n 's/.*Build ID: //p')
[[ -n $build_id ]] || die "$built has no build id, which joins it and its symbols"
debug=$symbols/usr/lib/debug/.build-id/${build_id:0:2}
mkdir -p "$debug"
objcopy --only-keep-debug --compress-debug-sections "$library" "$debug/${build_id:2}.debug"
chmod 644 "$debug/${build_id:2}.debug"
strip --strip-unneeded --remove-section=.comment --remove-section=.note "$library"

# --- documents ---------------------------------------------------------------------------------

documents=$tree/usr/share/doc/$package
while IFS=$'\t' read -r source file; do
    install -D -m 644 "$source" "$file"
done < <(shared_files "$tree/usr/share/gstreamer-1.0/presets" "$documents")
# Debian's names, beside the one that links have. Its policy has longer texts compressed, and the licence
# in `copyright`.
rm "$documents/LICENSE"
cp "$documents/CHANGELOG.md" "$documents/changelog"
install -m 644 packaging/debian/copyright "$documents/copyright"
install -m 644 packaging/debian/changelog "$documents/changelog.Debian"
gzip -9n "$documents"/changelog "$documents"/changelog.Debian "$documents"/third-party-licenses.txt
ln -s "$package" "$symbols/usr/share/doc/$package-dbgsym"

# --- the packages ------------------------------------------------------------------------------

cp packaging/debian/control packaging/debian/changelog "$work/debian/"
cd "$work"
dpkg-shlibdeps -Tdebian/substvars -S"$tree" "$library"

# make_package NAME TREE OPTION...: checksums, the control file and the archive.
make_package() {
    local name=$1 directory=$2
    shift 2
    mkdir -p "$directory/DEBIAN"
    (cd "$directory" && find . -path ./DEBIAN -prune -o -type f -printf '%P\0' |
        LC_ALL=C sort -z | xargs -0 md5sum >DEBIAN/md5sums)
    dpkg-gencontrol -p"$name" -P"$directory" -Tdebian/substvars -fdebian/files "$@"
    chmod -R u=rwX,go=rX "$directory"
    find "$directory" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +
    dpkg-deb --root-owner-group --build "$directory" \
        "$output/${name}_${version}_$architecture.deb" >/dev/null
    echo "$output/${name}_${version}_$architecture.deb"
}
make_package "$package" "$tree"
make_package "$package-dbgsym" "$symbols" -DBuild-Ids="$build_id" \
    -DAuto-Built-Package=debug-symbols
