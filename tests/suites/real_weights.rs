//! All of all-MiniLM-L6-v2: 22.7 million real weights. Skipped, with a word, where they have not been fetched.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use std::fs;
use std::path::Path;

use df11_model::{CompressOptions, CompressReport, DecompressOptions, compress, decompress, verify};
use df11_tests::corpus;

/// Compresses, verifies against the original, restores; compares the named files.
fn there_and_back(input: &Path, names: &[&str]) -> CompressReport {
    let temp = tempfile::tempdir().unwrap();
    let (packed, restored) = (temp.path().join("packed"), temp.path().join("restored"));
    let report = compress(input, &packed, &CompressOptions::default(), &()).unwrap();
    verify(&packed, Some(input), 0, &()).unwrap();
    assert!(decompress(&packed, &restored, &DecompressOptions::default(), &()).unwrap().original_restored);
    for name in names {
        let original = if input.is_dir() { input.join(name) } else { input.to_owned() };
        assert!(fs::read(original).unwrap() == fs::read(restored.join(name)).unwrap(), "{name} differs");
    }
    report
}

/// Total size of the units, as a share of their BF16 bytes.
fn ratio(report: &CompressReport) -> f64 {
    let after: u64 = report.units.iter().map(|unit| unit.bytes_after).sum();
    let before: u64 = report.units.iter().map(|unit| unit.bytes_before).sum();
    after as f64 / before as f64
}

#[test]
fn the_corpus_as_one_file_comes_back_byte_for_byte() {
    let Some(file) = corpus::fetched("bf16/model.safetensors") else { return };
    let report = there_and_back(&file, &["model.safetensors"]);
    assert_eq!(report.units.len(), 9);
    assert!(ratio(&report) <= 0.688, "{}", ratio(&report));
}

#[test]
fn the_corpus_in_three_shards_comes_back_byte_for_byte() {
    let Some(file) = corpus::fetched("bf16/model.safetensors") else { return };
    let model = tempfile::tempdir().unwrap();
    corpus::write_shards(model.path(), &corpus::read(&file), 3);
    for name in ["config.json", "tokenizer.json", "vocab.txt"] {
        fs::copy(corpus::directory().join("f32").join(name), model.path().join(name)).unwrap();
    }
    let names: Vec<String> = fs::read_dir(model.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(names.len(), 3 + 1 + 3);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let report = there_and_back(model.path(), &names);
    assert!(ratio(&report) <= 0.688, "{}", ratio(&report));
}

#[test]
fn the_published_float32_model_passes_through() {
    let Some(file) = corpus::fetched("f32/model.safetensors") else { return };
    let names = ["model.safetensors", "config.json", "tokenizer.json", "1_Pooling/config.json"];
    let report = there_and_back(file.parent().unwrap(), &names);
    assert!(report.units.is_empty());
    let plain: u64 = report.plain.iter().filter(|plain| plain.dtype == "F32").map(|plain| plain.bytes).sum();
    assert_eq!(plain, 4 * 22_713_216);
}
