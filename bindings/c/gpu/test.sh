#!/usr/bin/env bash
# Tests libdf11gpu from C: bindings/c/gpu/test.sh
#
# * The header is what the sources say.
# * tests/gpu.c, as C99 and as C++17, plainly and under the sanitizers of addresses and of undefined
#   behaviour, over emulated devices.
# * The shared library exports no names but ours and those of the driver's functions.
set -euo pipefail
cd "$(dirname "$0")/../../.."
target=$(cargo metadata --format-version 1 --no-deps |
    python3 -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')

bindings/c/gpu/headers.sh --check
for compiler in gcc g++; do
    for sanitize in "" "-fsanitize=address,undefined -fno-sanitize-recover=all -g"; do
        echo "$compiler $sanitize"
        CC=$compiler CFLAGS=$sanitize cargo test --quiet -p df11-gpu-capi --test c
    done
done

cargo build --quiet -p df11-gpu-capi
if nm -D --defined-only "$target/debug/libdf11gpu.so" | grep -v -E ' T (df11_gpu_|cu[A-Z])'; then
    echo "the shared library exports names that are not ours" >&2
    exit 1
fi
echo "libdf11gpu: all passed"
