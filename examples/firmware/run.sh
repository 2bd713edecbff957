#!/usr/bin/env bash
# Builds the images, runs them in QEMU, compares what they print with what the host says, and measures them:
# examples/firmware/run.sh [cortex-m|riscv ...]. Without arguments: both machines.
#
# Ends with a failure if an image prints anything else than the host says, if it has code for panics, or if its DF11 decoder
# takes more than the limits below.
#
# Needs QEMU, llvm-nm and llvm-size, and Debian's rustc with the sources of core (`rustc-web`, `rust-web-src`), since core has
# to be built for the targets; the linker is the one that comes with the Rust toolchain. What is missing is installed with
# apt-get, as root; where that cannot be done, the script says "not run" and ends with success.
set -euo pipefail
cd "$(dirname "$0")"

# The limits are those of the profile in Cargo.toml.
unset CARGO_PROFILE_RELEASE_LTO CARGO_PROFILE_RELEASE_CODEGEN_UNITS

# Of the DF11 decoder, in bytes: code; tables and constants, wherever they are; stack.
max_code=$((12 << 10))
max_tables=$((6 << 10))
max_stack=$((1 << 10))

. ../../tests/debian.sh

[ $# -gt 0 ] || set -- cortex-m riscv
packages=(rustc-web rust-web-src llvm)
for machine in "$@"; do
    case $machine in
        cortex-m) packages+=(qemu-system-arm) ;;
        riscv) packages+=(qemu-system-misc) ;;
        *)
            echo "there is no machine $machine: cortex-m or riscv" >&2
            exit 2
            ;;
    esac
done

need_packages "${packages[@]}"

lld=$(rustc --print sysroot)/lib/rustlib/$(rustc -vV | sed -n 's/^host: //p')/bin/rust-lld
[ -x "$lld" ] || not_run "the Rust toolchain has no rust-lld"

# Debian's compiler takes the flags of a nightly one, and cargo the option that builds core.
export RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1
export CARGO_TARGET_THUMBV7EM_NONE_EABIHF_LINKER=$lld CARGO_TARGET_RISCV32IMAC_UNKNOWN_NONE_ELF_LINKER=$lld
out="$(realpath -m "${CARGO_TARGET_DIR:-target}")/firmware"
export CARGO_TARGET_DIR=$out
mkdir -p "$out"

fail() {
    echo "failed: $*" >&2
    exit 1
}

# section NAME IMAGE: its bytes.
section() { llvm-size -A "$2" | awk -v name="$1" '$1 == name { bytes = $2 } END { print bytes + 0 }'; }

# figure CODEC NAME OUTPUT: what the image measured.
figure() { sed -n "s/^measured $1 .*\b$2=\([0-9]*\).*/\1/p" "$3"; }

echo "== the host: checksums of the original weights, and errors"
cargo run --quiet --package firmware-host -- df11 rans dictionary | tee "$out/expected"

table='| machine | codec | code | constants | tables, flash | tables, RAM | buffer | stack | instructions a weight | a row of 384 |
| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |'
for machine in "$@"; do
    case $machine in
        cortex-m)
            target=thumbv7em-none-eabihf name="Cortex-M4F"
            qemu=(qemu-system-arm -machine mps2-an386)
            ;;
        riscv)
            target=riscv32imac-unknown-none-elf name="RV32IMAC"
            qemu=(qemu-system-riscv32 -machine virt -bios none)
            ;;
    esac
    printf '\n== %s, in %s\n' "$target" "$("${qemu[0]}" --version | head -n 1)"
    # Without a codec, with each, and with all.
    for features in "" units rans dictionary units,rans,dictionary; do
        cargo build --quiet --release -Zbuild-std=core --target "$target" --no-default-features --features "$features"
        image=$out/$machine-${features:-none}
        cp "$out/$target/release/firmware" "$image"
        # Symbols there must be, or a stripped image would pass.
        llvm-nm --demangle "$image" > "$image.symbols"
        grep -q ' start$' "$image.symbols" || fail "$image has no symbols to look at"
        if grep -iE 'panicking|rust_begin_unwind|core::.*_fail' "$image.symbols"; then
            fail "$image has code for panics: the functions above"
        fi
    done

    printed=$out/$machine.txt
    # A bounded run; one instruction is one nanosecond of the machine's clocks.
    timeout 120 "${qemu[@]}" -display none -monitor none -serial none -semihosting-config enable=on,target=native \
        -icount shift=0 -kernel "$out/$machine-units,rans,dictionary" > "$printed" 2>&1 || fail "the image ended with status $?: $(cat "$printed")"
    cat "$printed"
    diff "$out/expected" <(grep -v '^measured ' "$printed") || fail "$machine printed something else than the host"

    # Whether what measures can be trusted: a loop of 100,000 turns of two instructions, and the check value of CRC-32.
    known=$(figure loop instructions "$printed")
    [ $((known > 198000 && known < 202000)) = 1 ] || fail "200000 instructions were counted as $known"
    grep -q '^measured check checksum=cbf43926$' "$printed" || fail "the image computes another CRC-32"

    for codec in df11 rans dictionary; do
        image=$out/$machine-${codec/df11/units}
        code=$(($(section .text "$image") - $(section .text "$out/$machine-none")))
        constants=$(($(section .rodata "$image") - $(section .rodata "$out/$machine-none")))
        stack=$(figure $codec stack "$printed")
        flash=$(figure $codec table_flash "$printed") ram=$(figure $codec table_ram "$printed")
        each=$(awk -v n="$(figure $codec instructions "$printed")" -v w="$(figure $codec weights "$printed")" \
            'BEGIN { printf "%.1f", n / w }')
        table+="
| $name | $codec | $code | $constants | $flash | $ram | $(figure $codec buffer "$printed") | $stack | $each | $(figure $codec row_instructions "$printed") |"
        if [ $codec = df11 ]; then
            [ "$code" -le $max_code ] || fail "the DF11 decoder has $code bytes of code, more than $max_code"
            tables=$((constants + flash + ram))
            [ "$tables" -le $max_tables ] || fail "the DF11 decoder has $tables bytes of tables and constants, more than $max_tables"
            [ "$stack" -gt 0 ] && [ "$stack" -le $max_stack ] || fail "the DF11 decoder takes $stack bytes of stack, of at most $max_stack"
        fi
    done
done

printf '\n%s\n\nno code for panics; limits of DF11 kept: %s bytes of code, %s of tables and constants, %s of stack\n' \
    "$table" $max_code $max_tables $max_stack
