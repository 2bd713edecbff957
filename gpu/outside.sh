#!/usr/bin/env bash
# Builds what others build, outside of the repository and without its settings, on a machine without CUDA: a package that depends on
# df11-gpu without its feature `driver`; one that depends on it with the feature, and says where a stand-in for CUDA is; and the
# command without its feature `gpu`.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
export CARGO_TARGET_DIR=$root/target/outside
unset CUDA_LIBRARY_PATH CUDA_PATH CUDA_ROOT CUDA_TOOLKIT_ROOT_DIR

# Cargo's settings are those of the folder it is called in.
outside=$(mktemp -d)
trap 'rm -rf "$outside"' EXIT
cd "$outside"
mkdir src
cp "$root/Cargo.lock" .

dependant() { # FEATURES
    cat > Cargo.toml <<TOML
[package]
name = "dependant"
version = "0.1.0"
edition = "2024"

[dependencies]
df11-gpu = { path = "$root/gpu", default-features = false, features = [$1] }
TOML
}

dependant ""
echo 'fn main() { println!("{} targets", df11_gpu::kernels::DF11_DECODE.len()); }' > src/main.rs
cargo run --quiet

dependant '"driver"'
cat > src/main.rs <<'RUST'
fn main() {
    let gpu = df11_gpu::Gpu::emulated(df11_gpu::Emulation::default()).unwrap();
    println!("{}", gpu.info().name);
}
RUST
if cargo build --quiet 2> refused; then
    echo "this machine has CUDA, so what is without it was not tried"
else
    grep -F "Could not find a cuda installation" refused
fi
CUDA_LIBRARY_PATH=$root/gpu/link cargo run --quiet

cargo build --quiet --manifest-path "$root/cli/Cargo.toml" --no-default-features
"$CARGO_TARGET_DIR/debug/df11" gpu report --help > /dev/null
echo "outside of the repository: all built"
