#!/bin/sh
# Deltas beside BitX's method (exclusive or, byte planes, zstd -3) and lists of changed weights:
#
#   bench/peers/run_delta.sh     # a line for each pair and peer; ROUNDS=9 in the environment for more
#
# Makes the pairs first (delta_pairs.py, into target/delta-pairs), which takes some minutes. It needs
# the weights (tests/fetch_corpus.sh), Python 3 with numpy and, for the pairs that are trained, jax.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
pairs=$root/target/delta-pairs
python=${PYTHON:-python3}
if [ ! -d "$pairs" ]; then
    "$python" "$here/delta_pairs.py" "$root/.corpus/f32/model.safetensors" \
        "$root/.corpus/f32/vocab.txt" "$pairs" "$root"/README.md "$root"/spec/*.md "$root"/docs/*.md
fi
cargo build --quiet --release --manifest-path "$here/native/Cargo.toml" --bin delta
set --
for pair in "$pairs"/seeded-* "$pairs/finetune" "$pairs/rl"; do
    [ -f "$pair/new.safetensors" ] && set -- "$@" "$pair"
done
"$here/native/target/release/delta" "${ROUNDS:-9}" "$@"
