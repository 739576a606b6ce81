#!/usr/bin/env bash
# Runs a command in a fresh Debian: in-debian.sh [--user] [--fresh] 12|13|14 COMMAND [ARGUMENT...]
#
#   in-debian.sh 13 tests/run.sh --quick
#   in-debian.sh --user 12 ./install.sh --user
#
#   --user    as an ordinary user of that system, not as root
#   --fresh   in a new root without what earlier commands installed
#
# The first call makes the root with mmdebstrap, a minimal system from Debian's archive (2 min);
# later ones use it again. The command runs in a copy of the checkout (what git knows of it, with
# changes that are not committed). What it builds and installs stays in the root, which is
# $REACTOR_CACHE/debian-12, -13 or -14. 14 is testing (forky), for a look at a newer GStreamer (1.28).
#
# The machine's Rust toolchain is lent to the root, where Debian's is too old. Its Pythons in ~/.pyenv
# are lent to Debian 12 only, which has none that the local runtime runs on; in the others, the scripts
# install Debian's. Needs root.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
. pipelines/lib/deps.sh
. pipelines/lib/usage.sh
cache=${REACTOR_CACHE:-$root/.cache}

account=root fresh=
while (($#)); do
    case $1 in
        --user) account=tester ;;
        --fresh) fresh=1 ;;
        -h | --help)
            print_usage
            exit
            ;;
        *) break ;;
    esac
    shift
done
case ${1:-} in
    12) suite=bookworm ;;
    13) suite=trixie ;;
    14) suite=forky ;;
    *) die "which Debian? 12, 13 or 14 (--help explains)" ;;
esac
debian=$1 directory=$cache/debian-$1
shift
(($#)) || die "no command (--help explains)"
[[ $(id -u) == 0 ]] || die "only root can enter another root directory"

# What a minimal system with a graphical desktop or a compiler would have anyway.
packages="ca-certificates git sudo gcc libc6-dev"
lent=".rustup .cargo/bin"
if [[ $debian == 12 ]]; then
    # What the lent Pythons are linked with.
    packages+=" libssl3 libffi8 libsqlite3-0 libbz2-1.0 liblzma5 libreadline8 libncursesw6 zlib1g"
    lent+=" .pyenv"
fi
# The index of testing is valid for a week, which a mirror may be behind.
options=()
[[ $debian != 14 ]] || options=(--aptopt='Acquire::Check-Valid-Until "false"')

make_root() {
    need_packages mmdebstrap debian-archive-keyring
    rm -rf --one-file-system "$directory"
    mkdir -p "$cache"
    echo "in-debian.sh: making $suite in $directory" >&2
    # shellcheck disable=SC2086 # a list of package names
    mmdebstrap --quiet --variant=minbase "${options[@]}" \
        --include="$(echo $packages | tr ' ' ,)" "$suite" "$directory" >&2
    chroot "$directory" useradd --create-home --shell /bin/bash tester
    touch "$directory/.complete"
}
[[ -z $fresh && -e $directory/.complete ]] || make_root

# What a package manager or a registry's client needs to know of the network it is on.
for file in /etc/resolv.conf /etc/hosts /etc/ssl/certs/ca-certificates.crt; do
    [[ ! -e $file ]] || cp -L "$file" "$directory$file"
done

# What git knows of the checkout, as it is now; the build directory of an earlier command stays.
checkout=$directory/home/tester/gst-plugin-reactor
mkdir -p "$checkout"
find "$checkout" -mindepth 1 -maxdepth 1 ! -name target ! -name .cache -exec rm -rf {} +
# shellcheck disable=SC2016 # the variable of the inner shell
git ls-files -z --cached --others --exclude-standard |
    xargs -0 sh -c 'for f; do [ ! -e "$f" ] || printf "%s\0" "$f"; done' sh |
    tar --create --null --files-from=- | tar --extract --directory "$checkout"
chroot "$directory" chown -R tester:tester /home/tester

# Mounts of its own, which end with the command.
# shellcheck disable=SC2016 # the variables of the inner shell
exec unshare --mount --pid --fork --kill-child bash -euc '
    directory=$1 account=$2 home=$3 lent=$4
    shift 4
    mount --make-rprivate /
    mount --bind "$directory" "$directory"
    mount --rbind /dev "$directory/dev"
    mount -t proc proc "$directory/proc"
    mount -t sysfs sysfs "$directory/sys" 2>/dev/null || mount --rbind /sys "$directory/sys"
    mount -t tmpfs tmpfs "$directory/run"
    # At their own paths: a Python of pyenv finds its library by a path that was compiled in.
    mkdir -p "$directory$home"
    chmod go+x "$directory$home"
    for path in $lent; do
        [[ -e $home/$path ]] || continue
        mkdir -p "$directory$home/$path"
        mount --bind -o ro "$home/$path" "$directory$home/$path"
        chmod go+x "$directory$home/${path%/*}" 2>/dev/null || true
    done
    if [[ $account != root && $lent == *.pyenv* ]]; then
        ln -sfn "$home/.pyenv" "$directory/home/$account/.pyenv"
    fi
    exec chroot "$directory" setpriv --reuid "$account" --regid "$account" --init-groups \
        env -i HOME="$([[ $account == root ]] && echo /root || echo "/home/$account")" \
        PATH="$home/.cargo/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" \
        LANG=C.UTF-8 PIP_CERT=/etc/ssl/certs/ca-certificates.crt TERM="${TERM:-dumb}" RUSTUP_HOME="$home/.rustup" \
        sh -c '\''cd /home/tester/gst-plugin-reactor && exec "$@"'\'' sh "$@"
' in-debian "$directory" "$account" "$HOME" "$lent" "$@"
