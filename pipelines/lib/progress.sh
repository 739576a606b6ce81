# shellcheck shell=bash
# Says how long the steps of a script take. To be sourced.

bar=''

# progress NAME SECONDS COMMAND...: runs a command in this shell, and prints how long it took.
# On a terminal a bar shows meanwhile how much of SECONDS has passed; 0 for a command that shows
# its progress itself.
progress() {
    local name=$1 expected=$2 begin=$SECONDS status=0
    shift 2
    if ((expected)) && [[ -t 2 ]]; then
        draw_bar "$name" "$expected" &
        bar=$!
    fi
    "$@" || status=$?
    end_bar
    printf '%s: %d s%s\n' "$name" $((SECONDS - begin)) \
        "$( ((status == 0)) || echo ', failed')" >&2
    return "$status"
}

# draw_bar NAME SECONDS: until it is ended, or the script is. A command that takes longer than it
# usually does leaves the bar almost full.
draw_bar() {
    local width=30 begin=$SECONDS passed filled full=############################## rest
    rest=${full//#/.}
    while kill -0 $$ 2>/dev/null; do
        passed=$((SECONDS - begin))
        filled=$((passed * width / $2))
        ((filled < width)) || filled=$((width - 1))
        printf '\r%s [%s%s] %d s ' "$1" "${full:0:filled}" "${rest:filled}" "$passed" >&2
        sleep 0.5
    done
}

end_bar() {
    [[ -n $bar ]] || return 0
    kill "$bar" 2>/dev/null || true
    wait "$bar" 2>/dev/null || true
    bar=''
    printf '\r\033[K' >&2
}
