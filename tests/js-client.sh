#!/usr/bin/env bash
# Builds the platform's JavaScript client for the tests with a browser: tests/js-client.sh
#
# Installs Chromium, Node.js and the client's npm package where they are missing, and prints the path
# of the bundle, for REACTOR_JS_CLIENT.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$root/pipelines/lib/deps.sh"

need_packages chromium >&2
# Debian's, unless there is another.
command -v npm >/dev/null || need_packages npm >&2
directory=${REACTOR_CACHE:-$root/.cache}/js-client
mkdir -p "$directory"
cp "$root"/tests/programs/js_client/{package.json,client.mjs} "$directory"
cd "$directory"
npm install --no-audit --no-fund --silent >&2
npm run --silent build >&2
echo "$directory/bundle.js"
