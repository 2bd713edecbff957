#!/usr/bin/env bash
# Builds the wheel and tests it: bindings/python/test.sh [arguments of pytest]. Installs what it needs under target/ (PyTorch
# among it, some gigabytes, once). The wheel is first installed alone, then beside the libraries that it works with.
set -euo pipefail
cd "$(dirname "$0")"
root=$(cd ../.. && pwd)
export CARGO_TARGET_DIR=$root/target/python

step() { printf -- '-- [%d s] %s\n' "$SECONDS" "$*"; }

step "the extension: formatting, clippy"
cargo fmt --check
cargo clippy --quiet --release -- -D warnings

step "tools"
venv=$root/target/venv-python
[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
"$venv/bin/pip" install --quiet -r requirements-test.txt

step "the wheel"
rm -rf "$CARGO_TARGET_DIR/wheels"
"$venv/bin/maturin" build --quiet --release --locked --out "$CARGO_TARGET_DIR/wheels"
wheel=$(echo "$CARGO_TARGET_DIR"/wheels/*.whl)

step "alone: $(basename "$wheel"), $(stat -c %s "$wheel") bytes"
python3 -m venv --clear "$root/target/venv-wheel"
"$root/target/venv-wheel/bin/pip" install --quiet "$wheel"
(cd "$root/target" && venv-wheel/bin/df11 --version && venv-wheel/bin/python "$root/bindings/python/tests/alone.py")

step "ruff, mypy"
"$venv/bin/ruff" check python tests examples measure.py
"$venv/bin/ruff" format --check python tests examples measure.py
"$venv/bin/pip" uninstall --quiet --yes df11
"$venv/bin/pip" install --quiet --no-deps "$wheel"
(cd "$root/target" && venv-python/bin/mypy --config-file "$root/bindings/python/pyproject.toml" -p df11)

step "tests"
"$venv/bin/python" -m pytest --quiet "$@"
