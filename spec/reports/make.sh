#!/usr/bin/env bash
# Judges our own decoder and encoder, and writes the report and the badge beside this script:
# spec/reports/make.sh. With --check, fails unless they are what is there already, but for the date.
# Builds the command where it is not built.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../.."
target=$(cargo metadata --format-version 1 --no-deps |
    python3 -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')
cargo build --quiet --release -p df11-cli
export PATH=$target/release:$PATH
made=$(mktemp -d)
trap 'rm -rf "$made"' EXIT
df11 judge run --mode lenient --report "$made/df11.json" --badge "$made/df11.svg" df11 judge serve
if [ "${1-}" != --check ]; then
    cp "$made/df11.json" "$made/df11.svg" "$here"
    exit
fi
undated() { grep -v '^  "date": ' "$1"; }
if ! diff <(undated "$made/df11.json") <(undated "$here/df11.json") || ! diff "$made/df11.svg" "$here/df11.svg"; then
    echo "spec/reports is out of date: run spec/reports/make.sh" >&2
    exit 1
fi
