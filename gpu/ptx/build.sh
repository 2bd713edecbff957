#!/usr/bin/env bash
# Compiles the kernels to PTX, in this folder, and assembles that for every card that it is for: all cards of a kernel go into
# one fatbin. Prints the registers and the shared memory that they take. With --check, nothing is written, and it is an error if
# what is here is something else.
#   gpu/ptx/build.sh [--check]
# Needs Python 3 with pip, and no CUDA: the compiler comes as Python packages, into target/cuda.
set -euo pipefail
cd "$(dirname "$0")"
root=$(cd ../.. && pwd)
packages="nvidia-cuda-nvcc==13.5.37 nvidia-nvvm==13.5.37 nvidia-cuda-crt==13.5.37 nvidia-cuda-runtime==13.5.37
    nvidia-cuda-cuobjdump==13.5.37 nvidia-cuda-nvdisasm==13.5.37"

cuda=$root/target/cuda
if [ "$(cat "$cuda/packages" 2> /dev/null)" != "$packages" ]; then
    rm -rf "$cuda"
    python3 -m venv "$cuda"
    # shellcheck disable=SC2086
    "$cuda/bin/pip" install --quiet --disable-pip-version-check $packages
    echo "$packages" > "$cuda/packages"
fi
bin=$(dirname "$(find "$cuda/lib" -name nvcc -path '*/bin/*' | head -n 1)")

# For each target the least version of PTX, so that drivers of that age load it (the text uses nothing newer), and the cards.
targets="sm_75:6.3:sm_75
sm_80:7.0:sm_80,sm_86,sm_89
sm_90:7.8:sm_90
sm_100:8.6:sm_100,sm_120"
kernels="df11_decode rans_decode fast_decode delta_apply df11_encode rans_encode merge plain_gemv fast_gemv df11_gemv"
# What goes into the fatbins. A card runs what was assembled for an older card of its generation as well.
assembled="75 80 86 90 100 120"

temporary=$(mktemp -d)
trap 'rm -rf "$temporary"' EXIT
to=.
if [ "${1:-}" = --check ]; then
    to=$temporary
fi
for row in $targets; do
    IFS=: read -r target version _ <<< "$row"
    for kernel in $kernels; do
        # Lines of the source stay, for those who measure; files lose their folders, and functions that were inlined their names,
        # which version 6.3 does not have.
        (cd ../kernels && "$bin/nvcc" -ptx -O3 -std=c++17 -lineinfo "-arch=$target" "$kernel.cu" -o "$temporary/raw.ptx")
        sed -e "s/^\.version .*/.version $version/" \
            -e 's|^\(\s*\.file\s*[0-9]*\) "[^"]*/\([^"/]*\)".*|\1 "\2"|' \
            -e 's/^\(\s*\.loc\s*[0-9]*\s[0-9]*\s[0-9]*\),.*/\1/' \
            -e '/^\s*\.pragma "used_bytes_mask/d' -e '/^\/\/ Compiler Build ID/d' -e '/^\s*\.section/,/^\s*}/d' "$temporary/raw.ptx" > "$to/$kernel.$target.ptx"
    done
done

# same FILE: what is here is what was made.
same() {
    cmp -s "$to/$1" "$1" || { echo "gpu/ptx/$1 is not what its kernel compiles to: run gpu/ptx/build.sh" >&2; exit 1; }
}

for row in $targets; do
    IFS=: read -r target _ cards <<< "$row"
    for kernel in $kernels; do
        same "$kernel.$target.ptx"
        # The lines of the source would be half of a fatbin.
        sed -e '/^\s*\.loc/d' -e '/^\s*\.file/d' "$kernel.$target.ptx" > "$temporary/bare.ptx"
        for card in ${cards//,/ }; do
            # The registers and what a kernel spills. A few words do no harm where cards were measured (docs/gpu.md);
            # kernels for products with four or eight vectors spill more, and nobody has tried to mend that.
            "$bin/ptxas" -v "-arch=$card" "$temporary/bare.ptx" -o "$temporary/$kernel.$card.cubin" 2> "$temporary/said" ||
                { cat "$temporary/said" >&2; exit 1; }
            awk -v card="$card" '
                /Compiling entry function/ { split($0, parts, "\x27"); entry = parts[2] }
                /bytes spill stores/ { spilled = $5 + $9 }
                /Used/ {
                    match($0, /Used [0-9]+/); registers = substr($0, RSTART + 5, RLENGTH - 5)
                    match($0, /[0-9]+ bytes smem/); shared = substr($0, RSTART, RLENGTH) + 0
                    printf "| %s | %s | %d | %d | %d |\n", entry, card, registers, shared, spilled
                    if (spilled > (entry ~ /_gemv_[48]$/ ? 350 : 136)) bad = 1
                }
                END { exit bad }' "$temporary/said" || { echo "a kernel spills many registers" >&2; exit 1; }
        done
    done
done

for kernel in $kernels; do
    images=()
    for card in $assembled; do images+=("--image3=kind=elf,sm=$card,file=$temporary/$kernel.sm_$card.cubin"); done
    "$bin/fatbinary" --64 --compress-all "${images[@]}" "--create=$to/$kernel.fatbin"
    same "$kernel.fatbin"
done
