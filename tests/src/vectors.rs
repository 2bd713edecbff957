//! Makes the vectors in `spec/vectors`: every case is written here, checked against the reference and against `df11`,
//! and only then goes into the files.

use std::collections::BTreeMap;

use df11::bf16;
use df11::huffman::CodeLengths;
use df11::{EncodeOptions, EncodedUnit, Plan, Unit};
use df11_judge::vectors::{Group, Note, Outcome, Source, Task, Test, Vectors};
use safetensors::tensor::Dtype;
use sha2::{Digest, Sha256};

use crate::corpus::Tensor;
use crate::weights::{bits, bytes, fibonacci_exponents, like_trained, with_exponents};
use crate::{fixtures, foreign};

/// Weights of larger units are not kept beside the vectors, only their digest.
const KEPT: usize = 20_000;

/// The files, by name.
pub type Files = BTreeMap<String, Vec<u8>>;

/// A unit that can be damaged part by part.
#[derive(Clone, Debug)]
struct Draft(BTreeMap<&'static str, Tensor>);

impl Draft {
    fn new(unit: &df11::Parts<&[u8]>) -> Self {
        let part = |dtype, shape: Vec<usize>, bytes: &[u8]| Tensor { dtype, shape, bytes: bytes.to_vec() };
        let u8s = |bytes: &[u8]| part(Dtype::U8, vec![bytes.len()], bytes);
        Draft(BTreeMap::from([
            ("luts", part(Dtype::U8, vec![unit.luts.len() / 256, 256], unit.luts)),
            ("encoded_exponent", u8s(unit.encoded_exponent)),
            ("sign_mantissa", u8s(unit.sign_mantissa)),
            ("output_positions", u8s(unit.output_positions)),
            ("gaps", u8s(unit.gaps)),
            ("split_positions", part(Dtype::I64, vec![unit.split_positions.len() / 8], unit.split_positions)),
        ]))
    }

    fn get(&mut self, key: &str) -> &mut Vec<u8> {
        &mut self.0.get_mut(key).unwrap().bytes
    }

    /// Makes shapes fit bytes whose number has changed; what no shape fits becomes a list of bytes.
    fn reshape(&mut self) {
        for (key, tensor) in &mut self.0 {
            let len = tensor.bytes.len();
            match *key {
                "luts" if len.is_multiple_of(256) => tensor.shape = vec![len / 256, 256],
                "split_positions" if tensor.dtype == Dtype::I64 && len.is_multiple_of(8) => {
                    tensor.shape = vec![len / 8]
                }
                "split_positions" if tensor.dtype == Dtype::I64 => {
                    (tensor.dtype, tensor.shape) = (Dtype::U8, vec![len])
                }
                _ => tensor.shape = vec![len / (tensor.dtype.bitsize() / 8)],
            }
        }
    }

    fn verdict(&self) -> Result<Vec<u16>, df11::Error> {
        let get = |key: &str| self.0[key].bytes.as_slice();
        let tensors = df11::Parts {
            luts: get("luts"),
            encoded_exponent: get("encoded_exponent"),
            sign_mantissa: get("sign_mantissa"),
            output_positions: get("output_positions"),
            gaps: get("gaps"),
            split_positions: get("split_positions"),
        };
        let reference = df11_reference::decode(&df11_reference::Unit {
            luts: tensors.luts.to_vec(),
            encoded_exponent: tensors.encoded_exponent.to_vec(),
            sign_mantissa: tensors.sign_mantissa.to_vec(),
            output_positions: tensors.output_positions.to_vec(),
            gaps: tensors.gaps.to_vec(),
            split_positions: tensors.split_positions.to_vec(),
        });
        let core = Unit::new(tensors).and_then(|unit| {
            let mut weights = vec![0; 2 * unit.len()];
            unit.verify_blocks_into(0..unit.blocks(), &mut weights).map(|()| bits(&weights))
        });
        match (&core, reference) {
            (Ok(core), Ok(reference)) => {
                assert!(reference.iter().map(|w| w.to_bits()).eq(core.iter().copied()))
            }
            (Err(_), Err(_)) => {}
            (core, reference) => panic!("core: {:?}, reference: {:?}", core.as_ref().err(), reference.err()),
        }
        core
    }
}

/// Collects the cases.
#[derive(Default)]
struct Cases {
    tests: BTreeMap<&'static str, Vec<Test>>,
    units: crate::corpus::Tensors,
    weights: crate::corpus::Tensors,
    count: usize,
}

/// What a case is about.
struct About<'a> {
    id: &'a str,
    comment: &'a str,
    flags: &'a [&'a str],
    clauses: &'a [&'a str],
}

fn about<'a>(id: &'a str, comment: &'a str, flags: &'a [&'a str], clauses: &'a [&'a str]) -> About<'a> {
    About { id, comment, flags, clauses }
}

impl Cases {
    fn push(
        &mut self,
        group: &'static str,
        about: &About<'_>,
        result: Outcome,
        error: Option<String>,
        weights: Option<&[u16]>,
    ) -> &mut Test {
        self.count += 1;
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let test = Test {
            tc_id: self.count,
            id: about.id.to_owned(),
            comment: about.comment.to_owned(),
            flags: owned(about.flags),
            clauses: owned(about.clauses),
            result,
            error,
            file: "units.safetensors".to_owned(),
            prefix: about.id.to_owned(),
            elements: weights.map(<[u16]>::len),
            sha256: weights.map(|weights| hex::encode(Sha256::digest(bytes(weights)))),
        };
        let tests = self.tests.entry(group).or_default();
        assert!(tests.iter().all(|other| other.id != test.id), "{} is there twice", test.id);
        tests.push(test);
        tests.last_mut().unwrap()
    }

    fn keep(&mut self, about: &About<'_>, parts: &Draft) {
        for (key, tensor) in &parts.0 {
            self.units.insert(format!("{}.{key}", about.id), tensor.clone());
        }
    }

    /// A unit that decodes.
    fn sound(
        &mut self,
        group: &'static str,
        about: About<'_>,
        result: Outcome,
        parts: &Draft,
        weights: &[u16],
    ) {
        assert_eq!(parts.verdict().as_deref(), Ok(weights), "{}", about.id);
        self.push(group, &about, result, None, Some(weights));
        if weights.len() <= KEPT {
            self.weights.insert(format!("{}.all", about.id), Tensor::bf16(&[weights.len()], weights));
        }
        self.keep(&about, parts);
    }

    fn valid(&mut self, about: About<'_>, tensors: &[Vec<u16>]) -> EncodedUnit {
        let owned: Vec<Vec<u8>> = tensors.iter().map(|tensor| bytes(tensor)).collect();
        let parts: Vec<&[u8]> = owned.iter().map(Vec::as_slice).collect();
        let encoded = EncodeOptions::new().encode(&parts).unwrap();
        self.sound("df11", about, Outcome::Valid, &Draft::new(&encoded.as_slices()), &tensors.concat());
        encoded
    }

    /// A unit under code lengths of our choice.
    fn with_lengths(&mut self, about: About<'_>, weights: &[u16], lengths: &[(u8, u8)]) -> EncodedUnit {
        let encoded = encode_with(weights, lengths);
        self.sound("df11", about, Outcome::Valid, &Draft::new(&encoded.as_slices()), weights);
        encoded
    }

    /// A unit that a strict reader may refuse.
    fn acceptable(
        &mut self,
        about: About<'_>,
        base: &Draft,
        weights: &[u16],
        change: impl FnOnce(&mut Draft),
    ) {
        let mut parts = base.clone();
        change(&mut parts);
        parts.reshape();
        self.sound("df11", about, Outcome::Acceptable, &parts, weights);
    }

    /// A unit that breaks one of the clauses; of several, readers may name any.
    fn invalid(&mut self, about: About<'_>, base: &Draft, damage: impl FnOnce(&mut Draft)) {
        let mut parts = base.clone();
        damage(&mut parts);
        parts.reshape();
        let Err(error) = parts.verdict() else { panic!("{} is not invalid", about.id) };
        let clause = error.clause().unwrap();
        assert!(about.clauses.contains(&clause), "{}: {clause}: {error}", about.id);
        self.push("df11", &about, Outcome::Invalid, Some(format!("{:?}", error.kind())), None);
        self.keep(&about, &parts);
    }

    fn encoder(&mut self, about: About<'_>, tensors: &[Vec<u16>], result: Outcome, error: Option<&str>) {
        let all = tensors.concat();
        let test = self.push("encode", &about, result, error.map(str::to_owned), Some(&all));
        test.file = "weights.safetensors".to_owned();
        for (i, tensor) in tensors.iter().enumerate() {
            self.weights.insert(format!("{}.{i}", about.id), Tensor::bf16(&[tensor.len()], tensor));
        }
    }
}

fn encode_with(weights: &[u16], lengths: &[(u8, u8)]) -> EncodedUnit {
    let all = bytes(weights);
    let mut frequencies = [0; 256];
    bf16::add_to_histogram(&all, &mut frequencies).unwrap();
    let mut table = [0; 256];
    for &(symbol, length) in lengths {
        table[usize::from(symbol)] = length;
    }
    Plan::with_lengths(&frequencies, 1, &CodeLengths::new(&table).unwrap()).unwrap().encode(&[&all]).unwrap()
}

/// Weights whose exponents take two bits each: 32 to a window, 16,384 to a block.
fn two_bits(n: usize) -> Vec<u16> {
    with_exponents((0..n).map(|i| 100 + (i % 4) as u8), n as u64)
}

/// Makes all files but the official encoder's, which are there already.
///
/// # Panics
///
/// If a case does not do what it says.
#[must_use]
pub fn generate() -> Files {
    let mut cases = Cases::default();
    valid_cases(&mut cases);
    foreign_cases(&mut cases);
    longer_cases(&mut cases);
    invalid_cases(&mut cases);
    encoder_cases(&mut cases);
    for fixture in fixtures::all() {
        let weights = fixture.with_unit(|unit| Draft::new(&unit).verdict().unwrap());
        let short = fixture.name == "short_output_positions";
        let result = if short { Outcome::Acceptable } else { Outcome::Valid };
        let id = format!("official-{}", fixture.name.replace('_', "-"));
        let flags: &[&str] = if short { &["Official", "ShortPositions"] } else { &["Official"] };
        let clauses: &[&str] = if short { &["D-8.4"] } else { &["D-12.1"] };
        let comment = fixture.manifest["note"].as_str().unwrap();
        let test = cases.push("official", &about(&id, comment, flags, clauses), result, None, Some(&weights));
        test.file = format!("official-0.5.0/{}.df11.safetensors", fixture.name);
        test.prefix = "unit".to_owned();
        assert_eq!(test.sha256.as_deref(), Some(fixture.sha256()));
    }

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
        spec_version: "1.0.0".to_owned(),
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
    ];
    let note = |(flag, description, effect): (&str, &str, &str)| {
        (flag.to_owned(), Note { description: description.to_owned(), effect: effect.to_owned() })
    };
    notes.into_iter().map(note).collect()
}

fn valid_cases(cases: &mut Cases) {
    for n in [1, 2, 3, 31, 32, 33, 63, 64, 65, 127, 128, 129, 1023, 1024, 1025] {
        let comment = "codewords of two bits: 32 elements fill a window";
        cases.valid(about(&format!("size-{n}"), comment, &["Size"], &["D-7.1", "D-7.4"]), &[two_bits(n)]);
    }
    for n in [16_383, 16_384, 16_385, 32_769] {
        let comment = "codewords of two bits: 16,384 elements fill a block";
        cases.valid(about(&format!("size-{n}"), comment, &["Size"], &["D-8.1", "D-8.3"]), &[two_bits(n)]);
    }
    for n in [1, 7, 8, 9, 63, 64, 65, 4095, 4096, 4097] {
        let comment = "one exponent, one bit each";
        let flags = ["Size", "Alphabet"];
        cases.valid(
            about(&format!("constant-{n}"), comment, &flags, &["D-4.3", "D-6.1"]),
            &[with_exponents(vec![120; n], 1)],
        );
    }
    for n in [32_768, 32_769] {
        let about = about(
            "",
            "one exponent: 32,768 elements fill a block",
            &["Size", "Alphabet"],
            &["D-8.1", "D-13.2"],
        );
        cases.valid(About { id: &format!("constant-{n}"), ..about }, &[vec![0x3f80; n]]);
    }
    for alphabet in [2, 3, 4, 5, 17, 33, 100, 200, 239, 240] {
        let exponents = (0..2000).map(|i| (i % alphabet) as u8);
        let comment = "symbols equally frequent, from 0 up";
        cases.valid(
            about(&format!("alphabet-{alphabet}"), comment, &["Alphabet"], &["D-4.1", "D-5.1"]),
            &[with_exponents(exponents, alphabet as u64)],
        );
    }
    for symbol in [0u8, 1, 127, 128, 238, 239] {
        let exponents = (0..100).map(|i| if i % 3 == 0 { symbol } else { symbol ^ 1 });
        let comment = "two symbols at an end or in the middle of the alphabet";
        cases.valid(
            about(&format!("symbol-{symbol}"), comment, &["Alphabet"], &["D-4.1", "D-5.2"]),
            &[with_exponents(exponents, 5)],
        );
    }
    for longest in [2u8, 7, 8, 9, 10, 15, 16, 17, 18, 23, 24, 25, 26, 31, 32] {
        // Lengths 1, 2, ..., longest, longest: each symbol a few times, in changing order.
        let symbols = usize::from(longest) + 1;
        let lengths: Vec<(u8, u8)> =
            (0..symbols).map(|i| (100 + i as u8, (i as u8 + 1).min(longest))).collect();
        let exponents = (0..4 * symbols).map(|i| 100 + (i * 7 % symbols + i / symbols) as u8 % symbols as u8);
        let comment = "codewords of every length up to the longest";
        cases.with_lengths(
            about(&format!("longest-{longest}"), comment, &["LongCodes"], &["D-4.2", "D-5.5"]),
            &with_exponents(exponents, u64::from(longest)),
            &lengths,
        );
    }
    for tables in 1..=17usize {
        // Every table but the first holds two codewords of 9 bits; the other first bytes are taken in pairs.
        let nines = 2 * (tables - 1);
        let slots = 256 - nines / 2;
        let lengths: Vec<u8> = std::iter::repeat_n(7, slots / 2)
            .chain(std::iter::repeat_n(8, slots % 2))
            .chain(std::iter::repeat_n(9, nines))
            .collect();
        let lengths: Vec<(u8, u8)> = (0..).zip(lengths).collect();
        let exponents = (0..2 * lengths.len()).map(|i| (i % lengths.len()) as u8);
        let encoded = cases.with_lengths(
            about(
                &format!("tables-{tables}"),
                "a code of so many prefix tables",
                &["LongCodes"],
                &["D-5.1", "D-5.2"],
            ),
            &with_exponents(exponents, tables as u64),
            &lengths,
        );
        assert_eq!(encoded.luts.len(), 256 * (tables + 1));
    }
    // A codeword of 32 bits that starts in each of the last 32 bits of a window.
    for before in [32usize, 33, 40, 48, 62, 63] {
        let lengths: Vec<(u8, u8)> = (0..33).map(|i| (i, (i + 1).min(32))).collect();
        let exponents = std::iter::repeat_n(0, before).chain([32, 0, 31, 0]);
        cases.with_lengths(
            about(
                &format!("straddle-window-{before}"),
                "a codeword of 32 bits across a window's end",
                &["Straddle", "LongCodes"],
                &["D-7.2"],
            ),
            &with_exponents(exponents, before as u64),
            &lengths,
        );
        if before % 3 != 0 {
            continue; // whole blocks are large; two of them will do
        }
        let exponents = std::iter::repeat_n(0, 32_704 + before).chain([32, 0, 31, 0]);
        cases.with_lengths(
            about(
                &format!("straddle-block-{before}"),
                "a codeword of 32 bits across a block's end",
                &["Straddle", "LongCodes"],
                &["D-8.2", "D-8.6"],
            ),
            &with_exponents(exponents, before as u64),
            &lengths,
        );
    }
    for last in [2u8, 9, 32] {
        // The last codeword starts at the last bit of the first block.
        let lengths = [(100, 1), (101, 2), (102, last)];
        let exponents = std::iter::repeat_n(100, 32_765).chain([101, 102]);
        let encoded = cases.with_lengths(
            about(
                &format!("last-straddles-{last}"),
                "no codeword starts in the last block",
                &["Straddle", "Ends"],
                &["D-8.3", "D-8.5"],
            ),
            &with_exponents(exponents, 3),
            &lengths,
        );
        let mut parts = Draft::new(&encoded.as_slices());
        parts.get("output_positions").truncate(8);
        parts.reshape();
        let comment = "no codeword starts in the last block, and the last output position is missing";
        let id = format!("short-positions-{last}");
        let about = about(&id, comment, &["ShortPositions", "Ends"], &["D-8.4"]);
        let weights = parts.verdict().unwrap();
        cases.sound("df11", about, Outcome::Acceptable, &parts, &weights);
    }
    for bits in 1..=8usize {
        let comment = "the code ends after so many bits of its last byte";
        cases.valid(
            about(&format!("end-bit-{bits}"), comment, &["Ends"], &["D-6.3"]),
            &[with_exponents(std::iter::repeat_n(100, 56 + bits), bits as u64)],
        );
    }
    let special = [0x0000u16, 0x8000, 0x0001, 0x8001, 0x007f, 0x807f, 0x0080, 0x77ff, 0xf7ff, 0x3f80, 0xbf80];
    let comment = "signed zeros, subnormals, the smallest normal and the largest representable weights";
    cases.valid(about("special", comment, &["Special"], &["D-3.1"]), &[special.to_vec()]);
    let comment = "every bit pattern with an exponent below 240";
    let all: Vec<u16> = (0..=u16::MAX).filter(|w| bf16::exponent(*w) < 240).collect();
    cases.valid(about("every-pattern", comment, &["Special", "Alphabet"], &["D-3.1", "D-4.1"]), &[all]);
    let tensors = |lengths: &[usize]| -> Vec<Vec<u16>> {
        lengths.iter().map(|n| like_trained(*n, *n as u64)).collect()
    };
    for (id, lengths) in [
        ("tensors-2", &[100, 200][..]),
        ("tensors-7", &[64, 1, 64, 7, 300, 2, 33]),
        ("tensors-empty-first", &[0, 50]),
        ("tensors-empty-last", &[50, 0]),
        ("tensors-empty-between", &[20, 0, 0, 30]),
        ("tensors-over-blocks", &[5000, 5000, 5000]),
    ] {
        cases.valid(
            about(id, "several tensors in one unit", &["Tensors"], &["D-9.1", "D-9.2"]),
            &tensors(lengths),
        );
    }
    for n in [100, 5000, 14_000] {
        let id = format!("normal-{n}");
        cases.valid(
            about(&id, "values spread like trained weights", &["Real"], &["D-12.1"]),
            &[like_trained(n, 1)],
        );
    }
    let fixture = crate::corpus::read(&fixtures::original("real_single"));
    let real = bits(&fixture.into_values().next().unwrap().bytes);
    for (id, range) in [("real-start", 0..4000), ("real-middle", 20_000..33_000)] {
        let comment = "a slice of the word embeddings of all-MiniLM-L6-v2";
        cases.valid(about(id, comment, &["Real"], &["D-12.1"]), &[real[range].to_vec()]);
    }
    let weights = with_exponents(fibonacci_exponents(100, 16, 1), 1);
    cases.valid(
        about("fibonacci-16", "Fibonacci frequencies, two prefix tables", &["LongCodes"], &["D-5.5"]),
        &[weights],
    );

    // Bits without meaning.
    let encoded = encode_with(&two_bits(33), &[(100, 2), (101, 2), (102, 2), (103, 2)]);
    let weights = two_bits(33);
    let filler = |key: &str, at: usize, value: u8| {
        let mut parts = Draft::new(&encoded.as_slices());
        parts.get(key)[at] |= value;
        parts
    };
    let parts = filler("encoded_exponent", 8, 0x3f);
    cases.sound(
        "df11",
        about("filler-code", "ones after the last codeword", &["Filler", "Ends"], &["D-6.4"]),
        Outcome::Valid,
        &parts,
        &weights,
    );
    let parts = filler("luts", 256 + 250, 200);
    cases.sound(
        "df11",
        about("filler-lengths", "a code length for 250, which is no symbol", &["Filler"], &["D-5.4"]),
        Outcome::Valid,
        &parts,
        &weights,
    );
    let parts = filler("gaps", 319, 0x1f);
    let about_gaps = about("filler-gaps", "ones after the last window's gap", &["Filler"], &["D-7.4"]);
    cases.sound("df11", about_gaps, Outcome::Acceptable, &parts, &weights);
}

fn foreign_cases(cases: &mut Cases) {
    for (alphabet, swaps) in [(1, 1), (2, 2), (3, 3), (5, 4), (9, 5), (12, 6), (14, 7), (16, 8), (17, 9)] {
        let exponents = fibonacci_exponents(90, alphabet, swaps);
        let weights = with_exponents(exponents.clone(), swaps);
        let unit = foreign::write(&weights, &foreign::huffman(&exponents, swaps));
        let comment =
            "a code that is not canonical, with an end-of-stream codeword and junk in unreached entries";
        let id = format!("foreign-{alphabet}");
        let about = about(&id, comment, &["Foreign"], &["D-4.3", "D-6.4", "D-7.3"]);
        cases.sound("foreign", about, Outcome::Valid, &Draft::new(&unit.tensors()), &weights);
    }
}

/// Units with whole bytes behind the last codeword (D-6.3): lenient readers ignore them.
fn longer_cases(cases: &mut Cases) {
    let longer = &["Ends", "Filler"][..];
    let small = two_bits(40);
    let large = like_trained(13_000, 9);
    let unit = |weights: &[u16]| Draft::new(&df11::encode(&bytes(weights)).unwrap().as_slices());
    // Ones, so that no bit is mistaken for padding with zeros.
    for (id, comment, weights, more) in [
        ("code-longer", "a byte of code too many", &small, 1),
        ("code-longer-window", "8 bytes behind the last codeword, as a cut unit has them", &small, 8),
        ("code-longer-windows", "100 bytes behind the last codeword", &large, 100),
    ] {
        cases.acceptable(about(id, comment, longer, &["D-6.3"]), &unit(weights), weights, |p| {
            let len = p.get("encoded_exponent").len() + more;
            p.get("encoded_exponent").resize(len, 0xff);
        });
    }
    let comment = "the gaps of windows behind the last codeword are not 0";
    let clauses = &["D-6.3", "D-6.4", "D-7.3"];
    cases.acceptable(about("code-longer-gaps", comment, longer, clauses), &unit(&small), &small, |p| {
        p.get("encoded_exponent").resize(64, 0xff);
        p.get("gaps")[2..5].fill(0x55);
    });
    let comment = "a block behind the last codeword, with its entries of gaps and of output_positions";
    cases.acceptable(
        about("code-longer-block", comment, longer, &["D-6.3", "D-8.5"]),
        &unit(&small),
        &small,
        |p| {
            p.get("encoded_exponent").resize(4096 + 3, 0xff);
            p.get("gaps").resize(640, 0x55);
            p.get("output_positions").extend(40u32.to_le_bytes());
        },
    );
    let comment = "a block behind the last codeword, and the last output position is missing";
    let id = "code-longer-block-short";
    cases.acceptable(about(id, comment, longer, &["D-6.3", "D-8.4"]), &unit(&small), &small, |p| {
        p.get("encoded_exponent").resize(4096 + 3, 0xff);
        p.get("gaps").resize(640, 0x55);
    });
    let comment = "four elements fewer than codewords";
    let fewer = about("elements-fewer", comment, longer, &["D-6.3"]);
    cases.acceptable(fewer, &unit(&small), &small[..36], |p| {
        p.get("sign_mantissa").truncate(36);
        p.get("output_positions")[4] = 36;
    });
}

fn invalid_cases(cases: &mut Cases) {
    let malformed = &["Malformed"][..];
    let weights = like_trained(13_000, 9);
    let encoded = EncodeOptions::new().encode(&[&bytes(&weights[..9000]), &bytes(&weights[9000..])]);
    let base = Draft::new(&encoded.unwrap().as_slices());
    let small = Draft::new(&df11::encode(&bytes(&two_bits(40))).unwrap().as_slices());
    let long: Vec<(u8, u8)> = (0..33).map(|i| (i, (i + 1).min(32))).collect();
    let deep = Draft::new(&encode_with(&with_exponents(0..33, 1), &long).as_slices());

    cases.invalid(about("no-elements", "no elements", malformed, &["D-3.4"]), &small, |p| {
        p.get("sign_mantissa").clear()
    });
    cases.invalid(about("luts-empty", "luts is empty", malformed, &["D-5.1"]), &small, |p| {
        p.get("luts").clear()
    });
    cases.invalid(about("luts-one-row", "only one row", malformed, &["D-5.1"]), &small, |p| {
        p.get("luts").truncate(256)
    });
    cases.invalid(about("luts-cut", "half a row", malformed, &["D-5.1"]), &small, |p| {
        p.get("luts").truncate(384)
    });
    cases.invalid(about("luts-19-rows", "18 tables", malformed, &["D-5.1"]), &small, |p| {
        let row = p.get("luts")[..256].to_vec();
        let lengths = p.get("luts")[256..].to_vec();
        *p.get("luts") = [row.repeat(18), lengths].concat();
    });
    for (id, value) in [("jump-one-too-far", 255u8), ("jump-far", 240)] {
        cases.invalid(about(id, "a jump to a table that is not there", malformed, &["D-5.3"]), &small, |p| {
            p.get("luts")[77] = value
        });
    }
    cases.invalid(
        about(
            "jump-unreached",
            "a jump to nowhere in an entry that no codeword reaches",
            malformed,
            &["D-5.3"],
        ),
        &deep,
        |p| {
            let rows = p.get("luts").len() / 256;
            p.get("luts")[256 * (rows - 2) + 255] = 240;
        },
    );
    for length in [33u8, 64, 255] {
        let id = format!("length-{length}");
        cases.invalid(about(&id, "a code length above 32", malformed, &["D-5.4"]), &small, |p| {
            p.get("luts")[256 + 100] = length
        });
    }
    cases.invalid(
        about(
            "length-33-unused",
            "a code length above 32 of a symbol that does not occur",
            malformed,
            &["D-5.4"],
        ),
        &small,
        |p| {
            p.get("luts")[256 + 7] = 33;
        },
    );
    cases.invalid(
        about("length-zero", "a symbol that occurs has code length 0", malformed, &["D-5.7"]),
        &small,
        |p| {
            p.get("luts")[256 + 101] = 0;
        },
    );
    cases.invalid(
        about(
            "length-too-long",
            "a code length that ends in the second table, found in the first",
            malformed,
            &["D-5.8"],
        ),
        &small,
        |p| {
            p.get("luts")[256 + 100] = 9;
        },
    );
    cases.invalid(
        about(
            "length-too-short",
            "a code length that ends in the first table, found in the second",
            malformed,
            &["D-5.8"],
        ),
        &deep,
        |p| {
            let rows = p.get("luts").len() / 256;
            p.get("luts")[256 * (rows - 1) + 9] = 8;
        },
    );
    cases.invalid(about("jump-cycle", "a table that jumps to itself", malformed, &["D-5.6"]), &deep, |p| {
        p.get("luts")[256..512].fill(255)
    });
    let ones = Draft::new(&encode_with(&with_exponents([32, 0, 0], 1), &long).as_slices());
    cases.invalid(about("jump-back", "a jump back to the table before", malformed, &["D-5.6"]), &ones, |p| {
        p.get("luts")[256 * 3 - 1] = 255; // the last entry of table 2, which led to table 3, leads to table 1
    });
    cases.invalid(about("code-empty", "no code", malformed, &["D-6.1"]), &small, |p| {
        p.get("encoded_exponent").clear()
    });
    cases.invalid(
        about("code-cut", "the last byte of code is missing", malformed, &["D-6.2"]),
        &small,
        |p| {
            p.get("encoded_exponent").pop();
        },
    );
    cases.invalid(
        about("code-too-short", "less code than one bit for each element", malformed, &["D-6.2"]),
        &small,
        |p| {
            p.get("encoded_exponent").truncate(4);
        },
    );
    cases.invalid(
        about("code-cut-block", "the last byte of several blocks is missing", malformed, &["D-6.2"]),
        &base,
        |p| {
            p.get("encoded_exponent").pop();
        },
    );
    cases.invalid(
        about("code-longer-blocks", "two blocks behind the last codeword", malformed, &["D-8.5"]),
        &small,
        |p| {
            p.get("encoded_exponent").resize(2 * 4096 + 3, 0xff);
            p.get("gaps").resize(960, 0);
            p.get("output_positions").extend([40, 40u32].map(u32::to_le_bytes).concat());
        },
    );
    cases.invalid(
        about("gap-first", "the gap of the first window is not 0", malformed, &["D-7.2", "D-8.6"]),
        &small,
        |p| p.get("gaps")[0] = 2 << 3,
    );
    cases.invalid(
        about("gap-second", "the gap of the second window is wrong", malformed, &["D-7.2"]),
        &base,
        |p| p.get("gaps")[0] ^= 1,
    );
    cases.invalid(
        about("gap-later", "a gap in the second block is wrong", malformed, &["D-7.2"]),
        &base,
        |p| p.get("gaps")[320 + 7] ^= 0x10,
    );
    cases.invalid(
        about("gap-block", "the gap of a block's first window is wrong", malformed, &["D-8.6", "D-7.2"]),
        &base,
        |p| p.get("gaps")[320] ^= 0x08,
    );
    cases.invalid(
        about(
            "gaps-lsb-first",
            "gaps packed with the least significant bit first",
            malformed,
            &["D-7.2", "D-8.6"],
        ),
        &base,
        |p| {
            for byte in p.get("gaps") {
                *byte = byte.reverse_bits();
            }
        },
    );
    cases.invalid(about("gaps-cut", "a byte of gaps is missing", malformed, &["D-7.4"]), &small, |p| {
        p.get("gaps").pop();
    });
    cases.invalid(about("gaps-longer", "a byte of gaps too many", malformed, &["D-7.4"]), &small, |p| {
        p.get("gaps").push(0)
    });
    cases.invalid(
        about("gaps-unpadded", "gaps only for the windows there are", malformed, &["D-7.4"]),
        &small,
        |p| p.get("gaps").truncate(2),
    );
    cases.invalid(about("gaps-empty", "no gaps", malformed, &["D-7.4"]), &small, |p| p.get("gaps").clear());
    cases.invalid(about("positions-cut", "half an output position", malformed, &["D-8.3"]), &small, |p| {
        p.get("output_positions").pop();
    });
    cases.invalid(
        about("positions-longer", "an output position too many", malformed, &["D-8.3"]),
        &small,
        |p| p.get("output_positions").extend([40, 0, 0, 0]),
    );
    cases.invalid(about("positions-empty", "no output positions", malformed, &["D-8.3"]), &small, |p| {
        p.get("output_positions").clear()
    });
    cases.invalid(
        about(
            "positions-short-wrongly",
            "the last output position is missing, though codewords start in the last block",
            malformed,
            &["D-8.5"],
        ),
        &base,
        |p| {
            let cut = p.get("output_positions").len() - 4;
            p.get("output_positions").truncate(cut);
        },
    );
    cases.invalid(
        about("position-first", "the first output position is not 0", malformed, &["D-8.5"]),
        &base,
        |p| p.get("output_positions")[0] = 1,
    );
    cases.invalid(
        about(
            "position-equal",
            "two output positions are equal before the last block",
            malformed,
            &["D-8.5"],
        ),
        &base,
        |p| p.get("output_positions")[4..8].fill(0),
    );
    cases.invalid(
        about("position-falls", "output positions fall", malformed, &["D-8.5", "D-8.6"]),
        &base,
        |p| p.get("output_positions")[7] = 0xff,
    );
    cases.invalid(
        about("position-last", "the last output position is not n", malformed, &["D-8.5"]),
        &base,
        |p| {
            let last = p.get("output_positions").len() - 4;
            p.get("output_positions")[last] ^= 1;
        },
    );
    cases.invalid(
        about("position-off-by-one", "a block's output position is one too high", malformed, &["D-8.6"]),
        &base,
        |p| p.get("output_positions")[4] += 1,
    );
    cases.invalid(
        about("position-overfull", "a block claims more elements than it has bits", malformed, &["D-8.6"]),
        &base,
        |p| {
            *p.get("sign_mantissa") = vec![0; 33_500];
            *p.get("output_positions") =
                [0u32, 33_000, 33_500].iter().flat_map(|p| p.to_le_bytes()).collect();
        },
    );
    cases.invalid(
        about(
            "positions-big-endian",
            "output positions in the other byte order",
            malformed,
            &["D-8.5", "D-8.6"],
        ),
        &base,
        |p| {
            for position in p.get("output_positions").as_chunks_mut::<4>().0 {
                position.reverse();
            }
        },
    );
    cases.invalid(about("splits-cut", "half a split position", malformed, &["D-9.1"]), &base, |p| {
        p.get("split_positions").truncate(4)
    });
    cases.invalid(about("split-negative", "a negative split position", malformed, &["D-9.2"]), &base, |p| {
        p.get("split_positions")[7] = 0x80
    });
    cases.invalid(
        about("split-beyond", "a split position beyond the last element", malformed, &["D-9.2"]),
        &base,
        |p| p.get("split_positions")[2] = 1,
    );
    cases.invalid(about("split-falls", "split positions fall", malformed, &["D-9.2"]), &base, |p| {
        p.get("split_positions").extend(10i64.to_le_bytes())
    });

    // The container.
    for (key, _) in df11::PARTS {
        let (id, comment) = (format!("missing-{}", key.replace('_', "-")), format!("there is no {key}"));
        let about = about(&id, &comment, malformed, &["D-10.2"]);
        cases.push("df11", &about, Outcome::Invalid, Some("Corrupt".to_owned()), None);
        let mut parts = small.clone();
        parts.0.remove(key);
        cases.keep(&about, &parts);
    }
    for (id, key, dtype, width) in
        [("dtype-luts", "luts", Dtype::I8, 1), ("dtype-splits", "split_positions", Dtype::F64, 8)]
    {
        let about = about(id, "a part has another type", malformed, &["D-10.2"]);
        cases.push("df11", &about, Outcome::Invalid, Some("Corrupt".to_owned()), None);
        let mut parts = base.clone();
        let tensor = parts.0.get_mut(key).unwrap();
        (tensor.dtype, tensor.shape) = (dtype, vec![tensor.bytes.len() / width]);
        cases.keep(&about, &parts);
    }

    // An empty last block although codewords start in it: the block before has them, and ends with the code.
    for (id, comment, entries) in [
        ("position-last-empty", "the last block is said to be empty, but codewords start in it", 2),
        ("position-last-empty-short", "the same in the short form", 1),
    ] {
        cases.invalid(about(id, comment, malformed, &["D-8.6", "D-8.2"]), &base, |p| {
            let n = p.get("sign_mantissa").len() as u32;
            let positions = std::iter::once(0).chain(std::iter::repeat_n(n, entries));
            *p.get("output_positions") = positions.flat_map(u32::to_le_bytes).collect();
        });
    }
}

fn encoder_cases(cases: &mut Cases) {
    let refuse = |error| (Outcome::Invalid, Some(error));
    for (id, weight) in [
        ("encode-exponent-240", 0x7800u16),
        ("encode-largest", 0x7f7f),
        ("encode-infinity", 0x7f80),
        ("encode-negative-infinity", 0xff80),
        ("encode-quiet-nan", 0x7fc0),
        ("encode-signalling-nan", 0xff81),
    ] {
        let mut weights = like_trained(300, 4);
        weights[123] = weight;
        let (result, error) = refuse("Unsupported");
        let about =
            about(id, "one weight has an exponent of 240 or more", &["Unrepresentable"], &["D-4.1", "D-1.3"]);
        cases.encoder(about, &[weights], result, error);
    }
    let (result, error) = refuse("Unsupported");
    cases.encoder(
        about("encode-nothing", "no elements", &["Unrepresentable"], &["D-3.4", "D-1.3"]),
        &[vec![]],
        result,
        error,
    );
    let (result, error) = refuse("Unsupported");
    let about_all = about("encode-alphabet-256", "every exponent", &["Unrepresentable"], &["D-4.1", "D-1.3"]);
    cases.encoder(about_all, &[with_exponents(0..=255, 1)], result, error);
    let slowly = (0..240u32).flat_map(|e| std::iter::repeat_n(e as u8, 1 + (240 - e as usize) / 8));
    for (id, comment, tensors) in [
        ("encode-one", "one element", vec![vec![0x3f80]]),
        ("encode-constant", "one exponent", vec![vec![0xbf80; 33_000]]),
        ("encode-zeros", "signed zeros", vec![vec![0, 0x8000, 0, 0, 0x8000]]),
        ("encode-two-tensors", "two tensors", vec![like_trained(500, 1), like_trained(300, 2)]),
        (
            "encode-empty-tensor",
            "an empty tensor between others",
            vec![like_trained(50, 1), vec![], like_trained(30, 2)],
        ),
        ("encode-block", "exactly one block", vec![two_bits(16_384)]),
        ("encode-block-and-one", "one block and one element", vec![two_bits(16_385)]),
        ("encode-alphabet-240", "every symbol", vec![with_exponents(0..240, 1)]),
        ("encode-many-tables", "a best code of more than 17 tables", vec![with_exponents(slowly, 1)]),
        ("encode-fibonacci", "long codewords", vec![with_exponents(fibonacci_exponents(60, 17, 1), 1)]),
        ("encode-normal", "values spread like trained weights", vec![like_trained(10_000, 3)]),
        (
            "encode-patterns",
            "bit patterns of every exponent below 240",
            vec![(0..=u16::MAX).step_by(7).filter(|w| bf16::exponent(*w) < 240).collect()],
        ),
    ] {
        cases.encoder(
            about(id, comment, &[], &["D-1.3", "D-11.2", "D-11.4"]),
            &tensors,
            Outcome::Valid,
            None,
        );
    }
}

/// Seeds for fuzzers from the smaller units among generated vectors: for each part, four bytes of length, then the bytes.
///
/// # Panics
///
/// If the files are not what [`generate`] makes.
#[must_use]
pub fn seeds(files: &Files) -> Files {
    let vectors: Vectors = serde_json::from_slice(&files["df11.json"]).unwrap();
    let units = safetensors::SafeTensors::deserialize(&files["units.safetensors"]).unwrap();
    let decoded =
        vectors.tests().filter(|(task, test)| *task == Task::UnitDecode && test.file == "units.safetensors");
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
