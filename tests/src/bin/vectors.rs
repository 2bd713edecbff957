//! Writes the vectors of `spec/vectors` anew.

#![allow(clippy::unwrap_used, reason = "a tool for developers")]

use std::path::Path;

fn main() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../spec/vectors");
    for (name, bytes) in df11_tests::vectors::generate() {
        std::fs::write(directory.join(name), bytes).unwrap();
    }
}
