#!/usr/bin/env bash
# Builds the targets, and packs seeds and dictionaries beside them, as OSS-Fuzz and ClusterFuzzLite
# want it: OUT=FOLDER fuzz/oss-fuzz/build.sh [TARGET...]. Without names, every target.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")"
# In their image, this script lies beside the sources.
if [ -d df11/fuzz ]; then cd df11; else cd ../..; fi
: "${OUT:?names the folder for what is built}"
mkdir -p "$OUT"
targets=("$@")
[ $# -gt 0 ] || mapfile -t targets < <(cargo fuzz list | grep -vx -e replay -e make_seeds)
for target in "${targets[@]}"; do
    cargo +nightly fuzz build -O --debug-assertions "$target"
    cp "$(echo fuzz/target/*-linux-gnu/release/"$target")" "$OUT/"
    seeds=$(awk -v target="$target" '$1 == target { print $2 }' fuzz/targets)
    dictionary=$(awk -v target="$target" '$1 == target { print $3 }' fuzz/targets)
    if [ "${seeds:--}" != - ]; then
        python3 -m zipfile -c "$OUT/${target}_seed_corpus.zip" fuzz/seeds/"$seeds"/*
    fi
    if [ "${dictionary:--}" != - ]; then cp "fuzz/dictionaries/$dictionary" "$OUT/$target.dict"; fi
done
