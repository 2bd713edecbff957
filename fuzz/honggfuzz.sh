#!/usr/bin/env bash
# Builds a target for honggfuzz and fuzzes it from its seeds:
# fuzz/honggfuzz.sh TARGET [ARGUMENTS OF honggfuzz].
# Needs honggfuzz built from its sources, whose folder HONGGFUZZ names (its libhfuzz/libhfuzz.a and
# libhfcommon/libhfcommon.a take the place of libFuzzer), and a nightly toolchain.
set -euo pipefail
cd "$(dirname "$0")"
target=${1:?names the target}
shift
: "${HONGGFUZZ:?names the folder of honggfuzz}"
export CARGO_TARGET_DIR=target/honggfuzz CUSTOM_LIBFUZZER_PATH=$HONGGFUZZ/libhfuzz/libhfuzz.a
export RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=3
    -Cllvm-args=-sanitizer-coverage-trace-pc-guard -Cllvm-args=-sanitizer-coverage-trace-compares
    -Clink-arg=$HONGGFUZZ/libhfcommon/libhfcommon.a -Ccodegen-units=1"
cargo +nightly build --quiet --release --target "$(rustc -vV | sed -n 's/^host: //p')" --bin "$target"
read -r _ seeds dictionary < <(grep "^$target " targets)
[ "$seeds" != - ] || { seeds=../work/empty; mkdir -p work/empty; printf 0 > work/empty/0; }
options=()
[ "$dictionary" = - ] || options=(-w "dictionaries/$dictionary")
mkdir -p work/honggfuzz
exec "$HONGGFUZZ/honggfuzz" -P -i "seeds/$seeds" -o "work/honggfuzz/$target" \
    ${options[@]+"${options[@]}"} "$@" -- target/honggfuzz/*/release/"$target"
