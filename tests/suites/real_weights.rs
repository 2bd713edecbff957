//! Tests on all of all-MiniLM-L6-v2: 22.7 million real weights. They are skipped, with a message,
//! where the weights have not been fetched.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use std::fs;
use std::path::Path;

use df11_model::{Codec, CompressOptions, CompressReport, DecompressOptions, compress, decompress, verify};
use df11_tests::corpus;

/// Compresses, verifies against the original, restores, and compares the named files.
fn there_and_back(input: &Path, names: &[&str], codec: Codec) -> CompressReport {
    let temp = tempfile::tempdir().unwrap();
    let (packed, restored) = (temp.path().join("packed"), temp.path().join("restored"));
    let options = CompressOptions::default().codec(codec);
    let report = compress(input, &packed, &options, &()).unwrap();
    verify(&packed, Some(input), 0, &()).unwrap();
    assert!(decompress(&packed, &restored, &DecompressOptions::default(), &()).unwrap().original_restored);
    for name in names {
        let original = if input.is_dir() { input.join(name) } else { input.to_owned() };
        assert!(fs::read(original).unwrap() == fs::read(restored.join(name)).unwrap(), "{name} differs");
    }
    report
}

/// Returns the total size of the units, as a share of their BF16 bytes.
fn ratio(report: &CompressReport) -> f64 {
    let after: u64 = report.units.iter().map(|unit| unit.bytes_after).sum();
    let before: u64 = report.units.iter().map(|unit| unit.bytes_before).sum();
    after as f64 / before as f64
}

#[test]
fn the_corpus_as_one_file_comes_back_byte_for_byte() {
    let Some(file) = corpus::fetched("bf16/model.safetensors") else { return };
    let report = there_and_back(&file, &["model.safetensors"], Codec::Df11);
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
    let report = there_and_back(model.path(), &names, Codec::Df11);
    assert!(ratio(&report) <= 0.688, "{}", ratio(&report));
}

#[test]
fn the_published_float32_model_gains_nothing_from_units_and_comes_back_from_frames() {
    let Some(file) = corpus::fetched("f32/model.safetensors") else { return };
    let directory = file.parent().unwrap();
    let temp = tempfile::tempdir().unwrap();
    let packed = temp.path().join("packed");
    let report = compress(directory, &packed, &CompressOptions::default(), &()).unwrap();
    assert!(report.nothing_to_gain && report.units.is_empty() && !packed.exists());

    let names = ["model.safetensors", "config.json", "tokenizer.json", "1_Pooling/config.json"];
    for codec in [Codec::Rans, Codec::Fast] {
        let report = there_and_back(directory, &names, codec);
        let before: u64 = report.frames.iter().map(|frame| frame.bytes_before).sum();
        let after: u64 = report.frames.iter().map(|frame| frame.bytes_after).sum();
        assert!(before > 90_000_000 && after < before * 87 / 100, "{after} of {before}");
    }
}
