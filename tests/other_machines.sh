#!/usr/bin/env bash
# Runs the suites of the codec for machines that this one is not, under emulation: tests/other_machines.sh [--quick] [TARGET ...].
# Without arguments: 64-bit Arm, whose NEON level no x86-64 machine can run; s390x, which is big-endian; 32-bit Arm.
#
# Needs Debian's cross compilers, qemu, and its rustc with the sources of std (`rustc-web`, `rust-web-src`), since std has
# to be built for the target. What is missing is installed with apt-get, as root; where that cannot be done, the script
# says "not run" and ends with success: these runs are in addition to those that every machine can do.
#
# With --quick, only unit tests and the vectors run: most of the time goes into building the suites.
#
# Laws run with few cases, since emulation is slow: the same cases run in full elsewhere, only on other levels.
set -euo pipefail
cd "$(dirname "$0")/.."

. tests/debian.sh

quick=false
if [ "${1-}" = --quick ]; then
    quick=true
    shift
fi
[ $# -gt 0 ] || set -- aarch64-unknown-linux-gnu s390x-unknown-linux-gnu armv7-unknown-linux-gnueabihf
packages=(rustc-web rust-web-src qemu-user)
for target in "$@"; do
    case $target in
        aarch64-unknown-linux-gnu) packages+=(gcc-aarch64-linux-gnu libc6-dev-arm64-cross) ;;
        s390x-unknown-linux-gnu) packages+=(gcc-s390x-linux-gnu libc6-dev-s390x-cross) ;;
        armv7-unknown-linux-gnueabihf) packages+=(gcc-arm-linux-gnueabihf libc6-dev-armhf-cross) ;;
        *)
            echo "no cross compiler is known for $target" >&2
            exit 2
            ;;
    esac
done

need_packages "${packages[@]}"

# Debian's compiler takes the flags of a nightly one, and cargo the option that builds std.
export RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}/other_machines"
export PROPTEST_CASES=${PROPTEST_CASES:-6}
# Most of the time goes into building; what is emulated is slow anyway.
export CARGO_PROFILE_DEV_OPT_LEVEL=1 CARGO_PROFILE_DEV_DEBUG=0 CARGO_INCREMENTAL=0
for target in "$@"; do
    machine=${target%%-*}
    machine=${machine/armv7/arm}
    system=$machine-linux-${target##*-}
    name=${target//-/_}
    export "CARGO_TARGET_${name^^}_LINKER=$system-gcc"
    export "CARGO_TARGET_${name^^}_RUNNER=qemu-$machine -L /usr/$system"
    printf '\n== %s, under %s\n' "$target" "$("qemu-$machine" --version | head -n 1)"
    run() { cargo test --quiet -Zbuild-std=std,panic_abort,test --target "$target" "$@"; }
    run -p df11-simd -p df11 --lib --features df11/std
    $quick || run -p df11-tests --test laws --test fixtures --test rans --test frames --test dietgpu
    # The vectors, on every level that this target has. The judge's own tests start programs, which is no matter of levels.
    run -p df11-tests --test conformance -- keeps_
    echo "passed on $target"
done
