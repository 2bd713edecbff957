#!/usr/bin/env bash
# Tests object stores against a real S3 server (s3s-fs, in a process of its own) with faults made on purpose:
# tests/store.sh [--ray] [arguments of unittest]. With --ray, tests the wheel that bindings/python/test.sh built, on a Ray
# cluster of three nodes that are processes here, and the examples of docs/scale.md, Dask's among them. Installs what it needs
# under target/, once.
set -euo pipefail
cd "$(dirname "$0")/.."

[ -x target/s3s/bin/s3s-fs ] ||
    cargo install --quiet s3s-fs --version 0.14.1 --features binary --root target/s3s --locked
cargo build --quiet -p df11-cli
if [ "${1-}" = --ray ]; then
    shift
    python3 -m venv target/venv-ray
    target/venv-ray/bin/pip install --quiet numpy 'ray[data]>=2.40' 'dask[distributed]'
    target/venv-ray/bin/pip install --quiet --force-reinstall --no-deps target/python/wheels/*.whl
    target/venv-ray/bin/pip install --quiet ml_dtypes safetensors
    cd tests/store
    [ $# -gt 0 ] || set -- test_ray test_examples
    exec ../../target/venv-ray/bin/python -m unittest -v "$@"
fi
cd tests/store
python3 -m unittest -v "${@:-test_store}"
