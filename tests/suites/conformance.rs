//! Tests of the vectors, the judge and the linter: the vectors are those that the generator makes,
//! every decoder of this project follows them, and the judge finds planted faults.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use std::time::Duration;

use df11::Level;
use df11::frame::{self, Codec, ElementType, EncodeOptions};
use df11::{Decoder, Parts, Unit};
use df11_judge::judge::{Report, Terms, run};
use df11_judge::lint::{Severity, lint, lint_frame};
use df11_judge::question::Mode;
use df11_judge::subject::{Commands, Limits, Ours, Program};
use df11_judge::vectors::{DeltaTest, FrameTest, Outcome, Task, Vectors, unit};
use df11_reference::dictionary::Model;
use df11_reference::frame::{Coding, encode_as};
use df11_tests::faults::DELTA_FAULTS;
use df11_tests::frame_sample::FrameSample;
use df11_tests::weights::{Random, bits, bytes, like_trained};
use df11_tests::{fixtures, spec_text, vectors};
use sha2::{Digest, Sha256};

#[test]
fn checked_in_vectors_are_up_to_date() {
    let directory = fixtures::directory().join("..");
    let mut total = 0;
    for (name, made) in vectors::generate() {
        let there = std::fs::read(directory.join(&name)).unwrap();
        assert!(there == made, "spec/vectors/{name}: run `cargo run -p df11-tests --bin vectors`");
        total += made.len();
    }
    for entry in std::fs::read_dir(fixtures::directory()).unwrap() {
        total += entry.unwrap().metadata().unwrap().len() as usize;
    }
    assert!(total < 4_000_000, "the vectors have {total} bytes");
    let frames = std::fs::read_to_string(directory.join("frames.json")).unwrap();
    let clauses = df11_tests::clauses::render(&vectors::generate(), &frames);
    let there = std::fs::read_to_string(directory.join("CLAUSES.md")).unwrap();
    assert!(there == clauses, "spec/vectors/CLAUSES.md: run `cargo run -p df11-tests --bin vectors`");
}

#[test]
fn vectors_are_those_of_their_version() {
    let directory = fixtures::directory().join("..");
    let frozen = std::fs::read_to_string(directory.join("SHA256SUMS")).unwrap();
    assert_eq!(vectors::digests(&directory), frozen, "vectors of version {}", vectors::VERSION);
}

/// A minor version adds vectors, and changes none: number, name, verdict, input and output of those
/// of 1.0.0 are what they were.
#[test]
fn vectors_of_1_0_0_stay_what_they_are() {
    let directory = fixtures::directory().join("..");
    let json = |name: &str| -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(directory.join(name)).unwrap()).unwrap()
    };
    let units = std::fs::read(directory.join("units.safetensors")).unwrap();
    let units = safetensors::SafeTensors::deserialize(&units).unwrap();
    let mut names = units.names();
    names.sort_unstable();
    let mut digest = Sha256::new();
    for (file, number) in [(json("df11.json"), 316), (json("frames.json"), 315)] {
        let groups = file["testGroups"].as_array().unwrap();
        let mut tests: Vec<_> = groups.iter().flat_map(|group| group["tests"].as_array().unwrap()).collect();
        tests.sort_by_key(|test| test["tcId"].as_u64());
        for test in &tests[..number] {
            digest.update(serde_json::to_string(test).unwrap());
            if test["file"] != "units.safetensors" {
                continue;
            }
            let prefix = format!("{}.", test["prefix"].as_str().unwrap());
            for name in names.iter().filter(|name| name.starts_with(&prefix)) {
                let part = units.tensor(name).unwrap();
                digest.update(format!("{name}{}{:?}", part.dtype(), part.shape()));
                digest.update(part.data());
            }
        }
    }
    let then = "16f98abbfb9e3b13be34cec04ca2184a8c47819b202c08c2c43e53975e19a571";
    assert_eq!(hex::encode(digest.finalize()), then);
}

#[test]
fn generated_parts_of_the_specification_are_up_to_date() {
    for name in spec_text::DOCUMENTS {
        let text = std::fs::read_to_string(spec_text::path().with_file_name(name)).unwrap();
        assert!(spec_text::render(&text) == text, "spec/{name}: run `cargo run -p df11-tests --bin vectors`");
    }
}

#[test]
fn vectors_have_unique_names_and_explained_flags_and_cover_every_rule() {
    let vectors = Vectors::load().unwrap();
    assert!(vectors.number_of_tests >= 150);
    assert_eq!(vectors.tests().count(), vectors.number_of_tests);
    let mut ids: Vec<&str> = vectors.tests().map(|(_, test)| test.id.as_str()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), vectors.number_of_tests);
    // D-10.3 and D-10.4 are about config.json, which no unit has.
    let of_units = |rule: &&spec_text::Rule| !["D-10.3", "D-10.4"].contains(&rule.clause);
    let rules = spec_text::RULES.iter().filter(of_units).filter(|rule| rule.verdict == "invalid");
    for clause in rules.map(|rule| rule.clause) {
        let covers = |(_, test): (Task, &df11_judge::vectors::Test)| {
            test.result == Outcome::Invalid && test.clauses.iter().any(|c| c == clause)
        };
        assert!(vectors.tests().any(covers), "no vector breaks {clause}");
    }
    for (task, test) in vectors.tests().filter(|(_, test)| test.result != Outcome::Invalid) {
        assert!(test.sha256.is_some() && test.error.is_none(), "{task:?} {}", test.id);
    }
}

/// A decoder in the form that every suite accepts. It returns the weights, or a reason to refuse.
type Decode = fn(&Parts<&[u8]>) -> Result<Vec<u16>, String>;

/// Judges a decoder by every vector.
fn keeps_the_vectors(decode: Decode) {
    for (task, test) in Vectors::load().unwrap().tests() {
        let tensors = test.tensors().unwrap();
        let typed = df11::PARTS.iter().all(|(key, dtype)| {
            tensors.iter().any(|(name, view)| name == key && view.dtype().to_string() == *dtype)
        });
        // Decoders of units do not see what the container lacks.
        let (Task::UnitDecode, true, Some(unit)) = (task, typed, unit(&tensors)) else { continue };
        match (decode(&unit), test.result) {
            (Ok(weights), Outcome::Valid | Outcome::Acceptable) => {
                let sha256 = hex::encode(Sha256::digest(bytes(&weights)));
                assert_eq!(Some(sha256), test.sha256, "{}", test.id);
            }
            (Ok(_), Outcome::Invalid | Outcome::Unsupported) => panic!("{} was accepted", test.id),
            (Err(why), Outcome::Valid) => panic!("{} was refused: {why}", test.id),
            (Err(_), _) => {}
        }
    }
}

/// Judges a decoder by generated weights.
fn keeps_generated_weights(decode: Decode) {
    let mut random = Random(5);
    for round in 0..40 {
        let n = 1 + random.below(1 << (1 + round % 16)) as usize;
        let weights = like_trained(n, round);
        let encoded = df11::encode(&bytes(&weights)).unwrap();
        assert!(decode(&encoded.as_slices()).unwrap() == weights);
    }
}

/// One line for each decoder: it is judged by every vector and by generated weights.
macro_rules! decoders {
    ($($name:ident: $decode:expr;)*) => {
        $(mod $name {
            use super::*;

            #[test]
            fn keeps_the_vectors() {
                super::keeps_the_vectors($decode);
            }

            #[test]
            fn keeps_generated_weights() {
                super::keeps_generated_weights($decode);
            }
        })*
    };
}

decoders! {
    reference: reference_decode;
    core_verify: |t| core(t, |unit, out| unit.verify_blocks_into(0..unit.blocks(), out));
    core_whole: |t| checked(t, |unit, out| unit.decode_into(out));
    core_blocks: |t| checked(t, by_blocks);
    core_ranges: |t| checked(t, by_ranges);
    core_scalar: |t| on_level(t, "scalar");
    core_avx2: |t| on_level(t, "avx2");
    core_avx512: |t| on_level(t, "avx512");
    core_neon: |t| on_level(t, "neon");
}

fn reference_decode(t: &Parts<&[u8]>) -> Result<Vec<u16>, String> {
    let unit = df11_reference::Unit {
        luts: t.luts.to_vec(),
        encoded_exponent: t.encoded_exponent.to_vec(),
        sign_mantissa: t.sign_mantissa.to_vec(),
        output_positions: t.output_positions.to_vec(),
        gaps: t.gaps.to_vec(),
        split_positions: t.split_positions.to_vec(),
    };
    let weights = df11_reference::decode(&unit).map_err(|violation| violation.to_string())?;
    Ok(weights.iter().map(|w| w.to_bits()).collect())
}

type Fill = fn(&Unit<'_>, &mut [u8]) -> Result<(), df11::Error>;

fn core(tensors: &Parts<&[u8]>, fill: Fill) -> Result<Vec<u16>, String> {
    let unit = Unit::new(*tensors).map_err(|error| error.to_string())?;
    let mut weights = vec![0; 2 * unit.len()];
    fill(&unit, &mut weights).map_err(|error| error.to_string())?;
    Ok(bits(&weights))
}

/// Decodes without comparing gaps (D-1.5), for units that were verified before.
fn checked(tensors: &Parts<&[u8]>, fill: Fill) -> Result<Vec<u16>, String> {
    let verified = core(tensors, |unit, out| unit.verify_blocks_into(0..unit.blocks(), out));
    let weights = core(tensors, fill);
    // If these decoders refuse a unit, it is invalid as well.
    assert!(weights.is_ok() || verified.is_err());
    verified.and(weights)
}

/// Decodes with tables of many symbols, whatever the size, on one instruction set. If the machine
/// lacks it, the best available one is used, so that every line tests something on every machine.
/// Block by block there is one lane; as a whole there are several.
fn on_level(tensors: &Parts<&[u8]>, level: &str) -> Result<Vec<u16>, String> {
    let unit = Unit::new(*tensors).map_err(|error| error.to_string())?;
    let decoder = Decoder::at_level(&unit, Level::named(level).unwrap_or(Level::best()));
    let mut out = vec![0; 2 * unit.len()];
    let verified = decoder.verify_blocks_into(0..unit.blocks(), &mut out).map(|()| bits(&out));
    let whole = decoder.decode_into(&mut out).map(|()| bits(&out));
    let blocks = unit.block_ranges().enumerate().try_for_each(|(block, range)| {
        decoder.decode_blocks_into(block..block + 1, &mut out[2 * range.start..2 * range.end])
    });
    // Both give the same weights, and the same error: the first in the order of elements.
    assert_eq!(blocks.map(|()| bits(&out)), whole);
    assert!(verified.is_err() || verified == whole);
    verified.map_err(|error| error.to_string())
}

fn by_blocks(unit: &Unit<'_>, mut out: &mut [u8]) -> Result<(), df11::Error> {
    for block in 0..unit.blocks() {
        let (now, later) = out.split_at_mut(2 * unit.block_range(block).len());
        unit.decode_block_into(block, now)?;
        out = later;
    }
    Ok(())
}

fn by_ranges(unit: &Unit<'_>, out: &mut [u8]) -> Result<(), df11::Error> {
    let step = 1 + unit.len() / 7;
    for (i, part) in out.chunks_mut(2 * step).enumerate() {
        unit.decode_range_into(i * step..i * step + part.len() / 2, part)?;
    }
    Ok(())
}

/// Judges a command.
fn try_commands(commands: Commands, seconds: f64, filter: Option<&str>) -> Result<Report, String> {
    let limits = Limits { time: Duration::from_secs_f64(seconds), memory: Some(1 << 30) };
    let terms = Terms { limits, filter: filter.map(str::to_owned), ..Terms::default() };
    run("a program", &mut Program::new(commands, limits)?, &terms)
}

fn judge(decoder: Option<&str>, encoder: Option<&str>, filter: Option<&str>) -> Report {
    let faulty = |fault: &str, names: &str| format!("{} {fault} {names}", env!("CARGO_BIN_EXE_faulty"));
    let commands = Commands {
        decoder: decoder.map(|fault| faulty(fault, "{unit} {out}")),
        encoder: encoder.map(|fault| faulty(fault, "{bf16} {unit}")),
        ..Commands::default()
    };
    try_commands(commands, 20.0, filter).unwrap()
}

/// Returns the failures of a faulty program. One of them must contain this text.
#[track_caller]
fn found(report: &Report, says: &str) -> usize {
    let failures: Vec<String> =
        report.failures().map(|(case, failure)| format!("{}: {failure}", case.id)).collect();
    assert!(failures.iter().any(|failure| failure.contains(says)), "{failures:#?}");
    failures.len()
}

#[test]
fn programs_without_faults_pass() {
    let report = judge(Some("none"), Some("encode"), None);
    assert!(report.passed(), "{}", report.to_text());
    assert_eq!(report.cases.len(), Vectors::load().unwrap().number_of_tests);
    assert!(report.to_junit().contains("failures=\"0\""));
}

#[test]
fn a_decoder_that_ignores_jumps_is_found() {
    let report = judge(Some("ignores-jumps"), None, None);
    assert!(found(&report, "longest-32: ") > 10);
    found(&report, "weights are wrong; weight ");
    // It is right on units without jumps.
    assert!(report.failures().all(|(case, _)| !case.id.starts_with("size-")));
    assert!(report.to_junit().contains("<failure message="));
}

#[test]
fn a_decoder_that_reads_gaps_with_the_least_significant_bit_first_is_found() {
    assert!(found(&judge(Some("gaps-lsb-first"), None, None), "weights are wrong") > 10);
}

#[test]
fn a_decoder_that_stops_a_symbol_early_is_found() {
    assert!(found(&judge(Some("stops-early"), None, None), "1 weights are wrong; weight ") > 50);
}

#[test]
fn a_decoder_that_crashes_on_a_missing_output_position_is_found() {
    let report = judge(Some("crashes-on-short-positions"), None, None);
    assert_eq!(found(&report, "short-positions-2: crashed with exit code 101"), 5);
}

#[test]
fn a_decoder_that_never_ends_is_found() {
    let decoder = Some(format!("{} never-ends-on-jumps {{unit}} {{out}}", env!("CARGO_BIN_EXE_faulty")));
    let commands = Commands { decoder, ..Commands::default() };
    let report = try_commands(commands, 0.5, Some("tables-2")).unwrap();
    assert_eq!(found(&report, "did not end within 0.5 s"), 1);
}

#[test]
fn a_decoder_that_ends_with_another_code_than_10_and_11_on_bad_input_is_found() {
    let report = judge(Some("dies-on-bad-units"), None, Some("gap"));
    assert!(found(&report, "crashed with exit code 1: refused: TypeError") >= 5);
    assert!(report.failures().all(|(case, _)| case.result == Outcome::Invalid));
}

#[test]
fn a_decoder_that_dies_of_a_signal_is_found() {
    assert_eq!(found(&judge(Some("dies-of-a-signal"), None, Some("gaps-cut")), "crashed (signal: 6"), 1);
}

#[cfg(target_os = "linux")]
#[test]
fn a_decoder_that_takes_all_memory_is_stopped() {
    assert_eq!(found(&judge(Some("takes-all-memory"), None, Some("gaps-cut")), "crashed"), 1);
}

#[test]
fn an_encoder_that_writes_exponent_255_is_found() {
    let report = judge(None, Some("encode-255"), None);
    assert!(found(&report, "encode-quiet-nan: encoded what the layout cannot hold") >= 4);
    assert!(report.failures().all(|(case, _)| case.clauses[0] == "D-4.1"));
}

#[test]
fn an_encoder_that_forgets_gaps_is_found_with_the_clause() {
    found(
        &judge(None, Some("encode-short"), None),
        "gaps has 320 bytes, but this much code needs 640 (D-7.4)",
    );
}

#[test]
fn decoders_of_frames_pass_or_are_found() {
    let judge = |fault: &str| {
        let program = env!("CARGO_BIN_EXE_faulty");
        let frame_decoder = Some(format!("{program} {fault} {{frame}} {{out}}"));
        try_commands(Commands { frame_decoder, ..Commands::default() }, 20.0, None).unwrap()
    };
    let report = judge("frame");
    assert!(report.passed(), "{}", report.to_text());
    assert_eq!(report.cases.len(), FrameTest::load().unwrap().len());
    assert!(found(&judge("frame-stops-early"), "bytes instead of ") > 20);
    let report = judge("frame-takes-anything");
    assert!(found(&report, "state-too-small: accepted an invalid frame: a state below") > 20);
    assert!(report.failures().any(|(case, _)| case.clauses == ["F-1.3"]));
}

#[test]
fn decoders_of_deltas_pass_or_are_found() {
    let judge = |fault: &str| {
        let program = env!("CARGO_BIN_EXE_faulty");
        let delta_decoder = Some(format!("{program} {fault} {{base}} {{delta}} {{out}}"));
        try_commands(Commands { delta_decoder, ..Commands::default() }, 20.0, None).unwrap()
    };
    let report = judge("none");
    assert!(report.passed(), "{}", report.to_text());
    assert_eq!(report.cases.len(), DeltaTest::load().unwrap().len());
    for (fault, says) in DELTA_FAULTS {
        found(&judge(fault), says);
    }
    // No delta is acceptable, so that all modes ask for the same.
    for mode in [Mode::Strict, Mode::Lenient] {
        let terms = Terms { mode, filter: Some("delta-".to_owned()), ..Terms::default() };
        assert!(run("df11", &mut Ours, &terms).unwrap().passed());
    }
}

#[test]
fn the_linter_finds_every_invalid_frame_by_its_clause_and_nothing_in_what_we_write() {
    for test in FrameTest::load().unwrap() {
        let findings = lint_frame(&test.bytes().unwrap());
        let worst = findings.iter().map(|finding| finding.severity).max();
        if test.clauses[0] == "F-6.3" {
            // A wrong digest, which a plain decode does not compare.
            assert_eq!(worst, Some(Severity::Acceptable), "{}: {findings:?}", test.id);
        } else if test.result == Outcome::Valid {
            assert!(worst < Some(Severity::Acceptable), "{}: {findings:?}", test.id);
        } else {
            assert_eq!(worst, Some(Severity::Invalid), "{}", test.id);
            assert_eq!(findings[0].clause, test.clauses[0], "{}: {}", test.id, findings[0].message);
        }
    }
    let trained = bytes(&like_trained(100_000, 1));
    let ours = frame::encode(ElementType::Bf16, &[100, 1000], &trained).unwrap();
    assert_eq!(lint_frame(&ours), []);

    // Features that other writers may use, with a remark.
    let mut sample = FrameSample::new(ours);
    let digest = sample.frame.len() - 8;
    sample.put(digest, &[1, 2, 3, 4]);
    let clauses = |frame: &[u8]| lint_frame(frame).iter().map(|finding| finding.clause).collect::<Vec<_>>();
    assert_eq!(clauses(&sample.repair()), ["F-6.3"]);
    let tensor = |elements: &[u8]| df11_reference::frame::Tensor {
        element_type: ElementType::U8.number(),
        shape: vec![elements.len() as u64],
        elements: elements.to_vec(),
    };
    let random: Vec<u8> = (0..256u32).map(|i| (i * 167) as u8).collect();
    assert_eq!(clauses(&df11_reference::frame::encode(&tensor(&random), 1).unwrap()), ["F-7.1"]);
    assert_eq!(clauses(&df11_reference::frame::encode(&tensor(&[7; 5000]), 0).unwrap()), ["F-7.1"]);
    let small = frame::Encoder::new(ElementType::U8, &[5000], &{
        let mut counts = [1; 256];
        counts[7] = 5000;
        counts
    });
    let mut small = small.unwrap();
    let mut bytes = small.header();
    bytes.extend_from_slice(small.blocks(&[7; 5000]).unwrap());
    bytes.extend(small.finish().unwrap());
    assert_eq!(clauses(&bytes), ["F-7.2"]);

    // With dictionaries.
    let dictionary = EncodeOptions::new().codec(Codec::Dictionary);
    let ours = dictionary.encode(ElementType::Bf16, &[100, 1000], &trained).unwrap();
    assert_eq!(lint_frame(&ours), []);
    let small = dictionary.block_len(4096).encode(ElementType::Bf16, &[100, 1000], &trained).unwrap();
    assert_eq!(clauses(&small), ["F-7.2"]);
    let coded = |bytes: &[u8], codec| df11_reference::frame::encode(&tensor(bytes), codec).unwrap();
    assert_eq!(clauses(&coded(&random, 3)), ["F-7.1"]);
    let other = |clause: &str, w: u32, l: u64| {
        let costs = [(7, (16, 16))].into_iter().collect();
        let coding = Coding::Dictionary(Model { w, costs, l, r: 0 });
        let findings = lint_frame(&encode_as(&tensor(&[7; 5000]), &coding, 65536).unwrap());
        assert!(findings[0].clause == "F-7.2" && findings[0].message.contains(clause), "{findings:?}");
    };
    other("V-4.2", 8, 20);
    other("bits", 12, 1785);
}

#[test]
fn the_linter_accepts_code_behind_the_last_codeword_and_says_how_much_there_is() {
    let vectors = Vectors::load().unwrap();
    let mut seen = 0;
    let is_seen =
        |test: &df11_judge::vectors::Test| test.result == Outcome::Acceptable && test.clauses[0] != "D-10.1";
    for (_, test) in vectors.tests().filter(|(_, test)| is_seen(test)) {
        let findings = lint(&unit(&test.tensors().unwrap()).unwrap());
        let worst = findings.first().map(|finding| finding.severity);
        assert_eq!(worst, Some(Severity::Acceptable), "{}: {findings:?}", test.id);
        if test.clauses[0] == "D-6.3" {
            let found = findings.iter().find(|finding| finding.clause == "D-6.3");
            let message = &found.unwrap_or_else(|| panic!("{}: {findings:?}", test.id)).message;
            assert!(message.contains(" bits are left after the last element's codeword"), "{message}");
            seen += 1;
        }
    }
    assert_eq!(seen, 7);
}

#[test]
fn commands_that_cannot_be_run_are_errors() {
    let error = |decoder: &str, filter| {
        let commands = Commands { decoder: Some(decoder.to_owned()), ..Commands::default() };
        try_commands(commands, 1.0, filter).unwrap_err()
    };
    assert!(error("/no/such/program {unit} {out}", None).contains("cannot start"));
    assert!(error("cat {unit}", None).contains("{out}"));
    assert!(error("'open {unit} {out}", None).contains("open quote"));
    assert!(error("cat {unit} {out}", Some("none of them")).contains("no test was run"));
}

#[test]
fn the_linter_names_the_quirks_of_official_files_and_passes_them() {
    for fixture in fixtures::all() {
        let findings = fixture.with_unit(|unit| lint(&unit));
        let has = |clause: &str| findings.iter().any(|finding| finding.clause == clause);
        assert!(findings.iter().all(|finding| finding.severity < Severity::Invalid), "{findings:?}");
        assert_eq!(has("D-8.4"), fixture.name == "short_output_positions");
        assert!(has("D-11.1"), "{}: {findings:?}", fixture.name);
        let aligned = ["byte_aligned_end", "short_output_positions"].contains(&fixture.name.as_str());
        assert_eq!(has("D-11.4"), !aligned, "{}: {findings:?}", fixture.name);
    }
}

#[test]
fn the_linter_finds_every_invalid_vector_and_nothing_in_what_we_write() {
    for (task, test) in Vectors::load().unwrap().tests() {
        let tensors = test.tensors().unwrap();
        let (Task::UnitDecode, Some(unit)) = (task, unit(&tensors)) else { continue };
        let findings = lint(&unit);
        let worst = findings.iter().map(|finding| finding.severity).max();
        match test.result {
            Outcome::Invalid if test.clauses[0] == "D-10.2" => {} // the parts have other types, not other bytes
            Outcome::Invalid => {
                assert_eq!(worst, Some(Severity::Invalid), "{}", test.id);
                assert!(
                    test.clauses.iter().any(|clause| clause == findings[0].clause),
                    "{}: {findings:?}",
                    test.id
                );
            }
            Outcome::Unsupported => panic!("{}: of the layout, all is supported", test.id),
            // Shapes are the container's, which the linter of units does not see.
            Outcome::Acceptable if test.clauses[0] == "D-10.1" => {}
            Outcome::Acceptable => assert_eq!(worst, Some(Severity::Acceptable), "{}: {findings:?}", test.id),
            Outcome::Valid => assert!(worst < Some(Severity::Acceptable), "{}: {findings:?}", test.id),
        }
    }
    let zeros = vec![0u8; 200_000];
    let unit = df11::encode(&zeros).unwrap();
    assert_eq!(lint(&unit.as_slices())[0].clause, "D-11.6");
    let trained = bytes(&like_trained(50_000, 1));
    assert!(lint(&df11::encode(&trained).unwrap().as_slices()).is_empty());
    // An entry that no codeword reaches leads to a symbol without a code length.
    let mut unit = unit;
    unit.luts[255] = 7;
    unit.luts[256 + 250] = 200; // means nothing (D-5.4)
    assert!(lint(&unit.as_slices()).iter().any(|finding| finding.clause == "D-11.2"));
}

#[test]
fn checked_in_seeds_of_the_fuzzers_are_up_to_date() {
    let corpus = fixtures::directory().join("../../../fuzz/seeds/units");
    for (name, made) in vectors::seeds(&vectors::generate()) {
        assert!(
            std::fs::read(corpus.join(&name)).unwrap() == made,
            "{name}: run `cargo run -p df11-tests --bin vectors`"
        );
    }
}
