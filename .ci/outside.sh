#!/usr/bin/env bash
# Builds what others build, from the packages that a registry would get, in a folder outside of the repository and without its
# settings, on a machine without CUDA: a program of ten lines that depends on df11; every crate that is published; the command with
# and without its feature gpu.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
export CARGO_TARGET_DIR=$root/target/outside
unset CUDA_LIBRARY_PATH CUDA_PATH CUDA_ROOT CUDA_TOOLKIT_ROOT_DIR

outside=$(mktemp -d)
trap 'rm -rf "$outside"' EXIT

# The packages, unpacked. In place of a registry, the settings of the folder say where each is.
private=(df11-capi df11-gpu-capi df11-tests df11-bench df11-mutants)
cd "$root"
cargo package --quiet --workspace --no-verify --allow-dirty "${private[@]/#/--exclude=}"
mkdir "$outside/.cargo"
echo '[patch.crates-io]' > "$outside/.cargo/config.toml"
published=()
for package in "$CARGO_TARGET_DIR"/package/*.crate; do
    name=$(basename "$package" .crate)
    tar -xzf "$package" -C "$outside"
    published+=("${name%-*}")
    echo "${name%-*} = { path = \"$outside/$name\" }" >> "$outside/.cargo/config.toml"
done
version=$(sed -n 's/^version = "\(.*\)"/\1/p' "$root/Cargo.toml" | head -n 1)
echo "packages: ${published[*]}"

# Cargo's settings are those of the folder it is called in.
mkdir -p "$outside/program/src"
cd "$outside/program"
cat > Cargo.toml <<TOML
[package]
name = "program"
version = "0.1.0"
edition = "2024"
TOML
cat > src/main.rs <<'RUST'
fn main() -> Result<(), df11::Error> {
    let weights: Vec<u8> = (0..1000u16).flat_map(|i| (0x3f80 + i % 128).to_le_bytes()).collect();
    let unit = df11::encode(&weights)?;
    assert_eq!(unit.decode()?, weights);
    println!("{} weights came back", weights.len() / 2);
    Ok(())
}
RUST
cargo add --quiet --path "$outside/df11-$version"
cargo run --quiet

echo "-- every library, without CUDA"
for name in "${published[@]}"; do
    case $name in
        # The command is installed below, and these two are the driver's side.
        df11-cli | df11-gpu | df11-cuda-driver) continue ;;
    esac
    cargo add --quiet --path "$outside/$name-$version"
done
cargo add --quiet --path "$outside/df11-gpu-$version" --no-default-features
cargo build --quiet

echo "-- the command"
cargo install --quiet --debug --path "$outside/df11-cli-$version" --root "$outside/without"
"$outside/without/bin/df11" demo --quiet
if "$outside/without/bin/df11" devices 2> said; then exit 1; fi
grep -F -- '--features gpu' said

echo "-- the command with GPUs: refused without CUDA, and built with what stands in for it (docs/gpu.md)"
if cargo install --quiet --debug --path "$outside/df11-cli-$version" --features gpu --root "$outside/with" 2> said; then
    echo "this machine has CUDA, so what is without it was not tried"
else
    grep -F "Could not find a cuda installation" said
fi
mkdir -p cuda/lib64 && touch cuda/lib64/libcuda.so
CUDA_LIBRARY_PATH=$PWD/cuda cargo install --quiet --debug --path "$outside/df11-cli-$version" --features gpu --root "$outside/with"
"$outside/with/bin/df11" devices
"$outside/with/bin/df11" compress --quiet "$root/cli/demo" -o packed
"$outside/with/bin/df11" gpu check packed --device emulated
echo "outside of the repository: all built"
