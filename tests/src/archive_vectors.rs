//! Archives of dietgpu for `spec/vectors/frames.json`: sound ones, and such as break one rule.

use df11::dietgpu::{self, Archive, Checksum, FloatArchive};
use df11::frame::ElementType;
use half::{bf16, f16};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::frame_vectors::{Tests, test};

/// The bytes of appendix A of `DIETGPU.md`.
#[must_use]
pub fn generated(len: usize) -> Vec<u8> {
    let mut x = 1u32;
    let mut next = || {
        x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let v = x >> 8;
        ((v >> 16 & v >> 8 & v & 255) + 100) as u8
    };
    (0..len).map(|_| next()).collect()
}

/// The elements of appendix A, and some whose bits all differ.
fn floats(element_type: ElementType, n: usize) -> Vec<u8> {
    let few = [1.0f32, -2.5, 0.15625, -0.0, 300.0];
    if n == few.len() {
        let bytes = |value: f32| match element_type {
            ElementType::F16 => f16::from_f32(value).to_le_bytes().to_vec(),
            ElementType::F32 => value.to_le_bytes().to_vec(),
            _ => bf16::from_f32(value).to_le_bytes().to_vec(),
        };
        return few.into_iter().flat_map(bytes).collect();
    }
    generated(n * element_type.bytes())
}

/// What a reader gives: the bytes, or the elements as bytes.
fn decode(archive: &[u8], element_type: Option<ElementType>) -> Result<Vec<u8>, df11::Error> {
    if element_type.is_some() {
        let archive = FloatArchive::new(archive)?;
        let mut out = vec![0; archive.len() * archive.element_type().bytes()];
        return archive.decode_into(&mut out).map(|()| out);
    }
    let archive = Archive::new(archive)?;
    let mut out = vec![0; archive.len()];
    archive.decode_into(&mut out).map(|()| out)
}

#[derive(Default)]
struct Archives(Tests);

impl Archives {
    #[expect(clippy::too_many_arguments, reason = "one for each field of a vector")]
    fn push(
        &mut self,
        id: &str,
        comment: &str,
        flags: &[&str],
        clauses: &[&str],
        archive: &[u8],
        is_float: Option<ElementType>,
        expected: Option<&[u8]>,
    ) {
        let decoded = decode(archive, is_float);
        let mut test = test(&format!("archive-{id}"), comment, flags, clauses);
        let kind = match (&decoded, expected) {
            (Ok(decoded), Some(expected)) => {
                assert!(decoded == expected, "{id}");
                None
            }
            (Err(error), None) => {
                assert!(error.clause().is_some_and(|clause| clauses.contains(&clause)), "{id}: {error}");
                Some(format!("{:?}", error.kind()))
            }
            (decoded, _) => panic!("{id}: {:?}", decoded.as_ref().err()),
        };
        test["result"] = if kind.is_none() { "valid" } else { "invalid" }.into();
        test["error"] = kind.into();
        test["archive"] = hex::encode(archive).into();
        test["elementType"] = is_float.map(|element_type| element_type.name()).into();
        test["sha256"] = expected.map(|bytes| hex::encode(Sha256::digest(bytes))).into();
        self.0.push(test);
    }
}

pub(crate) fn archives() -> Vec<Value> {
    let mut archives = Archives::default();
    sound(&mut archives);
    undefined(&mut archives);
    broken(&mut archives);
    broken_floats(&mut archives);
    archives.0
}

/// Archives that are new in version 1.1.0 of the vectors: words that belong to no block.
pub(crate) fn later_archives() -> Vec<Value> {
    let mut archives = Archives::default();
    let add = |archive: &mut [u8], at: usize, by: u32| {
        let field = u32::from_le_bytes(*archive[at..].first_chunk().unwrap()) + by;
        archive[at..at + 4].copy_from_slice(&field.to_le_bytes());
    };
    let bytes = generated(4100);
    for (id, comment, bytes, words) in [
        ("words-8-unused", "8 words behind those of the last block, and W counts them", &bytes[..], 8u32),
        ("words-1-unused", "a word behind those of the last block, and W counts it", &bytes, 1),
        ("words-8-of-none", "no bytes, and 8 words", &[], 8),
    ] {
        let mut archive = dietgpu::encode(bytes, 10, Checksum::Stated).unwrap();
        add(&mut archive, 12, words);
        archive.resize(archive.len() + 2 * words as usize, 0);
        archives.push(id, comment, ONE, &["G-2.3", "G-2.2"], &archive, None, None);
    }
    let elements = floats(ElementType::Bf16, 17);
    let mut archive = dietgpu::encode_floats(ElementType::Bf16, &elements, 10, Checksum::Stated).unwrap();
    add(&mut archive, 48 + 12, 8);
    archive.extend([0; 16]);
    let comment = "the archive of coded bytes has 8 words behind those of its last block";
    let clauses = &["G-2.3", "G-2.2"];
    archives.push("float-words-8-unused", comment, ONE, clauses, &archive, Some(ElementType::Bf16), None);
    archives.0
}

/// The archives of appendix A, and some more.
fn sound(archives: &mut Archives) {
    let sizes = [
        (0, 10),
        (1, 10),
        (31, 10),
        (32, 10),
        (33, 9),
        (33, 10),
        (33, 11),
        (4095, 10),
        (4096, 10),
        (4097, 10),
        (10_000, 9),
        (10_000, 10),
        (10_000, 11),
    ];
    let clauses = ["G-2.1", "G-2.2", "G-2.3", "G-2.4", "G-2.5", "G-3.1", "G-4.1"];
    for (n, scale_bits) in sizes {
        let bytes = generated(n);
        let archive = dietgpu::encode(&bytes, scale_bits, Checksum::Stated).unwrap();
        let comment = format!("{n} bytes, {scale_bits} scale bits");
        let id = format!("{n}-{scale_bits}");
        archives.push(&id, &comment, &["Size"], &clauses, &archive, None, Some(&bytes));
    }
    let bytes = vec![7; 5000];
    let archive = dietgpu::encode(&bytes, 10, Checksum::Stated).unwrap();
    let comment = "one symbol: no words";
    archives.push("one-symbol", comment, &["Alphabet"], &clauses, &archive, None, Some(&bytes));
    let bytes: Vec<u8> = (0..9000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let archive = dietgpu::encode(&bytes, 9, Checksum::Stated).unwrap();
    archives.push("every-symbol", "all symbols", &["Alphabet"], &clauses, &archive, None, Some(&bytes));
    for element_type in [ElementType::F16, ElementType::Bf16, ElementType::F32] {
        for n in [5, 17, 4100, 0] {
            let elements = floats(element_type, n);
            let archive = dietgpu::encode_floats(element_type, &elements, 10, Checksum::Stated).unwrap();
            let name = element_type.name().to_lowercase();
            let clauses = ["G-5.1", "G-5.2", "G-5.3"];
            let id = format!("{name}-{n}");
            let comment = format!("{n} elements");
            archives.push(
                &id,
                &comment,
                &["ElementType"],
                &clauses,
                &archive,
                Some(element_type),
                Some(&elements),
            );
        }
    }
}

/// Bytes that mean nothing, all of them ones.
fn undefined(archives: &mut Archives) {
    let bytes = generated(4100);
    let clauses = ["G-1.2", "G-2.2"];
    for (id, checksum) in [("undefined", Checksum::Stated), ("undefined-without-checksum", Checksum::Omitted)]
    {
        let mut archive = dietgpu::encode(&bytes, 10, checksum).unwrap();
        let field = |at: usize| u32::from_le_bytes(*archive[at..].first_chunk().unwrap()) as usize;
        let directory = 544 + 128 * 2;
        let words = directory + 16;
        let mut places: Vec<usize> = [17, 18, 19].into_iter().chain(24..32).collect();
        places.extend((20..24).filter(|_| checksum == Checksum::Omitted));
        for block in 0..2 {
            let number = field(directory + 8 * block) & 0xffff;
            let first = words + 2 * field(directory + 8 * block + 4);
            places.extend(first + 2 * number..first + 2 * number.next_multiple_of(8));
        }
        places.iter().for_each(|at| archive[*at] = 0xff);
        archive[16] |= 0xe0;
        let comment = "bytes that are undefined are all ones";
        archives.push(id, comment, &["Undefined"], &clauses, &archive, None, Some(&bytes));
    }
    // An odd number of blocks: the last entry of the directory is undefined.
    let bytes = generated(100);
    let mut archive = dietgpu::encode(&bytes, 10, Checksum::Stated).unwrap();
    archive[544 + 128 + 8..544 + 128 + 16].fill(0xff);
    let comment = "the entry that fills up the directory is all ones";
    archives.push("undefined-entry", comment, &["Undefined"], &clauses, &archive, None, Some(&bytes));
    let mut archive = dietgpu::encode(&[], 10, Checksum::Stated).unwrap();
    archive[32..544].fill(0xff);
    let comment = "no bytes: frequencies are undefined";
    archives.push(
        "undefined-frequencies",
        comment,
        &["Undefined"],
        &["G-1.2", "G-2.4"],
        &archive,
        None,
        Some(&[]),
    );
    let mut archive = dietgpu::encode(&bytes, 10, Checksum::Stated).unwrap();
    archive.extend([1, 2, 3]);
    let comment = "bytes follow the archive";
    archives.push("followed", comment, &["Undefined"], &["G-2.6"], &archive, None, Some(&bytes));
    for element_type in [ElementType::F16, ElementType::F32] {
        let elements = floats(element_type, 17);
        let mut archive = dietgpu::encode_floats(element_type, &elements, 10, Checksum::Omitted).unwrap();
        archive[9..16].fill(0xff);
        archive[8] |= 0xe0;
        // The padding of the planes.
        if element_type == ElementType::F32 {
            archive[50..64].fill(0xff);
            archive[81..96].fill(0xff);
        } else {
            archive[33..48].fill(0xff);
        }
        let id = format!("undefined-{}", element_type.name().to_lowercase());
        let comment = "bytes that are undefined are all ones, in a float archive without checksum";
        let clauses = ["G-1.2", "G-5.1"];
        archives.push(&id, comment, &["Undefined"], &clauses, &archive, Some(element_type), Some(&elements));
    }
}

const ONE: &[&str] = &["Malformed", "OneRule"];

/// ANS archives, each with one field that is wrong.
fn broken(archives: &mut Archives) {
    let bytes = generated(4100);
    let sound = dietgpu::encode(&bytes, 10, Checksum::Stated).unwrap();
    let directory = 544 + 128 * 2;
    let mut with = |id: &str, comment: &str, clauses: &[&str], at: usize, value: &[u8]| {
        let mut archive = sound.clone();
        archive[at..at + value.len()].copy_from_slice(value);
        archives.push(id, comment, ONE, clauses, &archive, None, None);
    };
    let add = |at: usize, by: i64| {
        let field = u32::from_le_bytes(*sound[at..].first_chunk().unwrap());
        ((i64::from(field) + by) as u32).to_le_bytes()
    };
    with("magic", "another magic", &["G-2.2"], 2, &[0x0e]);
    with("version", "version 2", &["G-2.2"], 0, &[2]);
    with("blocks", "one block more than the bytes need", &["G-2.2"], 4, &add(4, 1));
    with("bytes", "one byte more than the blocks hold", &["G-2.3"], 8, &add(8, 1));
    with("words-8-more", "8 words more than the blocks have", &["G-2.2"], 12, &add(12, 8));
    with("words-8-less", "8 words less than the blocks have", &["G-2.2"], 12, &add(12, -8));
    with("scale-bits-12", "12 scale bits", &["G-2.4", "R-2.1"], 16, &[0x1c]);
    with("scale-bits-8", "8 scale bits", &["G-2.4", "R-2.1"], 16, &[0x18]);
    with("frequency", "a frequency is one more", &["G-2.4", "R-2.2"], 32 + 200, &[sound[232] + 1]);
    with("checksum", "another checksum", &["G-4.1"], 20, &[sound[20] ^ 1]);
    with("checksum-high", "a checksum of more than 8 bits", &["G-4.1"], 23, &[0x80]);
    with("state-small", "a state below the start state", &["R-5.3"], 544 + 128 + 4, &0x7fffu32.to_le_bytes());
    with("state-large", "a state of 2^31", &["R-5.3"], 544, &0x8000_0000u32.to_le_bytes());
    with("state-idle", "the state of a lane without a symbol", &["R-5.5"], 544 + 128 + 4 * 31, &[1]);
    with("entry-bytes", "a block of 4,097 bytes", &["G-2.3"], directory, &add(directory, 1 << 16));
    with("entry-start", "words that begin 8 words late", &["G-2.3"], directory + 12, &add(directory + 12, 8));
    let comment = "a word of the first block less, of which the padding takes the place";
    with("entry-word-less", comment, &["R-5.4", "R-5.5"], directory, &add(directory, -1));
    let comment = "a word of the first block more, of the padding";
    with("entry-word-more", comment, &["R-5.4", "R-5.5"], directory, &add(directory, 1));
    let mut empty = dietgpu::encode(&[], 10, Checksum::Stated).unwrap();
    empty[16] = 0x18;
    let comment = "no bytes, and 8 scale bits";
    archives.push("scale-bits-8-empty", comment, ONE, &["G-2.4", "R-2.1"], &empty, None, None);
    empty[16] = 0x1a;
    empty[20] = 1;
    archives.push("checksum-empty", "no bytes, and a checksum of 1", ONE, &["G-4.1"], &empty, None, None);
    for len in [0, 3, 31, 543, 544, 700, sound.len() - 1] {
        let id = format!("cut-{len}");
        let comment = format!("the first {len} bytes");
        archives.push(&id, &comment, &["Malformed", "Length"], &["G-2.2"], &sound[..len], None, None);
    }
}

/// Float archives, each with one field that is wrong.
fn broken_floats(archives: &mut Archives) {
    let of = |element_type| {
        dietgpu::encode_floats(element_type, &floats(element_type, 17), 10, Checksum::Stated).unwrap()
    };
    let sound = of(ElementType::Bf16);
    let mut with = |id: &str, comment: &str, clauses: &[&str], at: usize, value: &[u8]| {
        let mut archive = sound.clone();
        archive[at..at + value.len()].copy_from_slice(value);
        archives.push(id, comment, ONE, clauses, &archive, Some(ElementType::Bf16), None);
    };
    let coded = 48;
    with("float-magic", "the magic of an ANS archive", &["G-2.2"], 0, &dietgpu::MAGIC.to_le_bytes());
    with("float-type-0", "type 0", &["G-5.1"], 8, &[0x10]);
    with("float-type-4", "type 4", &["G-5.1"], 8, &[0x14]);
    with("float-count", "one element more than there are coded bytes", &["G-5.1"], 4, &[18]);
    with("float-checksum", "another checksum", &["G-4.1", "G-5.3"], 12, &[sound[12] ^ 4]);
    with("float-checksum-high", "a checksum of more than 8 bits", &["G-4.1", "G-5.3"], 14, &[1]);
    with("float-coded-magic", "another magic of the coded bytes", &["G-2.2"], coded, &[2]);
    let sum = dietgpu::encode(
        &{
            let archive = FloatArchive::new(&sound).unwrap();
            let mut elements = vec![0; 2 * archive.len()];
            archive.decode_into(&mut elements).unwrap();
            elements
                .as_chunks()
                .0
                .iter()
                .map(|pair| (u16::from_le_bytes(*pair) >> 7) as u8)
                .collect::<Vec<_>>()
        },
        10,
        Checksum::Stated,
    )
    .unwrap();
    let inner = [&sound[..coded], &sum[..]].concat();
    let comment = "the archive of coded bytes has a checksum of its own, a right one";
    archives.push("float-inner-checksum", comment, ONE, &["G-5.1"], &inner, Some(ElementType::Bf16), None);
    for element_type in [ElementType::Bf16, ElementType::F32] {
        let sound = of(element_type);
        for len in [0, 15, 20, sound.len() - 1] {
            let id = format!("float-cut-{}-{len}", element_type.name().to_lowercase());
            let comment = format!("the first {len} bytes");
            let flags = &["Malformed", "Length"];
            let clauses = &["G-2.2", "G-5.1"];
            archives.push(&id, &comment, flags, clauses, &sound[..len], Some(element_type), None);
        }
    }
}
