//! Makes `spec/vectors/delta.json`: deltas with their bases, each checked against the reference and
//! against `df11` before it goes into the file.

use df11::ErrorKind;
use df11::delta::Delta;
use df11_reference::delta::{Method, decode, encode};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::delta_sample::{BYTES, Sample};
use crate::delta_single::{invalid, unsupported};
use crate::weights::Random;

/// Names of element types, by number, and what vectors of them are called.
const TYPES: [&str; 6] = ["U8", "BF16", "F16", "F32", "F8_E4M3", "F8_E5M2"];

/// What each flag means: what is special about vectors with it, and what goes wrong.
const NOTES: [(&str, &str, &str); 10] = [
    ("Method", "A method, and what it has, of a type of elements.", "Bits of elements in other places."),
    ("Size", "A number of elements around that of lanes or chunks.", "The last elements are lost."),
    ("Blocks", "More than one block, or blocks of an unusual size.", "Only the first block is right."),
    ("Grown", "More or fewer elements than the base has.", "Elements of the base where there are none."),
    ("Special", "Elements or tables at the ends of what there may be.", "Elements handled as numbers."),
    ("WrongBase", "The base is another than the delta was made against.", "Wrong elements."),
    ("Malformed", "Breaks a rule that a reader must check.", "Wrong elements, reads out of bounds."),
    (
        "OneRule",
        "Breaks one rule alone: sizes and checksums were made right for it.",
        "A check that is missing, since others notice most damage.",
    ),
    ("Length", "Bytes are missing, or too many.", "Reads out of bounds, or bytes that nobody checks."),
    ("Unsupported", "Sound, but of another version.", "Taken for damage, or decoded as if it were known."),
];

/// A base, and elements of which one in `rare` is another; every other run of 64 is the same.
pub(crate) fn pair(element_type: u8, n: usize, rare: u64) -> (Vec<u8>, Vec<u8>) {
    let size = BYTES[usize::from(element_type)];
    let mut random = Random(u64::from(element_type) + 10 * n as u64);
    let (mut base, mut new) = (Vec::new(), Vec::new());
    for i in 0..n {
        let exponent = 110 + (random.next() & random.next() & 15);
        let b = match size {
            1 => random.next() & random.next() & 0xff,
            2 => exponent << 7 | random.next() & 0x807f,
            _ => exponent << 23 | random.next() & 0x807f_ffff,
        };
        let is_other = i / 64 % 2 == 1 && random.below(rare) == 0;
        let step = if random.below(9) == 0 { random.next() } else { 1 + random.below(5) };
        let r = if is_other { b.wrapping_add(step) } else { b };
        base.extend(&b.to_le_bytes()[..size]);
        new.extend(&r.to_le_bytes()[..size]);
    }
    (base, new)
}

/// A base, and elements that differ from its by the more the smaller their exponent is: it takes
/// several tables.
pub(crate) fn by_exponent(element_type: u8, n: usize) -> (Vec<u8>, Vec<u8>) {
    let size = BYTES[usize::from(element_type)];
    let mut random = Random(u64::from(element_type) + 7);
    let (mut base, mut new) = (Vec::new(), Vec::new());
    for _ in 0..n {
        let level = random.below(8);
        let (bits, low) = match element_type {
            1 => ((112 + level) << 7, 0x807f),
            2 => ((8 + level) << 10, 0x83ff),
            3 => ((112 + level) << 23, 0x807f_ffff),
            4 => ((4 + level) << 3, 0x87),
            _ => ((8 + level) << 2, 0x83),
        };
        let b = bits | random.next() & low;
        let r = b.wrapping_add(random.below(1 << (7 - level)));
        base.extend(&b.to_le_bytes()[..size]);
        new.extend(&r.to_le_bytes()[..size]);
    }
    (base, new)
}

/// Method 2 with blocks of 4,096 elements.
pub(crate) const fn coded(m: usize, map: bool, escapes: bool) -> Method {
    Method::Coded { m, block: 4096, map, escapes }
}

/// Collects vectors.
#[derive(Default)]
pub(crate) struct Deltas {
    tests: Vec<Value>,
    wrong: Vec<String>,
}

/// What a vector is about: its name, a remark, flags and clauses.
pub(crate) struct About<'a>(
    pub(crate) &'a str,
    pub(crate) &'a str,
    pub(crate) &'a [&'a str],
    pub(crate) &'a [&'a str],
);

impl Deltas {
    /// A delta that gives elements with this base.
    pub(crate) fn valid(&mut self, about: &About<'_>, delta: &[u8], base: &[u8]) {
        let ours = Delta::new(delta).and_then(|delta| delta.apply(base));
        let theirs = decode(delta, base);
        let (Ok(ours), Ok((element_type, theirs))) = (&ours, &theirs) else {
            let refusals = (ours.map(|_| ()), theirs.map(|_| ()));
            return self.wrong.push(format!("{}: {refusals:?}", about.0));
        };
        assert!(ours == theirs, "{}", about.0);
        let sha256 = Some(hex::encode(Sha256::digest(ours)));
        let name = TYPES[usize::from(*element_type)];
        self.push(about, "valid", None, delta, base, json!([name, sha256]));
    }

    /// A delta, or a base, that breaks the first of these clauses.
    pub(crate) fn invalid(&mut self, about: &About<'_>, delta: &[u8], base: &[u8]) {
        self.refused(about, "invalid", delta, base);
    }

    /// A delta of another version.
    pub(crate) fn unsupported(&mut self, about: &About<'_>, delta: &[u8], base: &[u8]) {
        self.refused(about, "unsupported", delta, base);
    }

    fn refused(&mut self, about: &About<'_>, result: &str, delta: &[u8], base: &[u8]) {
        let ours = Delta::new(delta).and_then(|delta| delta.apply(base));
        let theirs = decode(delta, base);
        let kind = match &ours {
            // The caller's mistake, and here that of the vector: bytes of the base are missing.
            Err(error) if error.kind() == ErrorKind::InvalidInput => Some(ErrorKind::Truncated),
            Err(error) => Some(error.kind()),
            Ok(_) => None,
        };
        let is_unsupported = kind == Some(ErrorKind::Unsupported);
        let clause = theirs.as_ref().err().map(|violation| violation.clause);
        if kind.is_none() || clause != Some(about.3[0]) || is_unsupported != (result == "unsupported") {
            let refusals = (ours.map(|_| ()), theirs.map(|_| ()));
            return self.wrong.push(format!("{}: {refusals:?}", about.0));
        }
        let kind = kind.map(|kind| format!("{kind:?}"));
        self.push(about, result, kind, delta, base, json!([null, null]));
    }

    fn push(
        &mut self,
        About(id, comment, flags, clauses): &About<'_>,
        result: &str,
        error: Option<String>,
        delta: &[u8],
        base: &[u8],
        facts: Value,
    ) {
        self.tests.push(json!({
            "tcId": self.tests.len() + 1, "id": format!("delta-{id}"), "comment": comment,
            "flags": flags, "clauses": clauses, "result": result, "error": error,
            "delta": hex::encode(delta), "base": hex::encode(base),
            "elementType": facts[0], "sha256": facts[1],
        }));
    }
}

/// Every method, of every type.
fn methods(deltas: &mut Deltas) {
    for (element_type, name) in (0..).zip(TYPES) {
        let size = BYTES[usize::from(element_type)];
        let (base, new) = pair(element_type, 300, 2);
        for (id, comment, new, method, clauses) in [
            ("same", "nothing differs", &base, Method::Same, &["B-4.1", "B-3.1"][..]),
            ("list", "elements one by one", &new, Method::List, &["B-4.2", "B-2.3"]),
            ("coded", "all elements are coded", &new, coded(0, false, false), &["B-5.1", "B-5.2"]),
            ("map", "with a map of chunks", &new, coded(0, true, false), &["B-5.7", "B-5.8"]),
            ("escapes", "with coded escapes", &new, coded(0, true, true), &["B-5.9", "B-5.6"]),
            ("raw", "all bytes but one are raw", &new, coded(size - 1, false, true), &["B-5.2", "B-5.6"]),
            ("frame", "no base is needed", &new, Method::Frame(1), &["B-4.3", "B-3.2"]),
        ] {
            let delta = encode(element_type, new, &base, 300, method).unwrap();
            let id = format!("{}-{id}", name.to_lowercase());
            deltas.valid(&About(&id, comment, &["Method"], clauses), &delta, &base);
        }
        let delta = encode(element_type, &new, &base, 200, coded(0, true, false)).unwrap();
        let (id, comment) =
            (format!("{}-grown", name.to_lowercase()), "200 common elements, and 100 in a frame");
        deltas.valid(&About(&id, comment, &["Grown"], &["B-3.2"]), &delta, &base[..200 * size]);
        if element_type > 0 {
            tables(deltas, element_type, &name.to_lowercase());
        }
    }
}

/// Several tables, chosen by the exponent of the base.
fn tables(deltas: &mut Deltas, element_type: u8, name: &str) {
    let (base, new) = by_exponent(element_type, 3000);
    let delta = encode(element_type, &new, &base, 3000, coded(0, false, false)).unwrap();
    let number = delta[12];
    assert!(number > 2, "{name} has {number} tables");
    let (id, comment) = (format!("{name}-tables"), format!("{number} tables"));
    deltas.valid(&About(&id, &comment, &["Method"], &["B-5.3", "B-5.4", "B-7.2"]), &delta, &base);
}

/// Numbers of elements around those of lanes and chunks, and blocks.
fn sizes(deltas: &mut Deltas) {
    for n in [1, 31, 32, 33, 63, 64, 65, 127, 128, 129] {
        let (base, new) = pair(1, 130, 1);
        // The second chunk, of which not all may be there, differs, and the first does not.
        let (base, new) = (&base[..2 * n], &new[..2 * n]);
        let map = n > 64;
        let delta = encode(1, new, base, n, coded(0, map, true)).unwrap();
        let comment = format!("{n} elements{}", if map { ", with a map" } else { "" });
        let clauses: &[&str] = if map { &["B-5.7", "B-5.8"] } else { &["B-5.8"] };
        deltas.valid(&About(&format!("size-{n}"), &comment, &["Size"], clauses), &delta, base);
    }
    let (base, new) = pair(4, 4096 + 65, 3);
    let delta = encode(4, &new, &base, 4096 + 65, coded(0, true, true)).unwrap();
    let clauses = ["B-5.5", "B-2.1", "B-2.2", "B-7.2"];
    deltas.valid(&About("two-blocks", "the second of 65 elements", &["Blocks"], &clauses), &delta, &base);
    for (block, n) in [(4096, 4096), (4096, 4097), (4160, 8320), (1 << 20, 5000)] {
        let (base, new) = pair(0, n, 9);
        let delta =
            encode(0, &new, &base, n, Method::Coded { m: 0, block, map: true, escapes: false }).unwrap();
        let comment = format!("{n} elements in blocks of {block}");
        let id = format!("block-{block}-{n}");
        deltas.valid(&About(&id, &comment, &["Blocks"], &["B-5.5", "B-3.1"]), &delta, &base);
    }
}

/// Tensors of other sizes than their bases.
fn grown(deltas: &mut Deltas) {
    let (base, new) = pair(1, 300, 2);
    let with_rest = |common: &[u8]| [common, &new[400..]].concat();
    let of = |result: &[u8], method| encode(1, result, &base, 200, method).unwrap();
    let flags = ["Grown"];
    let list = of(&new, Method::List);
    let about = About("grown-list", "a list of 200 elements, and a frame", &flags, &["B-3.2", "B-4.2"]);
    deltas.valid(&about, &list, &base[..400]);
    let same = of(&with_rest(&base[..400]), Method::Same);
    let about = About("grown-same", "the 200 elements of the base, and a frame", &flags, &["B-3.2", "B-4.1"]);
    deltas.valid(&about, &same, &base[..400]);
    let one = encode(1, &new, &base, 1, coded(0, false, false)).unwrap();
    deltas.valid(&About("grown-from-one", "one common element", &flags, &["B-3.2"]), &one, &base[..2]);
    let less = encode(1, &new[..500], &base, 250, coded(0, true, true)).unwrap();
    let about = About("shrunk", "the base has 50 elements more", &flags, &["B-3.2", "B-5.5"]);
    deltas.valid(&about, &less, &base);
    let raw = encode(1, &new, &[], 0, Method::Frame(0)).unwrap();
    deltas.valid(&About("frame-plain", "a frame of codec raw, no base", &flags, &["B-4.3"]), &raw, &[]);
    let empty = encode(1, &[], &[], 0, Method::Frame(0)).unwrap();
    deltas.valid(&About("empty", "no elements", &flags, &["B-4.3", "B-3.2"]), &empty, &[]);
}

/// Elements and fields at the ends of what there may be.
fn special(deltas: &mut Deltas) {
    let flags = ["Special"];
    // Every kind of number, to every other.
    let kinds = [0u16, 0x8000, 1, 0x8001, 0x7f80, 0xff80, 0x7fc1, 0xffff, 0x3f80, 0xbf80, 0x7fff];
    let all = |of: fn(u16, u16) -> u16| -> Vec<u8> {
        kinds.iter().flat_map(|a| kinds.iter().flat_map(move |b| of(*a, *b).to_le_bytes())).collect()
    };
    let (base, new) = (all(|a, _| a), all(|_, b| b));
    for (id, m, escapes) in [("plain", 0, false), ("coded", 0, true), ("raw", 1, false)] {
        let delta = encode(1, &new, &base, 121, coded(m, false, escapes)).unwrap();
        let (id, comment) = (format!("kinds-{id}"), "zeros, infinities and NaN, each to each");
        deltas.valid(&About(&id, comment, &flags, &["B-5.1", "B-1.1"]), &delta, &base);
    }
    let (base, _) = pair(1, 300, 2);
    let one = encode(1, &base, &base, 300, coded(0, false, true)).unwrap();
    let comment = "one symbol, and a table of escapes that nothing needs";
    deltas.valid(&About("one-symbol", comment, &flags, &["B-5.4", "B-5.6"]), &one, &base);
    let none = encode(1, &base, &base, 300, Method::List).unwrap();
    deltas.valid(&About("list-of-none", "no entries", &flags, &["B-4.2"]), &none, &base);
    // Entries 127, 128, 16,383 and 16,384 elements after the one before.
    let base = vec![7; 33_026];
    let mut new = base.clone();
    [127, 256, 16_640, 33_025].into_iter().for_each(|at: usize| new[at] = 9);
    let far = encode(0, &new, &base, new.len(), Method::List).unwrap();
    let comment = "numbers of one, two and three bytes";
    deltas.valid(&About("list-far", comment, &flags, &["B-2.3"]), &far, &base);
    // What the raw part of an escape is does not matter, but for the checksum.
    let (base, new) = pair(3, 300, 2);
    let mut sample = Sample::new(&encode(3, &new, &base, 300, coded(1, false, true)).unwrap());
    let sound = sample.clone();
    let is_free = |at: &usize| {
        let mut other = sound.clone();
        other.blocks[0].raw[*at] ^= 0x55;
        decode(&other.bytes(), &base).is_ok()
    };
    let free: Vec<usize> = (0..sample.blocks[0].raw.len()).filter(is_free).collect();
    assert!(free.len() == sample.blocks[0].escapes as usize && !free.is_empty());
    free.iter().for_each(|at| sample.blocks[0].raw[*at] ^= 0x55);
    let comment = "other raw parts of escapes, which are not used";
    deltas.valid(&About("raw-of-escapes", comment, &flags, &["B-5.8"]), &sample.bytes(), &base);
}

fn wrong_bases(deltas: &mut Deltas) {
    let flags = ["WrongBase", "Malformed", "OneRule"];
    let (base, new) = pair(1, 300, 2);
    let mut other = base.clone();
    other[6] ^= 1;
    for (id, new, method, clause) in [
        ("same", &base, Method::Same, "B-4.1"),
        ("list", &new, Method::List, "B-4.2"),
        ("coded", &new, coded(0, false, false), "B-5.5"),
        ("map", &new, coded(0, true, true), "B-5.5"),
    ] {
        let delta = encode(1, new, &base, 300, method).unwrap();
        let (name, comment) = (format!("base-{id}"), "one bit of the base is another");
        deltas.invalid(&About(&name, comment, &flags, &[clause]), &delta, &other);
        let (name, comment) = (format!("short-{id}"), "the base has an element less");
        deltas.invalid(&About(&name, comment, &flags, &["B-1.1"]), &delta, &base[..598]);
    }
    // No element that is coded: the map alone would go by with any base.
    let (base, new) = pair(4, 4096 + 65, 3);
    let delta = encode(4, &new, &base, 4096 + 65, coded(0, true, true)).unwrap();
    for (id, comment, at) in [
        ("unchanged", "a bit in a chunk that is not coded", 5),
        ("second", "a bit in the second block", 4100),
    ] {
        let mut other = base.clone();
        other[at] ^= 1;
        deltas.invalid(&About(&format!("base-{id}"), comment, &flags, &["B-5.5"]), &delta, &other);
    }
}

/// Makes the file.
///
/// # Panics
///
/// If a delta does not have the stated result.
#[must_use]
pub fn generate() -> String {
    let mut deltas = Deltas::default();
    methods(&mut deltas);
    sizes(&mut deltas);
    grown(&mut deltas);
    special(&mut deltas);
    wrong_bases(&mut deltas);
    unsupported(&mut deltas);
    invalid(&mut deltas);
    assert!(deltas.wrong.is_empty(), "{}", deltas.wrong.join("\n"));
    let mut ids = std::collections::HashSet::new();
    for test in &deltas.tests {
        assert!(ids.insert(test["id"].as_str().unwrap()), "{} is there twice", test["id"]);
        for flag in test["flags"].as_array().unwrap() {
            assert!(NOTES.iter().any(|(name, ..)| flag == name), "no note explains {flag}");
        }
    }
    let note = |(name, description, effect): &(&str, &str, &str)| {
        ((*name).to_owned(), json!({ "description": description, "effect": effect }))
    };
    let notes: serde_json::Map<String, Value> = NOTES.iter().map(note).collect();
    let file = json!({
        "algorithm": "DELTA",
        "schema": "delta.schema.json",
        "specVersion": crate::vectors::VERSION,
        "generator": "cargo run -p df11-tests --bin vectors (df11 0.1.0)",
        "numberOfTests": deltas.tests.len(),
        "header": [
            "DeltaDecode: a reader gives elements with this SHA-256 for valid deltas and bases, and refuses all others; unsupported ones not as damaged.",
            "The base is what stands in base, which may have more elements than the delta needs.",
        ],
        "notes": notes,
        "testGroups": [{
            "type": "DeltaDecode",
            "source": { "name": "df11-reference", "version": env!("CARGO_PKG_VERSION") },
            "tests": deltas.tests,
        }],
    });
    serde_json::to_string_pretty(&file).unwrap() + "\n"
}
