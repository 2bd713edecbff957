//! Makes `spec/vectors/frames.json`: frames, archives, frequencies and dictionaries, each checked
//! against the reference and against `df11` before it goes into the file.

use df11::frame::{ElementType, Frame};
use df11::hazmat::rans::Frequencies;
use df11_reference::{frame as reference, rans};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::frame_sample::FrameSample;
use crate::weights::{bytes, like_trained};
use crate::{archive_vectors, dictionary_vectors, frame_minor, frame_single};

pub(crate) fn decode(frame: &[u8]) -> Result<Vec<u8>, df11::Error> {
    let frame = Frame::new(frame)?;
    let mut elements = vec![0; frame.elements_bytes()];
    frame.decode_into(&mut elements).map(|()| elements)
}

pub(crate) fn tensor(element_type: ElementType, shape: &[u64], elements: &[u8]) -> reference::Tensor {
    reference::Tensor {
        element_type: element_type.number(),
        shape: shape.to_vec(),
        elements: elements.to_vec(),
    }
}

/// Seven symbols.
pub(crate) fn u8s(n: usize) -> Vec<u8> {
    (0..n).map(|i| 100 + (i * i % 7) as u8).collect()
}

/// The number of a test before all are numbered: what is new since 1.0.0 comes after the rest.
const LATER: u64 = 1;

/// Tests of one kind, numbered where all stand together.
pub(crate) type Tests = Vec<Value>;

/// A test that says what it is about, and nothing else.
pub(crate) fn test(id: &str, comment: &str, flags: &[&str], clauses: &[&str]) -> Value {
    json!({ "tcId": 0, "id": id, "comment": comment, "flags": flags, "clauses": clauses })
}

/// Collects frames.
#[derive(Default)]
pub(crate) struct Frames(Tests);

impl Frames {
    fn push(&mut self, mut test: Value, result: &str, error: Option<String>, frame: &[u8], more: Value) {
        test["result"] = result.into();
        test["error"] = error.into();
        test["frame"] = hex::encode(frame).into();
        if let (Some(test), Value::Object(more)) = (test.as_object_mut(), more) {
            test.extend(more);
        }
        self.0.push(test);
    }

    /// A frame that decodes.
    pub(crate) fn valid(
        &mut self,
        id: &str,
        comment: &str,
        flags: &[&str],
        clauses: &[&str],
        tensor: &reference::Tensor,
        frame: &[u8],
    ) {
        assert_eq!(reference::decode(frame).as_ref(), Ok(tensor), "{id}");
        assert_eq!(decode(frame).as_ref(), Ok(&tensor.elements), "{id}");
        self.push(test(id, comment, flags, clauses), "valid", None, frame, facts(Some(tensor)));
    }

    /// A frame that breaks one of these clauses; the product names the first.
    pub(crate) fn invalid(
        &mut self,
        id: &str,
        comment: &str,
        flags: &[&str],
        clauses: &[&str],
        frame: &[u8],
    ) {
        self.refused(id, comment, &[&["Malformed"], flags].concat(), clauses, "invalid", frame);
    }

    /// A frame of another version.
    pub(crate) fn unsupported(&mut self, id: &str, comment: &str, clauses: &[&str], frame: &[u8]) {
        self.refused(id, comment, &["Unsupported"], clauses, "unsupported", frame);
    }

    fn refused(
        &mut self,
        id: &str,
        comment: &str,
        flags: &[&str],
        clauses: &[&str],
        result: &str,
        frame: &[u8],
    ) {
        let violation = reference::decode(frame).expect_err(id);
        let error = decode(frame).expect_err(id);
        assert_eq!(error.clause(), Some(clauses[0]), "{id}: {error}");
        if flags.contains(&"OneRule") {
            assert!(clauses.contains(&violation.clause), "{id}: {violation}");
        }
        let is_unsupported = error.kind() == df11::ErrorKind::Unsupported;
        assert_eq!(is_unsupported, result == "unsupported", "{id}: {error}");
        let kind = Some(format!("{:?}", error.kind()));
        self.push(test(id, comment, flags, clauses), result, kind, frame, facts(None));
    }
}

/// The text of the file.
///
/// # Panics
///
/// If the reference or core disagrees with what is stated here.
#[must_use]
pub fn generate() -> String {
    let mut frames = Frames::default();
    everyday_frames(&mut frames);
    let coded = tensor(ElementType::Bf16, &[300], &bytes(&like_trained(300, 1)));
    let coded = FrameSample::new(reference::encode(&coded, 1).unwrap());
    damaged_headers(&mut frames, &coded);
    damaged_blocks(&mut frames, &coded);
    dictionary_frames(&mut frames);
    frame_single::single_frames(&mut frames);
    let mut archives = archive_vectors::archives();
    // Since 1.1.0. The numbers of older vectors stay.
    let mut later = Frames::default();
    frame_minor::minor_frames(&mut later);
    later.0.iter_mut().for_each(|test| test["tcId"] = LATER.into());
    frames.0.extend(later.0);
    archives.extend(archive_vectors::later_archives().into_iter().map(|mut test| {
        test["tcId"] = LATER.into();
        test
    }));
    let group = |name: &str, tests: Tests| {
        json!({
            "type": name,
            "source": { "name": "df11-reference", "version": env!("CARGO_PKG_VERSION") },
            "tests": tests,
        })
    };
    let mut groups = vec![
        group("FrameDecode", frames.0),
        group("ArchiveDecode", archives),
        group("Frequencies", frequencies()),
        group("Dictionary", dictionary_vectors::dictionaries()),
    ];
    let mut tests: Vec<&mut Value> =
        groups.iter_mut().flat_map(|group| group["tests"].as_array_mut().unwrap()).collect();
    tests.sort_by_key(|test| test["tcId"].as_u64());
    let number = tests.len();
    let mut ids = std::collections::HashSet::new();
    for (i, test) in tests.into_iter().enumerate() {
        test["tcId"] = (i + 1).into();
        let id = test["id"].as_str().unwrap().to_owned();
        assert!(ids.insert(id.clone()), "{id} is there twice");
        assert!(!test["clauses"].as_array().unwrap().is_empty(), "{id} has no clause");
        for flag in test["flags"].as_array().unwrap() {
            assert!(NOTES.iter().any(|(name, ..)| flag == name), "no note explains {flag}");
        }
    }
    let notes: serde_json::Map<String, Value> = NOTES
        .iter()
        .map(|(name, description, effect)| {
            ((*name).to_owned(), json!({ "description": description, "effect": effect }))
        })
        .collect();
    let file = json!({
        "algorithm": "FRAME, RANS, DICTIONARY, DIETGPU",
        "schema": "frames.schema.json",
        "specVersion": crate::vectors::VERSION,
        "generator": "cargo run -p df11-tests --bin vectors (df11 0.1.0)",
        "numberOfTests": number,
        "header": [
            "FrameDecode: a reader gives elements with this SHA-256 for valid frames, and refuses all others; unsupported ones not as damaged.",
            "ArchiveDecode: the same of dietgpu's archives: of bytes (elementType null) or of floats.",
            "Frequencies: R-2.5 makes these frequencies of these counts.",
            "Dictionary: V-4.2 makes these costs (of the symbols that occur, least first), limit and remainder of these counts; their strings, by number and with a line feed after each symbols in hexadecimal, have this SHA-256.",
        ],
        "notes": notes,
        "testGroups": groups,
    });
    on_one_line(&serde_json::to_string_pretty(&file).unwrap()) + "\n"
}

/// What each flag means: what is special about vectors with it, and what goes wrong.
const NOTES: [(&str, &str, &str); 12] = [
    ("ElementType", "A type of elements.", "Bits of elements in other places."),
    (
        "Size",
        "A number of symbols around that of lanes, strings, groups or chunks.",
        "The last symbols are lost.",
    ),
    ("Alphabet", "An alphabet of unusual size.", "Tables that overflow, or words where none are."),
    ("Special", "Infinities and NaN with payloads.", "Elements handled as numbers."),
    ("Shape", "Dimensions of unusual number or size.", "A wrong number of elements."),
    ("Blocks", "More than one block, or blocks of an unusual size.", "Only the first block is right."),
    ("Field", "An unusual value of a field.", "Reliance on what one writer writes."),
    ("Undefined", "Bytes that mean nothing are not 0.", "Archives of other writers are refused."),
    ("Malformed", "Breaks a rule that a reader must check.", "Wrong elements, reads out of bounds."),
    (
        "OneRule",
        "Breaks one rule alone: sizes, offsets and checksums were made right for it.",
        "A check that is missing, since others notice most damage.",
    ),
    ("Length", "Bytes are missing, or too many.", "Reads out of bounds, or bytes that nobody checks."),
    ("Unsupported", "Sound, but of another version.", "Taken for damage, or decoded as if it were known."),
];

/// Frames as writers write them.
fn everyday_frames(frames: &mut Frames) {
    let trained = bytes(&like_trained(3000, 1));
    let mut valid =
        |id: &str, comment: &str, flag: &str, clauses: &[&str], tensor: &reference::Tensor, codec| {
            let frame = reference::encode(tensor, codec).unwrap();
            frames.valid(id, comment, &[flag], clauses, tensor, &frame);
        };
    for element_type in ElementType::ALL {
        let name = element_type.name().to_lowercase();
        let n = 600;
        let elements = &trained[..n * element_type.bytes()];
        let some = tensor(element_type, &[20, 30], elements);
        let clauses = &["F-4.1", "F-4.2", "F-5.2", "F-5.3", "F-1.1", "F-2.1"];
        valid(&format!("{name}-rans"), "coded bytes by rANS", "ElementType", clauses, &some, 1);
        let some = tensor(element_type, &[7], &elements[..7 * element_type.bytes()]);
        let clauses = &["F-4.1", "F-5.2", "F-7.1"];
        valid(&format!("{name}-raw"), "elements as they are", "ElementType", clauses, &some, 0);
    }
    for n in [1, 31, 32, 33, 63, 64, 65, 1000] {
        let comment = "a number of symbols around that of the lanes";
        let some = tensor(ElementType::U8, &[n as u64], &u8s(n));
        valid(
            &format!("symbols-{n}"),
            comment,
            "Size",
            &["R-3.1", "R-3.2", "R-3.3", "R-4.2", "R-4.3", "R-5.2", "F-7.2", "F-8.1"],
            &some,
            1,
        );
    }
    let one = tensor(ElementType::U8, &[500], &[255; 500]);
    let comment = "an alphabet of one symbol: no words";
    valid("one-symbol", comment, "Alphabet", &["R-1.2", "R-2.2", "R-2.3"], &one, 1);
    let every: Vec<u8> = (0..1024).map(|i| (i % 256) as u8).collect();
    let every = tensor(ElementType::U8, &[1024], &every);
    valid("every-symbol", "all 256 symbols", "Alphabet", &["R-1.2", "R-2.3", "R-2.4"], &every, 1);
    let scalar = tensor(ElementType::F32, &[], &1.0f32.to_le_bytes());
    valid("scalar", "rank 0: one element", "Shape", &["F-3.2"], &scalar, 0);
    let empty = tensor(ElementType::Bf16, &[3, 0], &[]);
    valid("empty", "a dimension of 0: no elements", "Shape", &["F-3.2", "F-3.3", "F-5.1"], &empty, 0);
    let nan: Vec<u8> = (0..64).flat_map(|i| (0x7f80u16 + i).to_le_bytes()).collect();
    let nan = tensor(ElementType::Bf16, &[64], &nan);
    valid("nan", "infinity and NaN with payloads", "Special", &["F-4.1"], &nan, 1);
}

/// One byte of the header, with the checksum made right.
fn damaged_headers(frames: &mut Frames, coded: &FrameSample) {
    let comment = "one byte of the header is another";
    for (id, at, value, clause) in [
        ("magic", 0, 0x88, "F-3.1"),
        ("scale-bits-13", 12, 13, "R-2.1"),
        ("rank-33", 13, 33, "F-3.1"),
        ("reserved-in-header", 15, 1, "F-1.2"),
        ("count", 16, 45, "F-3.2"),
        ("block-size", 24, 1, "F-3.1"),
        ("model-without-codec", 10, 0, "F-3.3"),
    ] {
        let mut sample = coded.clone();
        sample.put(at, &[value]);
        frames.invalid(id, comment, &[], &[clause], &sample.repair());
    }
    for (id, at, value) in
        [("version-2", 8, 2), ("element-type-6", 9, 6), ("codec-2", 10, 2), ("model-3", 11, 3)]
    {
        let mut sample = coded.clone();
        sample.put(at, &[value]);
        frames.unsupported(id, comment, &["F-1.3"], &sample.repair());
    }
}

/// Damage to what follows the header.
fn damaged_blocks(frames: &mut Frames, coded: &FrameSample) {
    let raw = reference::encode(&tensor(ElementType::U8, &[40], &u8s(40)), 0).unwrap();
    let raw = FrameSample::new(raw);
    let one = reference::encode(&tensor(ElementType::U8, &[500], &[255; 500]), 1).unwrap();
    let one = FrameSample::new(one);
    let (first, after) = (coded.blocks[0], coded.blocks[1]);
    let end = coded.frame.len();
    let mut with = |id: &str, comment: &str, clause, from: &FrameSample, at: usize, value: &[u8], repair| {
        let mut sample = from.clone();
        sample.put(at, value);
        let frame = if repair { sample.repair() } else { sample.frame };
        frames.invalid(id, comment, &[], &[clause], &frame);
    };
    with("frequency-sum", "a frequency is another", "R-2.2", coded, 40 + 32, &[9], true);
    let comment = "a dimension is another, and no checksum made right";
    with("header-checksum", comment, "F-3.1", coded, 32, &[45], false);
    with("block-checksum", "a raw part is another", "F-5.2", coded, after - 20, &[0x5a], false);
    with("directory-checksum", "the offset of the block is another", "F-6.2", coded, after, &[0], false);
    let comment = "the offset of the block is another, with the checksum made right";
    with("directory", comment, "F-6.1", coded, after, &[0], true);
    let comment = "reserved bytes of a block are not 0";
    with("reserved-in-block", comment, "F-1.2", coded, first + 12, &[1], true);
    with("padding-in-block", "padding of a block is not 0", "F-1.2", &raw, raw.blocks[1] - 1, &[1], true);
    with("words-too-many", "more words than symbols", "F-5.3", coded, first + 4, &602u32.to_le_bytes(), true);
    let odd = coded.frame[first + 4] + 1;
    with("words-odd", "half a word", "F-5.2", coded, first + 4, &[odd], true);
    with("words-in-raw", "a raw block with words", "F-5.3", &raw, raw.blocks[0] + 4, &[2], true);
    let comment = "the checksum of the coded bytes is another";
    with("coded-checksum", comment, "F-5.4", coded, first + 8, &[0, 0, 0, 0], true);
    let comment = "a raw block with a checksum of coded bytes";
    with("coded-checksum-in-raw", comment, "F-5.2", &raw, raw.blocks[0] + 8, &[1], true);
    let comment = "a state below the start state";
    with("state-too-small", comment, "R-5.3", coded, first + 16, &0x7fffu32.to_le_bytes(), true);
    let state = 0x8000_0000u32.to_le_bytes();
    with("state-too-large", "a state of 2^31", "R-5.3", coded, first + 16, &state, true);
    let state = [coded.frame[first + 17] ^ 1];
    with("state", "another state: words run out", "R-5.4", coded, first + 17, &state, true);
    let comment = "an alphabet of one symbol: decoding ends in the state that it began in, which is not the start state";
    with("last-state", comment, "R-5.5", &one, one.blocks[0] + 16, &[1], true);
    with("number-of-blocks", "the trailer counts another number", "F-6.2", coded, end - 16, &[2], true);
    frames.invalid("empty-string", "no bytes", &["Length"], &["F-3.1"], &[]);
    frames.invalid("truncated", "the last byte is missing", &["Length"], &["F-6.2"], &coded.frame[..end - 1]);
    let longer = [&coded.frame[..], &[0]].concat();
    frames.invalid("longer", "a byte follows", &["Length"], &["F-6.2"], &longer);
}

/// Frames of codec dictionary.
fn dictionary_frames(frames: &mut Frames) {
    for (id, comment, flag, tensor, frame) in dictionary_vectors::valid() {
        let clauses: &[&str] = match flag {
            "ElementType" => &["F-5.5", "F-5.6", "F-4.2", "V-2.1", "V-2.2"],
            "Size" => &["F-5.5", "V-3.1", "V-3.2", "V-3.3"],
            "Alphabet" => &["V-2.4", "V-2.6"],
            "Blocks" => &["F-5.5", "F-5.7", "F-6.1"],
            "Field" => &["V-2.1", "V-2.3", "V-2.4", "F-5.7"],
            _ => &["F-4.1", "F-5.5"],
        };
        frames.valid(&id, comment, &[flag], clauses, &tensor, &frame);
    }
    for (id, comment, clause, frame) in dictionary_vectors::invalid() {
        frames.invalid(id, comment, &[], &[clause], &frame);
    }
}

/// Counts, and the frequencies that makes of them.
fn frequencies() -> Tests {
    let mut normalised = Vec::new();
    let mut counts = |id: &str, comment: &str, counts: &[(u8, u64)], scale_bits: u8| {
        let mut all = [0; 256];
        counts.iter().for_each(|(symbol, count)| all[usize::from(*symbol)] = *count);
        let frequencies = Frequencies::normalise(&all, scale_bits).unwrap();
        let expected = rans::Frequencies::normalise(&all, u32::from(scale_bits));
        assert_eq!(frequencies.as_array().map(u64::from), expected.f, "{id}");
        let mut test = test(&format!("frequencies-{id}"), comment, &[], &["R-2.5"]);
        test["scaleBits"] = scale_bits.into();
        test["counts"] = all.as_slice().into();
        test["frequencies"] = frequencies.as_array().as_slice().into();
        normalised.push(test);
    };
    counts("worked-example", "appendix A of RANS.md", &[(7, 3), (9, 1), (200, 1)], 9);
    counts("one", "one symbol", &[(0, 1)], 12);
    counts("exact", "nothing is missing", &[(0, 1), (1, 1), (2, 2)], 10);
    let comment = "rare symbols get 1 each, at the cost of the frequent one";
    counts("rare", comment, &[(3, u64::MAX >> 8), (4, 1), (5, 1), (255, 2)], 11);
    let skewed: Vec<(u8, u64)> = (0..=255).map(|symbol| (symbol, 1 << (symbol / 8))).collect();
    counts("skewed", "all symbols, some of them 2^31 times as frequent", &skewed, 9);
    let ramp: Vec<(u8, u64)> = (0..=255).map(|symbol| (symbol, u64::from(symbol) * 3 + 1)).collect();
    for scale_bits in 9..=12 {
        counts(&format!("ramp-{scale_bits}"), "all symbols, at each scale", &ramp, scale_bits);
    }
    let equal: Vec<(u8, u64)> = (0..=254).map(|symbol| (symbol, 7)).collect();
    counts("equal", "equal counts: the least symbols get what is missing", &equal, 9);
    let thirds: Vec<(u8, u64)> = (0..200).map(|symbol| (symbol, if symbol < 100 { 3 } else { 1 })).collect();
    counts("two-kinds", "two kinds of symbols: the greatest of several gives first", &thirds, 9);
    normalised
}

/// What a vector says of the elements.
fn facts(tensor: Option<&reference::Tensor>) -> Value {
    json!({
        "elementType": tensor.map(|tensor| ElementType::ALL[usize::from(tensor.element_type)].name()),
        "shape": tensor.map(|tensor| &tensor.shape),
        "sha256": tensor.map(|tensor| hex::encode(Sha256::digest(&tensor.elements))),
    })
}

/// Puts lists that contain only numbers on one line.
fn on_one_line(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(start) = rest.find('[') {
        let (before, list) = rest.split_at(start);
        out.push_str(before);
        let end = list.find(']').unwrap() + 1;
        let inner = &list[1..end - 1];
        if inner.chars().all(|c| c.is_ascii_digit() || c.is_whitespace() || c == ',') {
            let numbers: Vec<&str> = inner.split(',').map(str::trim).collect();
            out.push_str(&format!("[{}]", numbers.join(", ")));
            rest = &list[end..];
        } else {
            out.push('[');
            rest = &list[1..];
        }
    }
    out.push_str(rest);
    out
}
