#!/usr/bin/env bash
# Fetches the weights of all-MiniLM-L6-v2 if they are not there, compresses them with both codecs, runs the example on them,
# and prints its table. Fails if a requirement does not hold. Arguments go to the example: `examples/candle/run.sh --help`.
set -euo pipefail
cd "$(dirname "$0")"
root=$(cd ../.. && pwd)
"$root/tests/fetch_corpus.sh"
packed=$root/target/candle_checkpoints
for codec in df11 rans; do
    rm -rf "${packed:?}/$codec"
    cargo run --quiet --release --manifest-path "$root/Cargo.toml" -p df11-cli -- \
        compress --quiet "$root/.corpus/bf16/model.safetensors" -o "$packed/$codec" --codec "$codec"
done
CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$root/target/candle} cargo run --quiet --release -- \
    --compressed "$packed/df11" --compressed "$packed/rans" "$@"
