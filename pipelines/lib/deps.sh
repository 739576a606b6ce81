# shellcheck shell=bash
# shellcheck disable=SC2034 # the lists of packages are for the scripts that source this file
# Installs the packages that the pipelines and the tests need. To be sourced:
#
#   . pipelines/lib/deps.sh
#   need_packages $BUILD_PACKAGES $RUN_PACKAGES
#
# On Debian and its derivatives, missing packages are installed with apt-get. On other systems
# the packages are listed, and the script continues if GStreamer's development files are found.

BUILD_PACKAGES="pkg-config gcc libgstreamer1.0-dev libgstreamer-plugins-base1.0-dev
    libgstreamer-plugins-bad1.0-dev"
RUN_PACKAGES="gstreamer1.0-tools gstreamer1.0-plugins-base gstreamer1.0-plugins-good
    gstreamer1.0-plugins-bad gstreamer1.0-plugins-ugly gstreamer1.0-libav gstreamer1.0-nice
    gstreamer1.0-x gstreamer1.0-plugins-base-apps"
TEST_PACKAGES="ffmpeg iproute2 procps curl python3-gi gir1.2-gstreamer-1.0 tmux xvfb
    libfaketime"
GATE_PACKAGES="shellcheck python3-venv"
MINIMUM_GSTREAMER=1.22

# missing_packages PACKAGE...: prints those that are not installed.
missing_packages() {
    local package
    for package in "$@"; do
        # A package that another one provides (pkgconf provides pkg-config) is installed as well.
        dpkg-query -W -f '${db:Status-Status} ${Package} ${Provides}\n' "$package" 2>/dev/null |
            grep -q '^installed ' || printf '%s\n' "$package"
    done
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        echo "not root and no sudo: run this as root: $*" >&2
        return 1
    fi
}

# need_packages PACKAGE...: installs those that are missing.
need_packages() {
    local missing
    if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
        echo "not a Debian system; the equivalents of these packages are needed: $*" >&2
        if pkg-config --atleast-version=$MINIMUM_GSTREAMER gstreamer-1.0 2>/dev/null; then
            return 0
        fi
        echo "and pkg-config finds no GStreamer >= $MINIMUM_GSTREAMER" >&2
        return 1
    fi
    missing=$(missing_packages "$@" | tr '\n' ' ')
    [ -n "$missing" ] || return 0
    echo "installing: $missing" >&2
    # shellcheck disable=SC2086 # a list of package names
    if ! as_root apt-get update -qq >&2 ||
        ! as_root env DEBIAN_FRONTEND=noninteractive \
            apt-get install -y -qq --no-install-recommends $missing >&2; then
        echo "could not install what is needed; as root: apt-get install $missing" >&2
        return 1
    fi
}

# unpack_packages DIRECTORY PACKAGE...: unpacks the files of Debian packages without installing
# the packages. For a server that only the tests start: an installed one would be started at
# every boot.
unpack_packages() {
    local directory=$1
    shift
    [ ! -e "$directory/.complete" ] || return 0
    echo "unpacking into $directory: $*" >&2
    rm -rf "$directory"
    mkdir -p "$directory/packages"
    (
        cd "$directory/packages" || exit 1
        # The package lists may be missing or out of date.
        apt-get download -qq "$@" >&2 ||
            { as_root apt-get update -qq >&2 && apt-get download -qq "$@" >&2; } || exit 1
        for package in *.deb; do
            dpkg-deb -x "$package" .. || exit 1
        done
    ) || return 1
    touch "$directory/.complete"
}

# missing_libraries PACKAGE: prints the libraries that its programs need and that are not
# installed. Their names differ from one Debian to the next.
missing_libraries() {
    apt-cache show "$1" >/dev/null 2>&1 || as_root apt-get update -qq >&2
    # shellcheck disable=SC2046 # a list of package names
    missing_packages $(apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts \
        --no-breaks --no-replaces --no-enhances "$1" | grep '^lib' | sort -u)
}

# is_packaged PACKAGE: whether apt knows a version. apt-cache succeeds for a name without one as well.
is_packaged() { apt-cache show "$1" 2>/dev/null | grep -q '^Package:'; }

# unpack_janus DIRECTORY: unpacks the media server that pipelines/fanout.sh feeds. Debian 13 does not
# have it: there, Debian 12's package is taken, with all of its libraries but those of the compiler.
unpack_janus() {
    local directory=$1 apt=$1.apt libraries
    is_packaged janus || as_root apt-get update -qq >&2
    if is_packaged janus; then
        # shellcheck disable=SC2046 # a list of package names
        unpack_packages "$directory" janus $(missing_libraries janus)
        return
    fi
    mkdir -p "$apt/lists/partial" "$apt/dpkg"
    : >"$apt/status"
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]" \
        "http://deb.debian.org/debian bookworm main" >"$apt/sources.list"
    cat >"$apt/apt.conf" <<END
Dir::Etc::sourcelist "$apt/sources.list";
Dir::Etc::sourceparts "-";
Dir::State::lists "$apt/lists";
Dir::State::status "$apt/status";
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
END
    (
        export APT_CONFIG=$apt/apt.conf DPKG_ADMINDIR=$apt/dpkg
        as_root env APT_CONFIG="$APT_CONFIG" apt-get update -qq >&2 || exit 1
        libraries=$(missing_libraries janus | grep -vx -e libc6 -e 'libgcc-s1\|libstdc++6')
        # shellcheck disable=SC2086 # a list of package names
        unpack_packages "$directory" janus $libraries
    )
}

# create_venv DIRECTORY PYTHON PIP_OPTION...: makes a virtual environment with the packages that
# the options of `pip install` name, wheels only.
create_venv() {
    local directory=$1 python=$2
    shift 2
    [ ! -e "$directory/.complete" ] || return 0
    echo "installing Python packages into $directory (with $python)" >&2
    rm -rf "$directory"
    "$python" -m venv "$directory" &&
        "$directory/bin/python" -m pip install --quiet --disable-pip-version-check \
            --only-binary :all: "$@" >&2 &&
        touch "$directory/.complete"
}
