# shellcheck shell=bash
# What is installed beside the library. To be sourced, with $root set.

# shared_files PRESETS DOCUMENTS: prints `SOURCE<tab>DESTINATION` for each preset and document.
# PRESETS is where GStreamer looks for presets, DOCUMENTS the package's own directory.
shared_files() {
    local file
    # shellcheck disable=SC2154 # the script sets root
    for file in "$root"/gst-plugin-reactor/presets/*.prs; do
        printf '%s\t%s\n' "$file" "$1/${file##*/}"
    done
    for file in README.md CHANGELOG.md LICENSE gst-plugin-reactor/third-party-licenses.txt; do
        printf '%s\t%s\n' "$root/$file" "$2/${file##*/}"
    done
    # The README's links lead there.
    (cd "$root" && find docs -name '*.md' -o -name '*.jpg') | LC_ALL=C sort |
        while read -r file; do
            printf '%s\t%s\n' "$root/$file" "$2/$file"
        done
}
