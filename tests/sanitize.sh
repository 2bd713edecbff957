#!/usr/bin/env bash
# Runs the suites of the codec where mistakes in unsafe code, or in one level of instructions, would show:
#
# * under AddressSanitizer, on every level: reads and writes outside of what was allocated. Std is not instrumented, which
#   takes nothing away here: its slices check their bounds, and the codec's unsafe code is the codec's own.
# * the lanes and the writer under Miri, on the scalar level: undefined behaviour of any kind, at a thousandth of the speed.
#   Other levels are made of instructions that Miri does not know. It interprets code for other machines as well: the second
#   run is for one that is big-endian.
# * the codec's own tests, built for a lower level than the machine has. (The laws run on every level in any build.)
#
# Needs a nightly toolchain. Miri runs if asked for (tests/sanitize.sh --miri), and only where `rustup component add --toolchain nightly miri rust-src` has been run.
set -euo pipefail
cd "$(dirname "$0")/.."
root=${CARGO_TARGET_DIR:-target}
host=$(rustc --version --verbose | sed -n 's/^host: //p')

step() { printf '\n== %s\n' "$*"; }

# Documentation tests are left out: they are linked by rustdoc, without the sanitizer's runtime.
step "AddressSanitizer"
RUSTFLAGS=-Zsanitizer=address CARGO_TARGET_DIR="$root/sanitize" PROPTEST_CASES="${PROPTEST_CASES:-6}" \
    cargo +nightly test --quiet --target "$host" -p df11-simd -p df11 -p df11-tests \
    --lib --test laws --test rans --test frames --test dietgpu

step "Miri"
if [ "${1-}" != --miri ]; then
    echo "not run: takes minutes; tests/sanitize.sh --miri runs it"
elif cargo +nightly miri --version > /dev/null 2>&1 && [ -d "$(rustc +nightly --print sysroot)/lib/rustlib/src" ]; then
    # The tests of the table are left out: no unsafe code, and minutes. So is the writer on x86-64, since Miri knows no fence
    # of that machine.
    miri() { CARGO_TARGET_DIR="$root" cargo +nightly miri test --quiet -p df11-simd --lib "$@"; }
    miri -- lanes
    miri --target s390x-unknown-linux-gnu -- lanes writer
else
    echo "not run: the nightly toolchain lacks miri or rust-src"
fi

levels=(scalar)
if [ "${host%%-*}" = x86_64 ]; then levels+=(avx2); fi
for level in "${levels[@]}"; do
    step "no better level than $level"
    RUSTFLAGS="--cfg df11_level=\"$level\"" CARGO_TARGET_DIR="$root/level_$level" \
        cargo test --quiet -p df11-simd -p df11 --lib
done
