//! Writes the vectors of `spec/vectors`, the generated parts of the specification, and the fuzzers'
//! seeds anew.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a tool for developers")]

use std::path::Path;

fn main() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../spec/vectors");
    let files = df11_tests::vectors::generate();
    for (name, bytes) in &files {
        std::fs::write(directory.join(name), bytes).unwrap();
    }
    let frames = df11_tests::frame_vectors::generate();
    std::fs::write(directory.join("frames.json"), &frames).unwrap();
    std::fs::write(directory.join("delta.json"), df11_tests::delta_vectors::generate()).unwrap();
    let seeds = directory.join("../../fuzz/seeds/units");
    std::fs::create_dir_all(&seeds).unwrap();
    for (name, bytes) in df11_tests::vectors::seeds(&files) {
        std::fs::write(seeds.join(name), bytes).unwrap();
    }
    for name in df11_tests::spec_text::DOCUMENTS {
        let path = directory.join("..").join(name);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, df11_tests::spec_text::render(&text)).unwrap();
    }
    std::fs::write(directory.join("CLAUSES.md"), df11_tests::clauses::render(&files, &frames)).unwrap();
    // Vectors of a version do not change: their digests are written when they are told to.
    let sums = df11_tests::vectors::digests(&directory);
    if std::env::args().any(|arg| arg == "--freeze") {
        std::fs::write(directory.join("SHA256SUMS"), sums).unwrap();
    } else if std::fs::read_to_string(directory.join("SHA256SUMS")).is_ok_and(|frozen| frozen != sums) {
        eprintln!(
            "the vectors are other ones than those of version {}: raise the version, and run this with --freeze",
            df11_tests::vectors::VERSION
        );
    }
}
