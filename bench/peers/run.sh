#!/usr/bin/env bash
# Installs and builds what is missing, runs our codec and its peers side by side on one thread, and prints a table.
#   bench/peers/run.sh [--rounds N] [--json]
# Only the result goes to standard output. README.md beside this file says what each row is.
set -euo pipefail
cd "$(dirname "$0")"
root=$(cd ../.. && pwd)
for argument in "$@"; do
    if [ "$argument" = -h ] || [ "$argument" = --help ]; then
        echo "usage: bench/peers/run.sh [--rounds N] [--json]"
        exit
    fi
done
exec 3>&1 1>&2
note() { echo "peers: $*"; }
driver=(--corpus "$root/.corpus/bf16/model.safetensors")

# Python peers: each on its own, so that one that cannot be installed takes no other with it. The comparison then says
# that its module is missing.
python=.venv/bin/python
if ! "$python" -m pip --version > /dev/null 2>&1 && ! python3 -m venv --clear .venv; then
    note "no virtual environment can be made: going on without the Python peers"
    rm -rf .venv
    python=python3
fi
if [ "$python" != python3 ]; then
    grep -v '^#' requirements.txt | while read -r requirement; do
        "$python" -m pip install --quiet --disable-pip-version-check --no-deps "$requirement" < /dev/null \
            || note "$requirement could not be installed"
    done
fi

# htscodecs, from Debian; only where the library cannot be linked already.
links_htscodecs() {
    printf '#include <htscodecs/rANS_static4x16.h>\nint main(void) { return rans_compress_to_4x16 == 0; }\n' \
        | cc -x c - -lhtscodecs -o /dev/null 2> /dev/null
}
features=()
if ! links_htscodecs; then
    if ! command -v apt-get > /dev/null; then
        why="the library is not installed, and there is no apt-get"
    elif [ "$(id -u)" != 0 ]; then
        why="the library is not installed, and only root can: apt-get install libhtscodecs-dev"
    else
        install=(env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq libhtscodecs-dev)
        "${install[@]}" < /dev/null || { apt-get update -qq && "${install[@]}" < /dev/null; } || true
        why="apt-get could not install libhtscodecs-dev"
    fi
fi
if links_htscodecs; then
    features=(--features htscodecs)
else
    note "no htscodecs: $why"
    driver+=(--unavailable "rans=$why")
fi

# Our codec and the C peers.
target=${CARGO_TARGET_DIR:-native/target}
cargo build --quiet --release --manifest-path native/Cargo.toml --target-dir "$target" "${features[@]}"
driver+=(--native "$target/release/df11-peers")
ours=$(cargo pkgid --quiet --manifest-path native/Cargo.toml df11)
commit=$(git describe --always --dirty=+ --exclude '*' 2> /dev/null || true)
driver+=(--ours "${ours##*[@#]}${commit:+, $commit}")

if [ ! -f "$root/.corpus/bf16/model.safetensors" ]; then
    "$root/tests/fetch_corpus.sh"
fi

exec "$python" peers.py "${driver[@]}" "$@" >&3
