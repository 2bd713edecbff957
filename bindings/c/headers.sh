#!/usr/bin/env bash
# Makes include/*.h of src/*.rs, with cbindgen: bindings/c/headers.sh [--check]. With --check, fails if they would change.
set -euo pipefail
cd "$(dirname "$0")"
export PATH="$HOME/.cargo/bin:$PATH"
version=0.29.4
cbindgen --version 2> /dev/null | grep -q " $version\$" || cargo install --quiet --locked --debug --version "$version" cbindgen

make_header() { # NAME ARGUMENTS...
    local to="$out/$1"
    shift
    # What Rust calls a section of safety is one more sentence in C.
    cbindgen --quiet "$@" | sed -e '/^\/\/ # Safety$/{N;d}' > "$to"
}

out=include
if [ "${1-}" = --check ]; then
    out=$(mktemp -d)
    trap 'rm -rf "$out"' EXIT
fi
mkdir -p "$out"
make_header df11.h --config cbindgen.toml --crate df11-capi .
make_header df11_files.h --config cbindgen_files.toml src/files.rs
if [ "$out" != include ]; then
    diff -u include/df11.h "$out/df11.h" && diff -u include/df11_files.h "$out/df11_files.h"
    echo "the headers are what the sources say"
fi
