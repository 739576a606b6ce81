# shellcheck shell=bash
# What a script says to its user. To be sourced.

# print_usage: the comment at the head of the script, up to its `set -`.
print_usage() { sed -n '2,/^set -/{/^#/s/^# \{0,1\}//p}' "$0"; }

die() {
    echo "${0##*/}: $*" >&2
    exit 2
}
