#!/usr/bin/env bash
# Tests object stores against a real S3 server (s3s-fs, in a process of its own) with faults made on purpose:
# tests/store.sh [arguments of unittest]. Installs the server under target/, once.
set -euo pipefail
cd "$(dirname "$0")/.."

server=target/s3s/bin/s3s-fs
[ -x $server ] || cargo install --quiet s3s-fs --version 0.14.1 --features binary --root target/s3s --debug --locked
cargo build --quiet -p df11-cli
cd tests/store
python3 -m unittest "${@:-test_store}" -v
