//! Makes `spec/vectors/delta.json`: deltas with their bases, each checked against the reference and
//! against `df11` before it goes into the file.

use df11::ErrorKind;
use df11::delta::Delta;
use df11_reference::delta::{Method, decode, encode};
use df11_reference::frame::{Tensor, crc};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::weights::Random;

/// The bytes of an element, by type.
const BYTES: [usize; 6] = [1, 2, 2, 4, 1, 1];

/// A base, and elements of which one in `rare` is another; every other run of 64 is the same.
fn pair(element_type: u8, n: usize, rare: u64) -> (Vec<u8>, Vec<u8>) {
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

/// Collects deltas.
struct Deltas(Vec<Value>, Vec<String>);

impl Deltas {
    fn push(&mut self, id: &str, comment: &str, result: &str, clauses: &[&str], delta: &[u8], base: &[u8]) {
        let ours = Delta::new(delta).and_then(|delta| delta.apply(base));
        let theirs = decode(delta, base);
        let mut test = json!({
            "tcId": self.0.len() + 1, "id": id, "comment": comment, "clauses": clauses, "result": result,
            "delta": hex::encode(delta), "base": hex::encode(base),
        });
        let as_stated = match (result, &ours, &theirs) {
            ("valid", Ok(ours), Ok((_, theirs))) => {
                test["sha256"] = hex::encode(Sha256::digest(ours)).into();
                ours == theirs
            }
            ("valid", ..) | (_, Ok(_), _) | (_, _, Ok(_)) => false,
            (_, Err(ours), Err(theirs)) => {
                let is_unsupported = ours.kind() == ErrorKind::Unsupported;
                is_unsupported == (result == "unsupported") && theirs.clause == clauses[0]
            }
        };
        if !as_stated {
            self.1.push(format!("{id}: {:?}, {:?}", ours.map(|_| ()), theirs.map(|_| ())));
        }
        self.0.push(test);
    }
}

/// A delta of method 2 that is changed in one place, with all checksums made right.
struct Sample {
    bytes: Vec<u8>,
    /// Where the checksum of the header is, and how many blocks there are.
    header: usize,
    blocks: usize,
}

impl Sample {
    fn new(bytes: Vec<u8>, blocks: usize) -> Sample {
        let is_checksum = |at: &usize| bytes[*at..*at + 4] == crc(0, &bytes[..*at]).to_le_bytes();
        let header = (44..bytes.len() - 3).find(is_checksum).unwrap();
        Sample { bytes, header, blocks }
    }

    fn entry(&self, block: usize) -> usize {
        self.header - 28 * (self.blocks - block)
    }

    fn field(&self, block: usize, field: usize) -> usize {
        let at = self.entry(block) + 4 * field;
        u32::from_le_bytes(self.bytes[at..at + 4].try_into().unwrap()) as usize
    }

    fn put_field(&mut self, block: usize, field: usize, value: u32) {
        let at = self.entry(block) + 4 * field;
        self.bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }

    fn start(&self) -> usize {
        (self.header + 4).next_multiple_of(4)
    }

    /// Makes the checksums of the first block and of the header right.
    fn repair(mut self) -> Vec<u8> {
        let [flags, raw, size] = [13, 11, 9].map(|at| usize::from(self.bytes[at]));
        let (size, coded) = (BYTES[size], flags >> 1);
        let [w, v, e, k] = [0, 1, 2, 3].map(|i| self.field(0, i));
        let states = if coded == 1 && e > 0 { 256 } else { 128 };
        let len = (states + 2 * (w + v) + (size - coded) * e + raw * k).next_multiple_of(4);
        let end = (self.start() + len).min(self.bytes.len());
        let stored = crc(0, &self.bytes[self.start()..end]);
        self.put_field(0, 4, stored);
        self.seal()
    }

    /// Makes the checksum of the header right.
    fn seal(mut self) -> Vec<u8> {
        let check = crc(0, &self.bytes[..self.header]);
        self.bytes[self.header..self.header + 4].copy_from_slice(&check.to_le_bytes());
        self.bytes
    }
}

const NAMES: [&str; 6] = ["u8", "bf16", "f16", "f32", "f8_e4m3", "f8_e5m2"];

fn valid(deltas: &mut Deltas) {
    for (element_type, name) in (0..).zip(NAMES) {
        let size = BYTES[usize::from(element_type)];
        let (base, new) = pair(element_type, 300, 2);
        let coded = |m, map, escapes| Method::Coded { m, block: 4096, map, escapes };
        for (id, comment, new, method, clauses) in [
            ("same", "nothing differs", &base, Method::Same, &["B-4.1", "B-3.1"][..]),
            ("list", "elements one by one", &new, Method::List, &["B-4.2", "B-2.3"]),
            ("coded", "all elements are coded", &new, coded(0, false, false), &["B-5.1", "B-5.2", "B-5.3"]),
            ("map", "with a map of chunks", &new, coded(0, true, false), &["B-5.7", "B-5.8"]),
            ("escapes", "with coded escapes", &new, coded(0, true, true), &["B-5.9", "B-5.6"]),
            ("raw", "all bytes but one are raw", &new, coded(size - 1, false, true), &["B-5.2", "B-5.6"]),
            ("frame", "no base is needed", &new, Method::Frame(1), &["B-4.3", "B-3.2"]),
        ] {
            let delta = encode(element_type, new, &base, 300, method).unwrap();
            deltas.push(&format!("delta-{name}-{id}"), comment, "valid", clauses, &delta, &base);
        }
        let delta = encode(element_type, &new, &base, 200, coded(0, true, false)).unwrap();
        let comment = "200 common elements, and 100 in a frame";
        deltas.push(
            &format!("delta-{name}-grown"),
            comment,
            "valid",
            &["B-3.2"],
            &delta,
            &base[..200 * size],
        );
    }
    // Every kind of number, to every other.
    let kinds = [0u16, 0x8000, 1, 0x8001, 0x7f80, 0xff80, 0x7fc1, 0xffff, 0x3f80, 0xbf80, 0x7fff];
    let all = |of: fn(u16, u16) -> u16| -> Vec<u8> {
        kinds.iter().flat_map(|a| kinds.iter().flat_map(move |b| of(*a, *b).to_le_bytes())).collect()
    };
    let (base, new) = (all(|a, _| a), all(|_, b| b));
    for (id, escapes) in [("plain", false), ("coded", true)] {
        let method = Method::Coded { m: 0, block: 4096, map: false, escapes };
        let delta = encode(1, &new, &base, 121, method).unwrap();
        let comment = "zeros, infinities and NaN, each to each";
        deltas.push(&format!("delta-kinds-{id}"), comment, "valid", &["B-5.1", "B-1.1"], &delta, &base);
    }
    let (base, new) = pair(4, 4096 + 65, 3);
    let method = Method::Coded { m: 0, block: 4096, map: true, escapes: true };
    let delta = encode(4, &new, &base, 4096 + 65, method).unwrap();
    let clauses = ["B-5.5", "B-2.1", "B-2.2", "B-7.2"];
    deltas.push("delta-two-blocks", "the second of 65 elements", "valid", &clauses, &delta, &base);
}

fn wrong_bases(deltas: &mut Deltas) {
    let (base, new) = pair(1, 300, 2);
    let mut other = base.clone();
    other[6] ^= 1;
    for (id, new, method) in [
        ("same", &base, Method::Same),
        ("list", &new, Method::List),
        ("coded", &new, Method::Coded { m: 0, block: 4096, map: false, escapes: false }),
        ("map", &new, Method::Coded { m: 0, block: 4096, map: true, escapes: true }),
    ] {
        let delta = encode(1, new, &base, 300, method).unwrap();
        let comment = "one bit of the base is another";
        deltas.push(&format!("delta-base-{id}"), comment, "wrong-base", &["B-5.5"], &delta, &other);
        let comment = "the base has an element less";
        deltas.push(&format!("delta-short-{id}"), comment, "wrong-base", &["B-1.1"], &delta, &base[..598]);
    }
}

fn invalid(deltas: &mut Deltas) {
    let (base, new) = pair(1, 300, 2);
    let of = |map, escapes| {
        let method = Method::Coded { m: 0, block: 4096, map, escapes };
        Sample::new(encode(1, &new, &base, 300, method).unwrap(), 1)
    };
    let with = |change: &dyn Fn(&mut Sample)| {
        let mut sample = of(true, true);
        change(&mut sample);
        sample
    };
    for (id, comment, result, clause, at, value) in [
        ("magic", "another first byte", "invalid", "B-3.1", 0, 0x88),
        ("version", "version 2", "unsupported", "B-1.3", 8, 2),
        ("type", "element type 6", "unsupported", "B-1.3", 9, 6),
        ("method", "method 4", "unsupported", "B-1.3", 10, 4),
        ("raw", "two raw bytes of two", "invalid", "B-3.1", 11, 2),
        ("no-tables", "no tables", "invalid", "B-3.1", 12, 0),
        ("tables", "eight tables and one of escapes", "invalid", "B-3.1", 12, 8),
        ("flags", "another bit", "invalid", "B-3.1", 13, 7),
        ("reserved", "a reserved byte", "invalid", "B-1.2", 14, 1),
        ("common", "more common elements than there are", "invalid", "B-3.1", 25, 2),
        ("block", "blocks of 4,097", "invalid", "B-3.1", 32, 1),
    ] {
        let sample = with(&|sample| sample.bytes[at] = value).seal();
        deltas.push(&format!("delta-{id}"), comment, result, &[clause], &sample, &base);
    }
    type Change = fn(&mut Sample);
    let cases: [(&str, &str, &str, Change); 9] = [
        ("states", "a state of 0", "R-5.3", |s| {
            let at = s.start();
            s.bytes[at..at + 4].fill(0);
        }),
        ("last-state", "a state that does not end where it began", "R-5.5", |s| {
            let at = s.start() + 4 * 31;
            s.bytes[at..at + 4].copy_from_slice(&0x7fff_0000u32.to_le_bytes());
        }),
        ("coded-number", "an element less", "B-5.8", |s| s.put_field(0, 3, s.field(0, 3) as u32 - 1)),
        ("result", "another checksum of the result", "B-5.5", |s| s.put_field(0, 6, 1)),
        ("map-frequency", "a frequency of 0", "B-5.4", |s| {
            let at = s.entry(0) - 2;
            s.bytes[at..at + 2].fill(0);
        }),
        ("map-all", "a frequency of 2,048", "B-5.4", |s| {
            let at = s.entry(0) - 2;
            s.bytes[at..at + 2].copy_from_slice(&2048u16.to_le_bytes());
        }),
        ("threshold", "a threshold of 0", "B-5.4", |s| s.bytes[44] = 0),
        ("table", "a frequency that is too great", "B-5.4", |s| {
            let at = 44 + usize::from(s.bytes[12]) - 1;
            s.bytes[at] = 255;
        }),
        ("padding", "padding after the header", "B-1.2", |s| {
            let at = s.header + 4;
            assert!(at % 4 > 0, "there is no padding");
            s.bytes[at] = 1;
        }),
    ];
    for (id, comment, clause, change) in cases {
        // Of what is only one table, no threshold can be damaged.
        let mut sample = if id == "padding" { padded() } else { of(true, true) };
        if id == "threshold" && sample.bytes[12] == 1 {
            sample = many_tables();
        }
        change(&mut sample);
        let base = if id == "threshold" { &pair(1, 4000, 1).0 } else { &base };
        deltas.push(&format!("delta-{id}"), comment, "invalid", &[clause], &sample.repair(), base);
    }
    let whole = of(true, true).bytes;
    let header = of(true, true).header;
    let mut damaged = whole.clone();
    damaged[header] ^= 1;
    deltas.push("delta-header-checksum", "one bit", "invalid", &["B-3.1"], &damaged, &base);
    let mut damaged = whole.clone();
    damaged[header + 24] ^= 1;
    deltas.push("delta-block-checksum", "one bit", "invalid", &["B-5.5"], &damaged, &base);
    let cut = &whole[..whole.len() - 4];
    deltas.push("delta-truncated", "four bytes less", "invalid", &["B-5.6"], cut, &base);
    let longer = [&whole[..], &[0; 4]].concat();
    deltas.push("delta-longer", "four bytes more", "invalid", &["B-3.3"], &longer, &base);
    lists(deltas, &base, &new);
}

/// A sample with padding after its header.
fn padded() -> Sample {
    let (base, new) = pair(1, 300, 2);
    [(true, true), (true, false), (false, true), (false, false)]
        .into_iter()
        .map(|(map, escapes)| {
            let method = Method::Coded { m: 0, block: 4096, map, escapes };
            Sample::new(encode(1, &new, &base, 300, method).unwrap(), 1)
        })
        .find(|sample| sample.header % 4 > 0)
        .unwrap()
}

/// A sample with thresholds.
fn many_tables() -> Sample {
    let (base, mut new) = pair(1, 4000, 1);
    // Small weights change by more units.
    for (b, r) in base.chunks(2).zip(new.chunks_mut(2)) {
        let bits = u16::from_le_bytes([b[0], b[1]]);
        let step = if bits >> 7 & 255 < 116 { 1 + bits % 31 } else { 0 };
        r.copy_from_slice(&bits.wrapping_add(step).to_le_bytes());
    }
    let method = Method::Coded { m: 0, block: 4096, map: false, escapes: false };
    let sample = Sample::new(encode(1, &new, &base, 4000, method).unwrap(), 1);
    assert!(sample.bytes[12] > 1);
    sample
}

fn lists(deltas: &mut Deltas, base: &[u8], new: &[u8]) {
    let list = encode(1, new, base, 300, Method::List).unwrap();
    let seal = |mut bytes: Vec<u8>| {
        let end = bytes.len() - 4;
        let check = crc(0, &bytes[..end]);
        bytes[end..].copy_from_slice(&check.to_le_bytes());
        bytes
    };
    let mut beyond = list.clone();
    let last = beyond.len() - 7;
    beyond[last] = 127;
    let clauses = ["B-4.2"];
    deltas.push("delta-list-beyond", "an entry after the last", "invalid", &clauses, &seal(beyond), base);
    let mut long = list.clone();
    long.splice(48..49, [long[48] | 128, 0]);
    deltas.push("delta-list-number", "a number that ends in 0", "invalid", &["B-2.3"], &seal(long), base);
    let mut wrong = list;
    wrong[40] ^= 1;
    deltas.push("delta-list-result", "another checksum", "invalid", &["B-4.2"], &seal(wrong), base);
    let tensor = Tensor { element_type: 1, shape: vec![300], elements: new.to_vec() };
    let framed = encode(1, new, base, 0, Method::Frame(1)).unwrap();
    let dictionary = df11_reference::frame::encode(&tensor, 3).unwrap();
    let bytes = [&framed[..40], &dictionary].concat();
    deltas.push("delta-dictionary", "a frame of codec dictionary", "invalid", &["B-3.2"], &bytes, base);
    let fewer = Tensor { element_type: 1, shape: vec![299], elements: new[2..].to_vec() };
    let bytes = [&framed[..40], &df11_reference::frame::encode(&fewer, 1).unwrap()].concat();
    deltas.push("delta-frame-short", "a frame of 299 elements", "invalid", &["B-3.2"], &bytes, base);
}

/// Makes the file.
///
/// # Panics
///
/// If a delta does not have the stated result.
#[must_use]
pub fn generate() -> String {
    let mut deltas = Deltas(Vec::new(), Vec::new());
    valid(&mut deltas);
    wrong_bases(&mut deltas);
    invalid(&mut deltas);
    assert!(deltas.1.is_empty(), "{}", deltas.1.join("\n"));
    let file = json!({
        "specification": "DELTA.md", "version": "1.0.0", "numberOfTests": deltas.0.len(),
        "notes": "valid: the delta gives, with the base, elements of this SHA-256. wrong-base, invalid, \
                  unsupported: a reader refuses.",
        "testGroups": [{ "type": "delta", "tests": deltas.0 }],
    });
    serde_json::to_string_pretty(&file).unwrap() + "\n"
}
