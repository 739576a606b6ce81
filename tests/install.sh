#!/usr/bin/env bash
# Installs the plugin in a Debian the way users do: install.sh [--library FILE] 12|13 [WAY...]
#
#   --library FILE   `user` and `package` install this library, built before, instead of building
#                    one: for a look at what is put where
#
#   user      ./install.sh --user, and --uninstall
#   package   packaging/build-deb.sh, apt-get install, apt-get purge
#   prefix    cargo cinstall into a directory of the user's
#
# All three if none is named. With each, gst-inspect-1.0 and a pipeline against the local runtime
# run as an ordinary user; then the plugin is removed, and all files of the system, by name, owner,
# permissions and size, are compared with those from before. lintian must find no error in the
# packages, and the package of debug symbols has to be that of the library. `package` also installs into
# a Debian without any of GStreamer, where what the package depends on has to be enough. Prints what
# took how long. in-debian.sh makes the root directory and
# keeps what is built there: the first time takes up to an hour on two cores, later ones minutes.
# Needs root.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
. pipelines/lib/deps.sh
. pipelines/lib/usage.sh

# cargo-c that builds with the cargo of 2025; Debian 13 packages it, Debian 12's is from 2022.
CARGO_C=0.10.11
CHECKOUT=/home/tester/gst-plugin-reactor
# A home of its own for the command of README.md, which installs into $HOME/.local.
PREFIX_HOME=/home/tester/prefix
PREFIX=$PREFIX_HOME/.local
PICTURE=/tmp/reactor-install.png

# --- in the Debian -----------------------------------------------------------------------------

# What an administrator installs first.
inside_prepare() {
    # shellcheck disable=SC2086 # lists of package names
    need_packages $BUILD_PACKAGES $RUN_PACKAGES dpkg-dev python3-venv
    [[ $(missing_packages "$@") == '' ]] || need_packages "$@"
}

# What is no dependency of the package: programs to look with, and what the server needs.
inside_tools() { need_packages gstreamer1.0-tools python3-venv; }

# cargo-c from crates.io, where Debian's is too old.
inside_cargo_c() {
    [[ -x $HOME/.cargo/bin/cargo-cinstall ]] ||
        cargo install --quiet --locked --debug --root "$HOME/.cargo" "cargo-c@$CARGO_C"
}

# Warnings and less are printed; an error is one.
inside_lintian() {
    need_packages lintian
    lintian --fail-on error --allow-root target/debian/*.deb
}

# inside_play DIRECTORY: runs as the user who installed the plugin below this directory, or for whom
# it was installed.
inside_play() {
    local served port inspected
    [[ $(id -u) != 0 ]] || die "root is no ordinary user"
    inspected=$(gst-inspect-1.0 reactor)
    grep -E 'Filename|Version' <<<"$inspected"
    # /lib is /usr/lib.
    grep -q "Filename  *\(/usr\)\?$1/" <<<"$inspected" || die "the plugin is not the one below $1"
    # Not through a pipe: grep -q ends at what it finds, and then gst-inspect-1.0 by SIGPIPE.
    inspected=$(gst-inspect-1.0 reactorsrc)
    grep -q '"broadcast"' <<<"$inspected" || die "the presets are not found"
    served=$(examples/models/serve.sh start --port 0)
    port=$(sed -n 's/.*port=\([0-9]*\).*/\1/p' <<<"$served")
    # shellcheck disable=SC2064 # the port as it is now
    trap "examples/models/serve.sh stop --port $port >/dev/null" EXIT
    rm -f "$PICTURE"
    timeout 120 gst-launch-1.0 -q reactorsrc local=true "api-url=http://127.0.0.1:$port" ! \
        videoconvert ! pngenc snapshot=true ! filesink "location=$PICTURE"
    [[ $(head -c 4 "$PICTURE" | tail -c 3) == PNG ]] || die "no picture"
    rm "$PICTURE"
    echo "a picture was received and decoded"
}

if [[ ${1:-} == --inside ]]; then
    "inside_$2" "${@:3}"
    exit
fi

# --- outside -----------------------------------------------------------------------------------

library=
if [[ ${1:-} == --library ]]; then
    library=$(realpath -e "${2:?--library needs a file}")
    shift 2
fi
case ${1:-} in
    -h | --help)
        print_usage
        exit
        ;;
    12 | 13) debian=$1 ;;
    *) die "which Debian? 12 or 13 (--help explains)" ;;
esac
shift
(($#)) || set -- user package prefix
directory=${REACTOR_CACHE:-$root/.cache}/debian-$debian
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

as_admin() { tests/in-debian.sh "$debian" "$@"; }
as_user() { tests/in-debian.sh --user "$debian" "$@"; }
# play DIRECTORY [VARIABLE=VALUE...]: with the plugin that is installed there, in a network namespace
# where libwebrtc and libnice find an address.
play() {
    tests/netns.sh tests/in-debian.sh --user "$debian" env "${@:2}" tests/install.sh --inside play "$1"
}

# timed WHAT COMMAND...
timed() {
    local what=$1 begin=$SECONDS
    shift
    "$@"
    echo "== Debian $debian: $what: $((SECONDS - begin)) s"
}

# Prints all files of the Debian with owner, permissions and size, but the checkout, what cargo and
# apt download, logs, the state of apt and dpkg's list, the lent Pythons, and the cache in which
# GStreamer notes what it found.
files() {
    (cd "$directory" && find . -xdev \( -path ".$CHECKOUT" -o -path ./home/tester/.cargo \
        -o -path ./home/tester/.cache/gstreamer-1.0 -o -path ./home/tester/.pyenv \
        -o -path './var/lib/dpkg/status*' \
        -o -path ./var/cache -o -path ./var/log -o -path ./var/lib/apt -o -path ./run -o -path ./proc \
        -o -path ./sys -o -path ./dev \) -prune \
        -o -type d -printf '%p %M %u\n' -o -printf '%p %M %u %s %l\n' | LC_ALL=C sort)
}

# GStreamer makes these directories itself: the first for any program, the second when a program lists presets.
cache_directory() { as_user mkdir -p /home/tester/.cache; }
presets_directory() { as_user mkdir -p /home/tester/.local/share/gstreamer-1.0/presets; }

# no_trace WAY: compares with the list that was made before.
no_trace() {
    files >"$scratch/after"
    diff "$scratch/before" "$scratch/after" || die "$1 left this behind"
    ! as_user gst-inspect-1.0 reactor >/dev/null 2>&1 || die "$1: the plugin is still found"
    echo "== Debian $debian: $1: removed without a trace ($(wc -l <"$scratch/before") files)"
}

way_user() {
    files >"$scratch/before"
    timed "install.sh --user" as_user ./install.sh --user "${given[@]}"
    play /home/tester/.local/share/gstreamer-1.0/plugins
    timed "install.sh --uninstall" as_user ./install.sh --uninstall
    no_trace user
}

way_package() {
    rm -rf "$directory$CHECKOUT/target/debian"
    timed "build-deb.sh" as_user packaging/build-deb.sh "${given[@]}"
    ls -l "$directory$CHECKOUT"/target/debian/
    symbols_match
    timed "lintian" as_admin tests/install.sh --inside lintian
    timed "dependencies" dependencies_suffice
    # What it depends on stays: so that this is there before, too.
    install_package
    purge_package
    presets_directory
    files >"$scratch/before"
    timed "apt-get install" install_package
    dpkg-deb --contents "$directory$CHECKOUT"/target/debian/gstreamer1.0-reactor_*.deb |
        grep libgstreactor.so
    play /lib
    timed "apt-get purge" purge_package
    no_trace package
}

# The package of debug symbols has those of the library in the other package: a debugger finds them by
# the build id.
symbols_match() {
    local packages=$directory$CHECKOUT/target/debian library=$scratch/libgstreactor.so id debug contents
    dpkg-deb --fsys-tarfile "$packages"/gstreamer1.0-reactor_*.deb |
        tar --extract --to-stdout --wildcards '*/libgstreactor.so' >"$library"
    id=$(readelf -n "$library" | sed -n 's/.*Build ID: //p')
    [[ -n $id ]] || die "the packaged library has no build id"
    debug=$(echo "$packages"/gstreamer1.0-reactor-dbgsym_*.deb)
    [[ -e $debug ]] || die "no package of debug symbols"
    [[ $(dpkg-deb --field "$debug" Build-Ids) == "$id" ]] || die "$debug does not name build id $id"
    contents=$(dpkg-deb --contents "$debug")
    [[ $contents == *"/usr/lib/debug/.build-id/${id:0:2}/${id:2}.debug"* ]] ||
        die "$debug has no symbols of build id $id"
}

# In a root of its own, which has nothing of GStreamer before, and is removed afterwards.
dependencies_suffice() {
    local -x REACTOR_CACHE=${REACTOR_CACHE:-$root/.cache}/bare
    local bare=$REACTOR_CACHE/debian-$debian
    tests/in-debian.sh --fresh "$debian" true
    mkdir -p "$bare$CHECKOUT/target/debian"
    cp "$directory$CHECKOUT"/target/debian/*.deb "$bare$CHECKOUT/target/debian/"
    as_admin apt-get update -qq
    install_package
    as_admin tests/install.sh --inside tools
    as_user examples/models/serve.sh setup
    play /lib
    rm -rf --one-file-system "$bare"
}

install_package() {
    as_admin sh -c 'DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
        ./target/debian/gstreamer1.0-reactor_*.deb >/dev/null'
}

purge_package() { as_admin env DEBIAN_FRONTEND=noninteractive apt-get purge -y -qq gstreamer1.0-reactor >/dev/null; }

# Without optimization: what is tested is what is put where, and the other ways build a release.
way_prefix() {
    local command
    if [[ $debian == 13 ]]; then
        as_admin tests/install.sh --inside prepare cargo-c
    else
        as_admin tests/install.sh --inside prepare libssl-dev
        timed "cargo-c" as_user tests/install.sh --inside cargo_c
    fi
    presets_directory
    # Of a run that failed.
    as_user rm -rf "$PREFIX_HOME"
    files >"$scratch/before"
    # shellcheck disable=SC2016 # backticks of Markdown
    command=$(sed -n 's/.*`\(cargo cinstall --[^`]*\)`.*/\1/p' README.md)
    [[ -n $command ]] || die "README.md has no cargo cinstall"
    timed "cargo cinstall" as_user env "PATH=/home/tester/.cargo/bin:$HOME/.cargo/bin:/usr/bin:/bin" \
        CARGO_HOME=/home/tester/.cargo HOME="$PREFIX_HOME" sh -c "$command --debug"
    (cd "$directory$PREFIX" && find . -type f -exec ls -l {} +)
    play "$PREFIX/lib/gstreamer-1.0" "GST_PLUGIN_PATH=$PREFIX/lib/gstreamer-1.0" \
        "GST_PRESET_PATH=$PREFIX/share/gstreamer-1.0/presets"
    # cargo-c has no way back: in a prefix of its own, the prefix is removed.
    as_user rm -r "$PREFIX_HOME"
    no_trace prefix
}

given=()
if [[ -n $library ]]; then
    mkdir -p "$directory$CHECKOUT/target/given"
    cp "$library" "$directory$CHECKOUT/target/given/libgstreactor.so"
    given=(--library target/given/libgstreactor.so)
fi
timed "packages" as_admin tests/install.sh --inside prepare
timed "local runtime" as_user examples/models/serve.sh setup
cache_directory
# Of a run that failed.
purge_package 2>/dev/null || true
rm -f "$directory$PICTURE"
as_user ./install.sh --uninstall >/dev/null 2>&1 || true
for way in "$@"; do
    [[ $(type -t "way_$way") == function ]] || die "no such way: $way (--help explains)"
    "way_$way"
done
