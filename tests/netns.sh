#!/usr/bin/env bash
# Runs a command in a network namespace of its own: netns.sh COMMAND [ARGUMENT...]
#
# libwebrtc and libnice gather no address on lo, so the namespace has a pair of virtual
# interfaces, one with 10.77.0.1/24; whatever is sent there stays there. Everything still
# running in the namespace ends with the command, which finds its name in
# REACTOR_TEST_NETNS. Where namespaces are not permitted, the
# command runs on the machine's own network.
set -euo pipefail

(($# > 0)) || {
    echo "usage: netns.sh COMMAND [ARGUMENT...]" >&2
    exit 2
}

ns=reactor-$$

outside() {
    echo "netns.sh: $1; running on the machine's own network" >&2
    shift
    exec "$@"
}

[[ $(id -u) == 0 ]] || outside "not root" "$@"
command -v ip >/dev/null || outside "no ip command (package iproute2)" "$@"
ip netns add "$ns" 2>/dev/null || outside "network namespaces are not permitted" "$@"

child=
cleanup() {
    local pids
    trap '' INT TERM HUP
    pids=$(ip netns pids "$ns" 2>/dev/null) || true
    if [[ -n $pids ]]; then
        # shellcheck disable=SC2086 # pids, one word each
        # Servers get a moment to leave; the namespace's processes are all of ours.
        kill -TERM $pids 2>/dev/null || true
        for _ in $(seq 30); do
            pids=$(ip netns pids "$ns" 2>/dev/null) || true
            [[ -n $pids ]] || break
            sleep 0.1
        done
        # shellcheck disable=SC2086
        [[ -z $pids ]] || kill -KILL $pids 2>/dev/null || true
    fi
    ip netns del "$ns" 2>/dev/null || true
}
trap cleanup EXIT

# Namespaces that a killed netns.sh left behind.
for old in $(ip netns list 2>/dev/null | sed -n 's/^reactor-\([0-9]*\).*/\1/p'); do
    if [[ $old != "$$" && ! -d /proc/$old && -z $(ip netns pids "reactor-$old" 2>/dev/null) ]]; then
        ip netns del "reactor-$old" 2>/dev/null || true
    fi
done

inside() { ip netns exec "$ns" "$@"; }
if ! {
    # shellcheck disable=SC2016 # the variable of the inner shell
    inside sh -c 'for i in all default; do
        echo 1 >/proc/sys/net/ipv6/conf/$i/disable_ipv6; done 2>/dev/null || true'
    inside ip link set lo up
    inside ip link add reactor0 type veth peer name reactor1
    inside ip address add 10.77.0.1/24 dev reactor0
    inside ip link set reactor0 up
    inside ip link set reactor1 up
}; then
    cleanup
    trap - EXIT INT TERM HUP
    outside "virtual interfaces are not permitted" "$@"
fi

forward() { [[ -z $child ]] || kill "-$1" "$child" 2>/dev/null || true; }
trap 'forward TERM' TERM
trap 'forward HUP' HUP
if (: </dev/tty) 2>/dev/null; then
    trap : INT # the terminal sends it to the command as well
else
    trap 'forward INT' INT
fi

# A background command of a script ignores SIGINT unless told otherwise.
ip netns exec "$ns" env --default-signal=INT,QUIT REACTOR_TEST_NETNS="$ns" "$@" <&0 &
child=$!
status=0
wait "$child" || status=$?
# wait also returns when a signal was handled; the command may still run.
while kill -0 "$child" 2>/dev/null; do
    status=0
    wait "$child" || status=$?
done
exit "$status"
