//! Makes the vectors in `spec/vectors`: every case is written here, checked against the reference
//! and against `df11`, and only then goes into the files.

mod cases;
mod encoder;
mod files;
mod invalid;
mod single;
mod valid;

use std::collections::BTreeMap;

use df11_judge::vectors::{Group, Note, Outcome, Source, Task, Vectors};
use sha2::Digest;

use self::cases::{Cases, Draft, about};
use self::encoder::encoder_cases;
use self::files::{file_cases, header_cases};
use self::invalid::invalid_cases;
use self::single::{empty_last_blocks, one_row, single_cases};
use self::valid::{foreign_cases, longer_cases, valid_cases};
use crate::fixtures;

/// The version of the vectors. Its first number is that of the documents that they test.
pub const VERSION: &str = "1.1.0";

/// The files that a version consists of, and whose digests are kept.
const FROZEN: [&str; 8] = [
    "delta.json",
    "delta.schema.json",
    "df11.json",
    "df11.schema.json",
    "frames.json",
    "frames.schema.json",
    "units.safetensors",
    "weights.safetensors",
];

/// The text of `SHA256SUMS`: the digest of every file with vectors, as `sha256sum` writes it.
///
/// # Panics
///
/// If a file cannot be read.
#[must_use]
pub fn digests(directory: &std::path::Path) -> String {
    let mut names: Vec<String> = FROZEN.map(str::to_owned).to_vec();
    names.extend(
        fixtures::all().iter().map(|fixture| format!("official-0.5.0/{}.df11.safetensors", fixture.name)),
    );
    names.sort();
    let line = |name: &String| {
        let bytes = std::fs::read(directory.join(name)).unwrap();
        format!("{}  {name}\n", hex::encode(sha2::Sha256::digest(bytes)))
    };
    names.iter().map(line).collect()
}

/// The files, by name.
pub type Files = BTreeMap<String, Vec<u8>>;

/// Makes all files except those of the official encoder, which exist already.
///
/// # Panics
///
/// If a case does not have the stated result.
#[must_use]
pub fn generate() -> Files {
    let mut cases = Cases::default();
    valid_cases(&mut cases);
    foreign_cases(&mut cases);
    longer_cases(&mut cases);
    invalid_cases(&mut cases);
    single_cases(&mut cases);
    file_cases(&mut cases);
    encoder_cases(&mut cases);
    for fixture in fixtures::all() {
        let weights = fixture.with_unit(|unit| Draft::new(&unit).verdict().unwrap());
        let short = fixture.name == "short_output_positions";
        let result = if short { Outcome::Acceptable } else { Outcome::Valid };
        let id = format!("official-{}", fixture.name.replace('_', "-"));
        let flags: &[&str] = if short { &["Official", "ShortPositions"] } else { &["Official"] };
        let clauses: &[&str] = match fixture.name.as_str() {
            "short_output_positions" => &["D-8.4"],
            "gap_in_empty_window" => &["D-7.3", "D-11.4", "D-12.1"],
            _ => &["D-12.1"],
        };
        let comment = fixture.manifest["note"].as_str().unwrap();
        let test = cases.push("official", &about(&id, comment, flags, clauses), result, None, Some(&weights));
        test.file = format!("official-0.5.0/{}.df11.safetensors", fixture.name);
        test.prefix = "unit".to_owned();
        assert_eq!(test.sha256.as_deref(), Some(fixture.sha256()));
    }
    // Since 1.1.0. What is new comes last, so that the numbers of older vectors stay.
    empty_last_blocks(&mut cases);
    header_cases(&mut cases);
    one_row(&mut cases);

    let source = |name: &str, version: &str| Source { name: name.to_owned(), version: version.to_owned() };
    let ours = concat!("df11 ", env!("CARGO_PKG_VERSION"));
    let mut group = |key: &str, task, source| Group { task, source, tests: cases.tests.remove(key).unwrap() };
    let test_groups = vec![
        group("df11", Task::UnitDecode, source("df11", env!("CARGO_PKG_VERSION"))),
        group(
            "foreign",
            Task::UnitDecode,
            source("df11-tests, in the manner of dfloat11", env!("CARGO_PKG_VERSION")),
        ),
        group("official", Task::UnitDecode, source("dfloat11", "0.5.0")),
        group("encode", Task::UnitEncode, source("df11-tests", env!("CARGO_PKG_VERSION"))),
    ];
    let vectors = Vectors {
        algorithm: "DF11".to_owned(),
        schema: "df11.schema.json".to_owned(),
        spec_version: VERSION.to_owned(),
        generator: format!("cargo run -p df11-tests --bin vectors ({ours})"),
        number_of_tests: cases.count,
        header: vec![
            "Decoders: give the weights of a unit as little-endian BF16, all tensors one after the other, or refuse.".to_owned(),
            "Encoders: write a valid unit that holds the weights, in tensors of the same lengths, or refuse.".to_owned(),
            "Official units come from the dfloat11 encoder; their weights from all-MiniLM-L6-v2 (Apache-2.0) or made up.".to_owned(),
        ],
        notes: notes(),
        test_groups,
    };
    for flag in vectors.tests().flat_map(|(_, test)| &test.flags) {
        assert!(vectors.notes.contains_key(flag), "no note explains {flag}");
    }
    let mut json = serde_json::to_string_pretty(&vectors).unwrap();
    json.push('\n');
    Files::from([
        ("df11.json".to_owned(), json.into_bytes()),
        ("units.safetensors".to_owned(), serialize(&cases.units)),
        ("weights.safetensors".to_owned(), serialize(&cases.weights)),
    ])
}

fn serialize(tensors: &crate::corpus::Tensors) -> Vec<u8> {
    let views = tensors.iter().map(|(name, tensor)| {
        let view = safetensors::tensor::TensorView::new(tensor.dtype, tensor.shape.clone(), &tensor.bytes);
        (name.as_str(), view.unwrap())
    });
    safetensors::serialize(views, None).unwrap()
}

fn notes() -> BTreeMap<String, Note> {
    let notes = [
        (
            "Size",
            "A number of elements around a boundary of windows, blocks or bytes.",
            "Wrong counts of gaps or positions.",
        ),
        ("Alphabet", "An alphabet of unusual size.", "Crashes on one symbol; tables that overflow."),
        (
            "LongCodes",
            "Codewords of more than 8 bits, which need jumps.",
            "Jumps ignored: a jump value is taken for an exponent.",
        ),
        (
            "Straddle",
            "A codeword crosses the end of a window or block.",
            "Bits lost or read twice between threads.",
        ),
        ("Ends", "The code ends at a special place.", "One symbol too few or too many; a read past the end."),
        (
            "Special",
            "Signed zeros, subnormals, the largest representable weights.",
            "Comparison as numbers instead of bits.",
        ),
        ("Tensors", "Several tensors in one unit.", "Weights given to the wrong tensor."),
        (
            "ShortPositions",
            "output_positions without its last entry.",
            "A read past the end of output_positions.",
        ),
        (
            "Foreign",
            "Written the way published encoders write.",
            "Reliance on canonical codes or on unreached entries.",
        ),
        ("Official", "Written by the official encoder.", "Published models do not load."),
        (
            "Malformed",
            "Breaks a rule that a reader must check.",
            "Wrong weights, endless loops, reads out of bounds.",
        ),
        (
            "Unrepresentable",
            "Weights that the layout cannot hold.",
            "Weights that silently decode to others.",
        ),
        ("Filler", "Bits without meaning are not what writers put there.", "Reliance on padding."),
        ("Real", "Slices of trained weights.", "Everyday use."),
        (
            "OneRule",
            "Breaks one rule alone: checksums, gaps and positions were made right for it.",
            "A check that is missing, since others notice most damage.",
        ),
        (
            "EmptyWindow",
            "No codeword starts in the last window.",
            "Units of published encoders are refused for a gap that means nothing.",
        ),
        (
            "Container",
            "A whole safetensors file, stored as the part `file`: written out as it is.",
            "Files of other writers are refused, or broken ones accepted.",
        ),
        ("Shape", "Parts of other shapes.", "Reliance on shapes, or on their absence."),
    ];
    let note = |(flag, description, effect): (&str, &str, &str)| {
        (flag.to_owned(), Note { description: description.to_owned(), effect: effect.to_owned() })
    };
    notes.into_iter().map(note).collect()
}

/// Makes seeds for fuzzers from the smaller of the generated units: for each part, four bytes of
/// length, then the bytes.
///
/// # Panics
///
/// If the files are not what [`generate`] makes.
#[must_use]
pub fn seeds(files: &Files) -> Files {
    let vectors: Vectors = serde_json::from_slice(&files["df11.json"]).unwrap();
    let units = safetensors::SafeTensors::deserialize(&files["units.safetensors"]).unwrap();
    let decoded = vectors.tests().filter(|(task, test)| {
        let is_whole = test.flags.iter().any(|flag| flag == "Container");
        *task == Task::UnitDecode && test.file == "units.safetensors" && !is_whole
    });
    let seeds = decoded.map(|(_, test)| {
        let mut seed = Vec::new();
        for (key, _) in df11::PARTS {
            let part = units.tensor(&format!("{}.{key}", test.prefix));
            let part = part.as_ref().map_or(&[][..], |view| view.data());
            seed.extend((part.len() as u32).to_le_bytes());
            seed.extend(part);
        }
        (test.id.clone(), seed)
    });
    seeds.filter(|(_, seed)| seed.len() < 20_000).collect()
}
