#!/usr/bin/env bash
# Tests libdf11 from C: bindings/c/test.sh [--install]
#
# * The headers are what the sources say.
# * tests/library.c and the examples, as C99 and as C++17, with gcc and clang, warnings denied; plainly, and under the sanitizers
#   of addresses and of undefined behaviour; linked statically and dynamically.
# * The judge on every vector, with examples/decode.c as a third party's decoder.
# * What `cargo cinstall` installs: headers, both libraries, the soname, no names but ours, and a program built by pkg-config.
#
# Installs what is missing: clang by apt-get, as root, cbindgen by cargo, and, if told so, cargo-c, without which the last is not run.
set -euo pipefail
cd "$(dirname "$0")/../.."
export PATH="$HOME/.cargo/bin:$PATH"
target=$(cargo metadata --format-version 1 --no-deps | python3 -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')
here=bindings/c
out=$target/capi
include=(-I "$here/include")
libraries=(-lpthread -ldl -lm)
warnings=(-Wall -Wextra -Wpedantic -Werror)

step() { printf '\n-- %s\n' "$*"; }

step "headers"
$here/headers.sh --check

. tests/debian.sh
need_packages gcc g++ clang libclang-rt-14-dev

step "the library, and a checkpoint of each codec to read"
cargo build --quiet --release -p df11-capi
cargo build --quiet --release -p df11-cli
mkdir -p "$out"
for codec in df11 rans; do
    rm -rf "$out/$codec"
    "$target/release/df11" compress --quiet cli/demo -o "$out/$codec" --codec $codec
done

tensor=encoder.layer.1.attention.self.query.weight

step "C99 and C++17, gcc and clang, plainly and sanitized"
export ASAN_OPTIONS=detect_leaks=1 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
for compiler in gcc g++ clang clang++; do
    case $compiler in
        *++) language=(-std=c++17 -x c++) ;;
        *) language=(-std=c99) ;;
    esac
    for sanitize in "" "-fsanitize=address,undefined -fno-sanitize-recover=all -g"; do
        for source in tests/library examples/checksum examples/decode; do
            # shellcheck disable=SC2086
            $compiler "${language[@]}" "${warnings[@]}" -O1 $sanitize "${include[@]}" "$here/$source.c" -x none \
                "$target/release/libdf11_capi.a" "${libraries[@]}" -o "$out/$(basename $source)"
        done
        for codec in df11 rans; do
            printf '%-8s %-32s %-5s ' "$compiler" "${sanitize%% -fno*}" $codec
            "$out/library" "$out/$codec" cli/demo
        done
        "$out/checksum" "$out/df11" "$tensor"
    done
done

step "the shared library"
gcc -std=c99 "${warnings[@]}" "${include[@]}" $here/tests/library.c -L "$target/release" -ldf11_capi -lpthread -o "$out/library"
LD_LIBRARY_PATH=$target/release "$out/library" "$out/df11" cli/demo

step "the judge: the shared library, and decode.c under the sanitizers, which need address space"
judge=("$target/release/df11" judge run --mode lenient)
"${judge[@]}" --library "$target/release/libdf11_capi.so" --junit "$out/library.xml"
for kind in unit frame archive; do
    option=--decoder
    [ $kind = unit ] || option=--$kind-decoder
    "${judge[@]}" --memory-limit 0 $option "$out/decode $kind {$kind} {out}" --junit "$out/$kind.xml"
done

step "what is installed"
if ! cargo cinstall --version 2> /dev/null; then
    [ "${1-}" = --install ] || { echo "not run: cargo-c is not there, and takes minutes to build; test.sh --install does it"; exit; }
    cargo install --quiet --debug --locked cargo-c --version 0.10.24+cargo-0.98.0
fi
rm -rf "$out/installed"
(cd $here && cargo cinstall --debug --destdir "$out/installed" --prefix /usr --libdir /usr/lib 2> /dev/null)
installed=$out/installed/usr
readelf -d "$installed/lib/libdf11.so" | grep -F 'soname: [libdf11.so.0.1]'
if nm -D --defined-only "$installed/lib/libdf11.so" | grep -v ' T df11_'; then
    echo "the shared library exports names that are not ours" >&2
    exit 1
fi
if command -v pkg-config > /dev/null; then
    export PKG_CONFIG_PATH=$installed/lib/pkgconfig PKG_CONFIG_SYSROOT_DIR=$out/installed
    # shellcheck disable=SC2046
    gcc -std=c99 $here/examples/checksum.c $(pkg-config --cflags --libs df11) -o "$out/checksum"
    unset PKG_CONFIG_SYSROOT_DIR
else
    gcc -std=c99 $here/examples/checksum.c -I "$installed/include" -L "$installed/lib" -ldf11 -o "$out/checksum"
fi
export LD_LIBRARY_PATH=$installed/lib
"$out/checksum" "$out/df11" "$tensor"
"$out/checksum" "$out/df11" nothing && exit 1
echo "libdf11: all passed"
