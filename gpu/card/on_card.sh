#!/usr/bin/env bash
# Checks and times the kernels on a card: bash .gpu-run/on_card.sh. Needs a driver, Python 3 with NumPy and CuPy, and, for some steps,
# compute-sanitizer and ncu; no network, no compiler. What it finds is under $OUT (./gpu-run-results without it), in a dozen
# files; the summary comes last on standard output.
#   BUDGET=230      seconds for everything: what cannot begin in time is left out, and said
#   ONLY="a b"      only these steps (their names are in the summary)
#   DEVICE=cuda:0
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=${OUT:-$PWD/gpu-run-results}
budget=${BUDGET:-230}
device=${DEVICE:-cuda:0}
mkdir -p "$out"
if [ -z "${SCRATCH:-}" ]; then
    SCRATCH=/tmp
    if [ -d /dev/shm ] && [ "$(df -Pk /dev/shm | awk 'NR == 2 { print $4 }')" -gt $((16 << 20)) ]; then SCRATCH=/dev/shm; fi
fi
work=$(mktemp -d "$SCRATCH/gpu-run.XXXXXX")
trap 'rm -rf "$work"' EXIT
log=$out/log.txt summary=$out/summary.txt
: > "$log"
: > "$summary"
export PYTHONUNBUFFERED=1
failed=0

# step NAME SECONDS FILE COMMAND...: what it says goes to FILE and to the log.
step() {
    local name=$1 most=$2 file=$3 left=$((budget - SECONDS)) began=$SECONDS code
    shift 3
    if [ -n "${ONLY:-}" ] && [[ " $ONLY " != *" $name "* ]]; then return 0; fi
    if [ $left -lt 6 ]; then
        echo "$name: left out, no time" | tee -a "$summary"
        return 0
    fi
    [ "$most" -le $left ] || most=$left
    echo "== [$SECONDS s] $name: $*" | tee -a "$log" >> "$out/$file"
    timeout -k 5 "$most" "$@" > "$work/said" 2>&1 < /dev/null
    code=$?
    cat "$work/said" >> "$out/$file"
    if [ "$file" != log.txt ]; then tail -n 5 "$work/said" >> "$log"; fi
    if [ $code -eq 0 ]; then
        echo "$name: ok, $((SECONDS - began)) s" | tee -a "$summary"
    else
        failed=1
        echo "$name: FAILED ($code), $((SECONDS - began)) s: $(tail -n 1 "$work/said" | cut -c 1-300)" | tee -a "$summary"
    fi
    return "$code"
}

# shellcheck disable=SC2329 # they are called by `step`
versions() {
    cat "$here/commit"
    nvidia-smi || return 1
    nvidia-smi --query-gpu=name,driver_version,compute_cap,memory.total,clocks.sm,clocks.mem,clocks.max.sm,clocks.max.mem,ecc.mode.current \
        --format=csv
    uname -a
    ldd --version | head -n 1
    python3 -c 'import sys, cupy; print(sys.version); cupy.show_config()' || echo "no CuPy: no timings"
    ncu --version || true
    compute-sanitizer --version || true
}

unpack() {
    python3 - "$here" "$work" <<'PY'
import os, sys, tarfile
here, work = sys.argv[1:]
for name in ("files", "nvcomp"):
    if os.path.exists(f"{here}/{name}.tar.xz"):
        with tarfile.open(f"{here}/{name}.tar.xz") as archive:
            archive.extractall(work, filter="data")
PY
    chmod +x "$work"/bin/*
    for program in "$work"/bin/*; do
        echo "$program"
        if ldd "$program" | grep -i 'not found'; then return 1; fi
    done
    "$work/bin/df11" --version
}

# The real weights again, and the codec that was not carried.
real() {
    df11=$work/bin/df11
    if [ ! -d "$work/real" ]; then "$df11" decompress --quiet "$here/real.rans" -o "$work/real" || return 1; fi
    "$df11" compress --quiet "$work"/real/*.safetensors -o "$work/real.df11" --codec df11 || return 1
    "$df11" compress --quiet "$work"/real/*.safetensors -o "$work/real.rans" --codec rans || return 1
    # What is made here is what was made there.
    (cd "$here/real.rans" && sha256sum ./*.safetensors) > "$work/sums" && (cd "$work/real.rans" && sha256sum -c "$work/sums")
}

scaled() {
    python3 "$here/weights.py" llm "$work/llm" --blocks "${BLOCKS:-6}" --divide "${DIVIDE:-1}" --real "$work"/real/*.safetensors || return 1
    ls -l "$work/llm"
    for codec in df11 rans; do
        "$work/bin/df11" compress "$work/llm" -o "$work/llm.$codec" --codec "$codec" || return 1
    done
}

check() { # FOLDER
    for codec in df11 rans fast; do
        [ ! -e "$1.$codec" ] || "$work/bin/df11" gpu check "$1.$codec" --device "$device" || return 1
    done
}

tests() {
    local code=0
    for test in "$work"/bin/test-*; do DF11_DEVICE=$device "$test" --nocapture || code=1; done
    # One at a time as well: what only goes well in a crowd shows.
    DF11_DEVICE=$device "$work/bin/test-device" --test-threads 1 || code=1
    return "$code"
}

# The Python package, in a folder of its own; other libraries are those of the machine.
with_package() { # COMMAND...
    if [ ! -e "$work/site-python/df11/__init__.py" ]; then
        python3 -m pip install --quiet --no-index --no-deps --disable-pip-version-check --root-user-action ignore \
            --target "$work/site-python" "$work"/python/df11-*.whl || return 1
    fi
    PYTHONPATH=$work/site-python${PYTHONPATH:+:$PYTHONPATH} PYTHONDONTWRITEBYTECODE=1 "$@"
}

python_tests() {
    cd "$work/python" || return 1
    DF11_DEVICE=$device with_package python3 -m pytest -q -rs -p no:cacheprovider --durations 5 --maxfail 30 \
        tests/test_gpu.py tests/test_gpu_linear.py tests/test_gpu_delta.py
}

# Models whose weights stay compressed.
attach() {
    with_package python3 "$here/attach.py" --device "$device" --scratch "$work" "$@"
}

sanitize() { # TOOL
    local code=0
    for codec in df11 rans fast; do
        [ -e "$here/small.$codec" ] || continue
        compute-sanitizer --tool "$1" --error-exitcode 9 --print-limit 20 \
            "$work/bin/df11" gpu check "$here/small.$codec" --device "$device" || code=1
    done
    return "$code"
}

gpu_bench() {
    "$work/bin/df11" gpu bench "$work"/real/*.safetensors --device "$device" --thorough --published "$here/published.ptx"
}

# Weights that have become others are updated in place.
deltas() {
    local base rho
    python3 "$here/weights.py" llm "$work/llm1" --blocks 1 || return 1
    for base in "$work"/real/*.safetensors "$work/llm1/model.safetensors"; do
        for rho in 1e-5 1e-3; do
            python3 "$here/weights.py" trained "$base" "$work/trained.safetensors" "$rho" || return 1
            echo "$(basename "$(dirname "$base")"), noise of $rho of the deviation"
            "$work/bin/df11" gpu bench "$work/trained.safetensors" --base "$base" --device "$device" --repetitions 20 || return 1
        done
    done
}

# Which kernel of an update takes how long.
count_deltas() {
    ncu --clock-control none --metrics gpu__time_duration.sum,sm__warps_active.avg.pct_of_peak_sustained_active \
        --launch-count 8 --csv "$work/bin/df11" gpu bench "$work/trained.safetensors" --base "$work/llm1/model.safetensors" \
        --device "$device" --repetitions 1 | grep -v '^==PROF' | cut -c 1-400
}

# How long the kernels take to load: as they were assembled, compiled by the driver, and as the driver keeps that.
loading() {
    for way in CUDA_FORCE_PTX_JIT=0 "CUDA_FORCE_PTX_JIT=1 CUDA_CACHE_DISABLE=1" "CUDA_FORCE_PTX_JIT=1" "CUDA_FORCE_PTX_JIT=1"; do
        echo "$way"
        # shellcheck disable=SC2086 # two variables
        env $way "$work/bin/df11" gpu bench --device "$device" --at-least 1000000 --repetitions 1 | grep 'kernels loaded' || return 1
    done
}

bench() { # ORIGINAL COMPRESSED ARGUMENTS...
    local original=$1 compressed=$2
    shift 2
    PYTHONPATH=$work/site${PYTHONPATH:+:$PYTHONPATH} LD_LIBRARY_PATH=$work/site/nvidia/libnvcomp/lib64${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} \
        python3 "$here/bench.py" --df11 "$compressed.df11" --rans "$compressed.rans" --original "$original" --ptx "$work/ptx" \
        --published "$here/published.ptx" --variants "$here/variants" "$@"
}

# Products: what a token costs.
gemv() {
    python3 "$here/gemv.py" --df11 "$work/llm.df11" --original "$work/llm/model.safetensors" --ptx "$work/ptx" \
        --published "$here/published.ptx" --variants "$here/variants" "$@"
}

count() { # KERNEL ENTRY
    # Every section that says where time goes; clocks stay as they are.
    ncu --clock-control none --force-overwrite -o "$work/$1" --kernel-name "$2" --launch-count 1 \
        --section SpeedOfLight --section LaunchStats --section Occupancy --section SchedulerStats --section WarpStateStats \
        --section InstructionStats --section ComputeWorkloadAnalysis --section MemoryWorkloadAnalysis \
        --section MemoryWorkloadAnalysis_Tables \
        python3 "$here/bench.py" --df11 "$work/llm.df11" --rans "$work/llm.rans" --original "$work/llm/model.safetensors" \
        --ptx "$work/ptx" --published "$here/published.ptx" --most-bytes 4e8 --once "$1" || return 1
    ncu --import "$work/$1.ncu-rep" --page details
    ncu --import "$work/$1.ncu-rep" --page raw --csv >> "$out/ncu.csv"
}

count_gemv() { # KERNEL
    ncu --clock-control none --force-overwrite -o "$work/$1" --kernel-name "regex:$1" --launch-count 1 \
        --section SpeedOfLight --section LaunchStats --section Occupancy --section SchedulerStats --section WarpStateStats \
        --section InstructionStats --section ComputeWorkloadAnalysis --section MemoryWorkloadAnalysis \
        --section MemoryWorkloadAnalysis_Tables --section SourceCounters \
        python3 "$here/gemv.py" --df11 "$work/llm.df11" --original "$work/llm/model.safetensors" --ptx "$work/ptx" \
        --blocks 1 --once "$1" || return 1
    ncu --import "$work/$1.ncu-rep" --page details
    ncu --import "$work/$1.ncu-rep" --page source --csv | cut -c 1-400 | head -n 4000
    ncu --import "$work/$1.ncu-rep" --page raw --csv >> "$out/ncu.csv"
}

# Steps run in a shell of their own, so that `timeout` can end them.
export here work out device
for name in versions unpack real scaled check tests with_package python_tests attach deltas count_deltas sanitize gpu_bench loading bench gemv count_gemv count; do export -f "${name?}"; done
shell() { local name=$1; shift; echo "$name $(printf ' %q' "$@")"; }

step versions 20 log.txt bash -c versions
step unpack 20 log.txt bash -c unpack
step devices 20 log.txt "$work/bin/df11" devices
step real 20 log.txt bash -c real
step check-small 30 log.txt bash -c "$(shell check "$here/small")"
step check-real 40 log.txt bash -c "$(shell check "$work/real")"
step tests 40 log.txt bash -c tests
step python-tests 60 python.txt bash -c python_tests
step attach 90 attach.txt bash -c "$(shell attach --seconds 72 --json "$out/attach.json")"
step deltas 70 bench.txt bash -c deltas
step count-deltas 40 ncu.txt bash -c count_deltas
step gpu-bench 40 bench.txt bash -c gpu_bench
step loading 20 bench.txt bash -c loading
step memcheck 40 sanitizers.txt bash -c "$(shell sanitize memcheck)"
step racecheck 40 sanitizers.txt bash -c "$(shell sanitize racecheck)"
step scaled 50 log.txt bash -c scaled
step gemv 70 bench.txt bash -c "$(shell gemv --seconds 55 --json "$out/bench.json")"
step bench 70 bench.txt bash -c "$(shell bench "$work/llm/model.safetensors" "$work/llm" --seconds 50 --json "$out/bench.json")"
step bench-real 40 bench.txt bash -c "$(shell bench "$work/real/"*.safetensors "$work/real" --at-least 1e9 --seconds 20 --json "$out/bench.json")"
: > "$out/ncu.csv"
for kernel in fast_gemv df11_gemv; do step "count-$kernel" 40 ncu.txt bash -c "$(shell count_gemv "$kernel")"; done
for kernel in df11_decode_batch rans_decode_batch fast_decode_batch; do
    step "count-$kernel" 35 ncu.txt bash -c "$(shell count "$kernel" "$kernel")"
done
step count-published 35 ncu.txt bash -c "$(shell count published decode)"
step initcheck 30 sanitizers.txt bash -c "$(shell sanitize initcheck)"
step synccheck 30 sanitizers.txt bash -c "$(shell sanitize synccheck)"
step check-scaled 60 log.txt bash -c "$(shell check "$work/llm")"

echo
grep -h 'units and\|test result' "$log"
tail -n 1 "$out/python.txt" 2> /dev/null
cat "$out/attach.txt" 2> /dev/null
grep -h 'ERROR SUMMARY\|RACECHECK SUMMARY' "$out/sanitizers.txt" 2> /dev/null
echo
cat "$out/bench.txt" 2> /dev/null
echo
cat "$summary"
echo "$SECONDS s in all; everything is in $out"
exit $failed
