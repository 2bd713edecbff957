#!/usr/bin/env bash
# Runs every fuzz target for a while, from its seeds, two at a time: fuzz/smoke.sh [SECONDS]. What it finds new stays in
# fuzz/work.
# Needs a nightly toolchain and cargo-fuzz. Fails on the first crash, whose input is then in fuzz/artifacts.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-20}
# Safe Rust keeps no pointer into a stack that has gone, and a crash is run again to be looked at:
# without these extras, targets that allocate are half as fast again.
export ASAN_OPTIONS=detect_stack_use_after_return=0:malloc_context_size=0:quarantine_size_mb=1
run() {
    local target=$1 seeds=$2 dictionary=$3
    mkdir -p "fuzz/work/$target"
    local options=(-max_total_time="$seconds" -timeout=20 -rss_limit_mb=4096 -max_len=65536 -print_final_stats=1)
    # Small inputs, and no statistics about how rare what they do is: that takes longer than they do.
    case $target in quick_*) options+=(-max_len=1024 -entropic=0) ;; esac
    if [ -n "$dictionary" ]; then options+=("-dict=fuzz/dictionaries/$dictionary"); fi
    if ! cargo +nightly fuzz run "$target" "fuzz/work/$target" ${seeds:+"fuzz/seeds/$seeds"} -- "${options[@]}" \
        > "fuzz/work/$target.log" 2>&1; then
        tail -n 60 "fuzz/work/$target.log"
        return 1
    fi
    printf '%s: %s, %s\n' "$target" "$(grep -E 'number_of_executed_units' "fuzz/work/$target.log")" \
        "$(grep -E 'average_exec_per_sec' "fuzz/work/$target.log")"
}
# Built before, so that no two wait for each other.
cargo +nightly fuzz build
running=0
while read -r target seeds dictionary; do
    if [ "$running" -ge 2 ]; then
        wait -n
        running=$((running - 1))
    fi
    run "$target" "${seeds#-}" "${dictionary#-}" &
    running=$((running + 1))
done < fuzz/targets
while [ "$running" -gt 0 ]; do
    wait -n
    running=$((running - 1))
done
