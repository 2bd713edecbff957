#!/usr/bin/env bash
# Runs every fuzz target for a while, from its seeds: fuzz/smoke.sh [SECONDS]. What it finds new stays in fuzz/work.
# Needs a nightly toolchain and cargo-fuzz. Fails on the first crash, whose input is then in fuzz/artifacts.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-20}
run() {
    local target=$1 seeds=$2 dictionary=$3
    mkdir -p "fuzz/work/$target"
    local options=(-max_total_time="$seconds" -timeout=20 -rss_limit_mb=4096 -max_len=65536 -print_final_stats=1)
    if [ -n "$dictionary" ]; then options+=("-dict=fuzz/dictionaries/$dictionary"); fi
    printf '%s: ' "$target"
    if ! cargo +nightly fuzz run "$target" "fuzz/work/$target" ${seeds:+"fuzz/seeds/$seeds"} -- "${options[@]}" \
        > "fuzz/work/$target.log" 2>&1; then
        tail -n 60 "fuzz/work/$target.log"
        exit 1
    fi
    grep -E 'number_of_executed_units' "fuzz/work/$target.log"
}
run unit_decode units ''
run reference_against_core units ''
run round_trip '' ''
run encoder_options '' ''
run tables '' ''
run range_decode '' ''
run container container container.dict
run metadata metadata metadata.dict
run rans_blocks rans_blocks ''
run frame_decode frame_decode ''
run frame_round_trip frame_round_trip ''
