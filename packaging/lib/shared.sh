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
    printf '%s\t%s\n' "$root/gst-plugin-reactor/third-party-licenses.txt" "$2/third-party-licenses.txt"
    # With all that their links lead to. Examples are to be read; they run in a checkout.
    (cd "$root" && printf '%s\n' ./*.md LICENSE tests/README.md &&
        find docs -name '*.md' -o -name '*.jpg' &&
        find examples -name '__pycache__' -prune -o -type f -print) | LC_ALL=C sort |
        while read -r file; do
            file=${file#./}
            printf '%s\t%s\n' "$root/$file" "$2/$file"
        done
}
