#!/usr/bin/env bash
# Fetches the published kernel, to compare with: decode.ptx of the Python package dfloat11 0.5.0, into target/dfloat11. It is
# not part of this repository.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ ! -f target/dfloat11/decode.ptx ]; then
    rm -rf target/dfloat11
    python3 -m pip download --quiet --no-deps --dest target/dfloat11 dfloat11==0.5.0
    python3 - <<'PY'
import glob, zipfile
with zipfile.ZipFile(glob.glob("target/dfloat11/*.whl")[0]) as wheel:
    text = wheel.read("dfloat11/decode.ptx")
with open("target/dfloat11/decode.ptx", "wb") as out:
    out.write(text)
PY
fi
