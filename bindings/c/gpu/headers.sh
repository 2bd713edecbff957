#!/usr/bin/env bash
# Makes include/df11_gpu.h of src/*.rs, with cbindgen: bindings/c/gpu/headers.sh [--check]. With --check, fails if it would
# change.
set -euo pipefail
cd "$(dirname "$0")"
export PATH="$HOME/.cargo/bin:$PATH"
version=0.29.4
cbindgen --version 2> /dev/null | grep -q " $version\$" || cargo install --quiet --locked --debug --version "$version" cbindgen

# What Rust calls a section of safety is one more sentence in C.
made=$(cbindgen --quiet --config cbindgen.toml --crate df11-gpu-capi . | sed -e '/^\/\/ # Safety$/{N;d}')
if [ "${1-}" = --check ]; then
    diff -u include/df11_gpu.h <(echo "$made")
    echo "the header is what the sources say"
else
    mkdir -p include
    echo "$made" > include/df11_gpu.h
fi
