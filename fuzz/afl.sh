#!/usr/bin/env bash
# Builds a target for AFL++ and fuzzes it from its seeds: fuzz/afl.sh TARGET [ARGUMENTS OF afl-fuzz].
# Needs AFL++ (Debian: afl++), whose driver takes the place of libFuzzer, and a nightly toolchain.
set -euo pipefail
cd "$(dirname "$0")"
target=${1:?names the target}
shift
root=$(dirname "$(readlink -f "$(command -v afl-fuzz)")")/..
find_one() { find "$root/lib" /usr/lib /usr/local/lib -name "$1" 2> /dev/null | head -n 1; }
driver=$(find_one libAFLDriver.a)
runtime=$(find_one afl-compiler-rt.o)
[ -n "$driver" ] && [ -n "$runtime" ] || { echo "AFL++ has no libAFLDriver.a here" >&2; exit 1; }
export CARGO_TARGET_DIR=target/afl CUSTOM_LIBFUZZER_PATH=$driver
export RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=3
    -Cllvm-args=-sanitizer-coverage-trace-pc-guard -Clink-arg=$runtime -Ccodegen-units=1"
cargo +nightly build --quiet --release --target "$(rustc -vV | sed -n 's/^host: //p')" --bin "$target"
read -r _ seeds dictionary < <(grep "^$target " targets)
[ "$seeds" != - ] || { seeds=../work/empty; mkdir -p work/empty; printf 0 > work/empty/0; }
options=()
[ "$dictionary" = - ] || options=(-x "dictionaries/$dictionary")
mkdir -p work/afl
exec afl-fuzz -i "seeds/$seeds" -o "work/afl/$target" ${options[@]+"${options[@]}"} "$@" \
    -- target/afl/*/release/"$target"
