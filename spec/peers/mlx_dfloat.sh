#!/usr/bin/env bash
# Installs mlx-dfloat and gives its reader the units of random tensors that we write: it must decode each of them, to the
# same bits.
#   spec/peers/mlx_dfloat.sh [NUMBER]
set -euo pipefail
cd "$(dirname "$0")/../.."
venv=target/mlx_dfloat
if [ ! -e $venv/installed ]; then
    python3 -m venv $venv
    # Without what it depends on: mlx is for Apple's machines, and its reader needs NumPy alone.
    $venv/bin/pip install --quiet --disable-pip-version-check numpy
    $venv/bin/pip install --quiet --disable-pip-version-check --no-deps mlx-dfloat==0.2.0
    touch $venv/installed
fi
cargo run --quiet -p df11-tests --bin units -- "${1:-10000}" target/mlx_dfloat/units.safetensors
$venv/bin/python spec/peers/mlx_dfloat.py target/mlx_dfloat/units.safetensors
