#!/usr/bin/env bash
# Judges published programs by every vector, and writes what they get wrong to target/peers, one file for each:
#   spec/peers/judge.sh
# Each is installed from its registry, and called by an adapter beside this script. spec/ERRATA.md has the findings.
# (Named DF11, a built command is used; otherwise one is built.)
set -euo pipefail
cd "$(dirname "$0")/../.."
venv=target/peers/venv
if [ ! -e $venv/installed ]; then
    python3 -m venv $venv
    $venv/bin/pip install --quiet --disable-pip-version-check numpy dahuffman==0.4.2
    # Without what they depend on: PyTorch and mlx, which these parts of them do not need.
    $venv/bin/pip install --quiet --disable-pip-version-check --no-deps dfloat11==0.5.0 mlx-dfloat==0.2.0
    touch $venv/installed
fi
if [ -z "${DF11-}" ]; then
    cargo build --quiet -p df11-cli --no-default-features
    DF11=$(cargo metadata --format-version 1 --no-deps |
        python3 -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')/debug/df11
fi
judge() {
    local name=$1
    shift
    # It fails where they do; that is what we want to know.
    "$DF11" judge run --report "target/peers/$name.json" "$@" > "target/peers/$name.txt" || [ $? -eq 1 ]
    echo "$name: $(tail -n 1 "target/peers/$name.txt")"
}
# Batch programs may take longer for their first answer.
judge dfloat11-encoder --time-limit 60 $venv/bin/python spec/peers/judge_dfloat11.py
judge mlx-dfloat --time-limit 60 $venv/bin/python spec/peers/judge_mlx_dfloat.py
gpu/fetch_published.sh
judge dfloat11-kernel --ptx target/dfloat11/decode.ptx --entry decode
