//! Tests the published kernel, which this project did not write.

use df11::encode;
use df11_emulator::{Kind, Module, Options};
use df11_gpu_lab::emulate::{self, Shape};
use df11_judge::vectors::{Vectors, unit};
use df11_tests::weights::Random;

use crate::support::{options, weights};

/// Returns the published kernel, if it has been fetched; otherwise reports that the test is
/// skipped.
fn published() -> Option<Module> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/dfloat11/decode.ptx");
    let text = std::fs::read_to_string(path).ok();
    if text.is_none() {
        println!("skipped: the published kernel is not there; gpu/fetch_published.sh fetches it");
    }
    text.map(|text| Module::parse(&text).unwrap())
}

#[test]
fn the_published_kernel_decodes_our_units_and_reads_one_gap_too_many() {
    let Some(module) = published() else { return };
    let mut random = Random(8);
    for round in 0..12 {
        let weights = weights(&mut random);
        let encoded = encode(&weights).unwrap();
        let unit = encoded.as_unit();
        let shape = Shape::published(unit.blocks(), unit.shared_memory_bytes());
        let (found, report) =
            emulate::unit(&module, "decode", &encoded.as_slices(), shape, 0, &options(round)).unwrap();
        assert!(found == weights, "round {round}");
        let text: Vec<String> = report.findings.iter().map(ToString::to_string).collect();
        let [finding] = report.findings.as_slice() else { panic!("round {round}: {text:#?}") };
        let gaps = encoded.gaps.len();
        assert_eq!(finding.kind, Kind::ReadOutOfBounds);
        assert!(finding.detail.contains(&format!("1 bytes at offset {gaps} of buffer 4")), "{finding}");
    }
}

#[test]
fn what_the_errata_say_of_the_published_kernel_shows() {
    let Some(module) = published() else { return };
    let run = |id: &str| {
        let vectors = Vectors::load().unwrap();
        let (_, test) = vectors.tests().find(|(_, test)| test.id == id).unwrap();
        let tensors = test.tensors().unwrap();
        let parts = unit(&tensors).unwrap();
        let blocks = parts.encoded_exponent.len().div_ceil(df11::hazmat::layout::BLOCK_BYTES);
        let shape = Shape::published(blocks, df11::PUBLISHED_SHARED_MEMORY);
        let options = Options { most_steps: 1_000_000, ..Options::default() };
        emulate::unit(&module, "decode", &parts, shape, 0, &options).unwrap().1.findings
    };
    let has = |id: &str, kind: Kind, detail: &str| {
        let findings = run(id);
        let found = findings.iter().any(|finding| finding.kind == kind && finding.detail.contains(detail));
        assert!(found, "{id}: {findings:?}");
    };
    // 5, 7 and 8 of ERRATA.md. Buffer 4 is `gaps`, buffer 3 `output_positions`.
    has("tables-17", Kind::ReadOutOfBounds, "of buffer 4");
    has("short-positions-2", Kind::ReadOutOfBounds, "of buffer 3");
    has("length-zero", Kind::StepLimit, "");
}
