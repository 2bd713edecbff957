//! Rewrites the vectors of `spec/vectors`, the generated parts of `spec/DF11.md`, and the fuzzers'
//! seeds.

#![allow(clippy::unwrap_used, reason = "a tool for developers")]

use std::path::Path;

fn main() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../spec/vectors");
    let files = df11_tests::vectors::generate();
    for (name, bytes) in &files {
        std::fs::write(directory.join(name), bytes).unwrap();
    }
    std::fs::write(directory.join("frames.json"), df11_tests::frame_vectors::generate()).unwrap();
    let seeds = directory.join("../../fuzz/seeds/units");
    std::fs::create_dir_all(&seeds).unwrap();
    for (name, bytes) in df11_tests::vectors::seeds(&files) {
        std::fs::write(seeds.join(name), bytes).unwrap();
    }
    let path = df11_tests::spec_text::path();
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, df11_tests::spec_text::render(&text)).unwrap();
}
