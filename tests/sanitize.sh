#!/usr/bin/env bash
# Runs the suites of the codec where mistakes in unsafe code, or in one level of instructions, would show:
#
# * under AddressSanitizer, on every level: reads and writes outside of what was allocated. Std is not instrumented, which
#   takes nothing away here: its slices check their bounds, and the codec's unsafe code is the codec's own.
# * the lanes and the writer under Miri, on the scalar level: undefined behaviour of any kind, at a thousandth of the speed.
#   Other levels are made of instructions that Miri does not know.
# * built for a lower level than the machine has, as a machine without the better ones would run them.
#
# Needs a nightly toolchain; Miri only where `rustup component add --toolchain nightly miri rust-src` has been run.
set -euo pipefail
cd "$(dirname "$0")/.."
root=${CARGO_TARGET_DIR:-target}
host=$(rustc --version --verbose | sed -n 's/^host: //p')

step() { printf '\n== %s\n' "$*"; }

# Documentation tests are left out: they are linked by rustdoc, without the sanitizer's runtime.
step "AddressSanitizer"
asan() {
    RUSTFLAGS=-Zsanitizer=address CARGO_TARGET_DIR="$root/sanitize" PROPTEST_CASES="${PROPTEST_CASES:-32}" \
        cargo +nightly test --quiet --target "$host" "$@"
}
asan -p df11-simd -p df11-core --lib
asan -p df11-tests --test laws

step "Miri"
if cargo +nightly miri --version > /dev/null 2>&1 && [ -d "$(rustc +nightly --print sysroot)/lib/rustlib/src" ]; then
    # The tests of the table are left out: no unsafe code, and minutes.
    CARGO_TARGET_DIR="$root" cargo +nightly miri test --quiet -p df11-simd --lib -- lanes writer
else
    echo "not run: the nightly toolchain lacks miri or rust-src"
fi

levels=(scalar)
if [ "${host%%-*}" = x86_64 ]; then levels+=(avx2); fi
for level in "${levels[@]}"; do
    step "no better level than $level"
    RUSTFLAGS="--cfg df11_level=\"$level\"" CARGO_TARGET_DIR="$root/level_$level" \
        cargo test --quiet -p df11-simd -p df11-core --lib
    RUSTFLAGS="--cfg df11_level=\"$level\"" CARGO_TARGET_DIR="$root/level_$level" \
        cargo test --quiet -p df11-tests --test laws --test conformance
done
