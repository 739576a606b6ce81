#!/usr/bin/env bash
# Writes the licence texts of the crates that the plugin is linked with to
# gst-plugin-reactor/third-party-licenses.txt, which is installed with it. To be run when a
# dependency has changed; a test says so.
#
# cargo-about collects them; it is built from crates.io into $REACTOR_CACHE where it is missing
# (3 min on two cores, once).
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
version=0.9.3
tools=${REACTOR_CACHE:-$root/.cache}/cargo-about-$version
if [[ ! -x $tools/bin/cargo-about ]]; then
    cargo install --quiet --locked --features cli --root "$tools" "cargo-about@$version" >&2
fi
exec "$tools/bin/cargo-about" generate --locked --fail --config packaging/about.toml \
    --manifest-path gst-plugin-reactor/Cargo.toml \
    --output-file gst-plugin-reactor/third-party-licenses.txt packaging/licenses.hbs
