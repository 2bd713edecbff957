//! [`FRAME.md`](../../FRAME.md) as a program.

use crate::dictionary::{Dictionary, Model};
use crate::rans::{self, Block, Frequencies};
use crate::{Violation, rule};

/// F-3.1: the first bytes.
const MAGIC: [u8; 8] = [0x89, 0x44, 0x46, 0x31, 0x31, 0x0d, 0x0a, 0x1a];

/// F-4.1: the bytes of an element, by type.
const BYTES: [usize; 6] = [1, 2, 2, 4, 1, 1];

/// What a frame holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    /// F-4.1.
    pub element_type: u8,
    /// Dimensions, outermost first.
    pub shape: Vec<u64>,
    /// The elements, little-endian.
    pub elements: Vec<u8>,
}

/// F-8.1
#[must_use]
pub fn crc(seed: u32, bytes: &[u8]) -> u32 {
    let mut h = !seed;
    for byte in bytes {
        h ^= u32::from(*byte);
        for _ in 0..8 {
            h = (h >> 1) ^ if h & 1 == 1 { 0xedb8_8320 } else { 0 };
        }
    }
    !h
}

/// Takes fields off the front of a frame, and fails where it ends.
struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Fields<'a> {
    fn bytes(&mut self, clause: &'static str, n: u64) -> Result<&'a [u8], Violation> {
        let left = (self.bytes.len() - self.at) as u64;
        rule(clause, n <= left, || format!("{n} bytes are wanted at {}, but there are {left}", self.at))?;
        let bytes = &self.bytes[self.at..self.at + n as usize];
        self.at += n as usize;
        Ok(bytes)
    }

    /// An integer of `n` bytes (F-2.1).
    fn integer(&mut self, clause: &'static str, n: u64) -> Result<u64, Violation> {
        Ok(self.bytes(clause, n)?.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    }

    /// Reserved bytes (F-1.2).
    fn zeros(&mut self, clause: &'static str, n: u64) -> Result<(), Violation> {
        let zeros = self.bytes(clause, n)?.iter().all(|byte| *byte == 0);
        rule("F-1.2", zeros, || format!("reserved bytes before {} are not 0", self.at))
    }

    /// Padding (F-2.1), counted from `start`.
    fn padding(&mut self, clause: &'static str, start: usize, to: usize) -> Result<(), Violation> {
        self.zeros(clause, ((self.at - start).next_multiple_of(to) - (self.at - start)) as u64)
    }
}

/// F-4.1, F-4.2: the coded bytes of elements, and their raw part, plane by plane.
fn split(element_type: u8, elements: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let size = BYTES[usize::from(element_type)];
    let (mut coded, mut planes) = (Vec::new(), vec![Vec::new(); size - 1]);
    for element in elements.chunks(size) {
        let bits = element.iter().rev().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte));
        let (first, raw) = match element_type {
            1 => ((bits >> 7) as u8, vec![(bits >> 8 & 0x80 | bits & 0x7f) as u8]),
            2 => ((bits >> 8) as u8, vec![bits as u8]),
            3 => {
                let last = bits >> 24 & 0x80 | bits >> 16 & 0x7f;
                ((bits >> 23) as u8, vec![bits as u8, (bits >> 8) as u8, last as u8])
            }
            _ => (bits as u8, vec![]),
        };
        coded.push(first);
        planes.iter_mut().zip(raw).for_each(|(plane, byte)| plane.push(byte));
    }
    (coded, planes.concat())
}

/// What [`split`] took apart.
fn merge(element_type: u8, coded: &[u8], raw: &[u8]) -> Vec<u8> {
    let n = coded.len();
    let element = |i: usize| {
        let (c, r) = (u32::from(coded[i]), |plane: usize| u32::from(raw[plane * n + i]));
        let bits = match element_type {
            1 => (r(0) & 0x80) << 8 | c << 7 | r(0) & 0x7f,
            2 => c << 8 | r(0),
            3 => (r(2) & 0x80) << 24 | c << 23 | (r(2) & 0x7f) << 16 | r(1) << 8 | r(0),
            _ => c,
        };
        bits.to_le_bytes()[..BYTES[usize::from(element_type)]].to_vec()
    };
    (0..n).flat_map(element).collect()
}

/// F-4.1: the coded byte of an element, and its raw part.
pub(crate) fn split_one(element_type: u8, element: &[u8]) -> (u8, Vec<u8>) {
    let (coded, raw) = split(element_type, element);
    (coded[0], raw)
}

/// What [`split_one`] took apart.
pub(crate) fn merge_one(element_type: u8, coded: u8, raw: &[u8]) -> Vec<u8> {
    merge(element_type, &[coded], raw)
}

/// Model 2 of a header (F-3.1), whose codes have `w` bits.
fn read_dictionary(fields: &mut Fields<'_>, w: u64) -> Result<Dictionary, Violation> {
    rule("F-3.1", [8, 12].contains(&w), || format!("codes of {w} bits"))?;
    let marks = fields.bytes("F-3.1", 32)?;
    let alphabet: Vec<u8> = (0..=255u8).filter(|s| marks[usize::from(s / 8)] >> (s % 8) & 1 == 1).collect();
    let first = fields.bytes("F-3.1", alphabet.len() as u64)?;
    let following = fields.bytes("F-3.1", alphabet.len() as u64)?;
    let costs = first.iter().zip(following).map(|(a, b)| (u64::from(*a), u64::from(*b)));
    rule("F-3.3", !alphabet.is_empty() && costs.clone().all(|(a, b)| a > 0 && b > 0), || {
        "a cost of 0, or no alphabet".to_owned()
    })?;
    let (l, r) = (fields.integer("F-3.1", 2)?, fields.integer("F-3.1", 2)? as usize);
    let model = Model { w: w as u32, costs: alphabet.iter().copied().zip(costs).collect(), l, r };
    Dictionary::new(&model)
}

/// F-6.1: offset and checksum of each block.
type Directory = Vec<(u64, u64)>;

/// F-5.5: the elements of a chunk.
const CHUNK: u64 = 4096;

/// Decodes what stands between the header and the directory of a frame of codec dictionary; also
/// returns what the directory must be.
fn chunks(
    fields: &mut Fields<'_>,
    dictionary: &Dictionary,
    element_type: u8,
    n: u64,
    block: u64,
) -> Result<(Vec<u8>, Directory), Violation> {
    let number = n.div_ceil(CHUNK);
    let counts = fields.bytes("F-5.5", 2 * number)?;
    let mut planes = Vec::new();
    for _ in 1..BYTES[usize::from(element_type)] {
        fields.padding("F-5.5", 0, 256)?;
        planes.push(fields.bytes("F-5.5", n)?);
    }
    fields.padding("F-5.5", 0, 16)?;
    let (mut elements, mut directory) = (Vec::new(), Vec::new());
    for j in 0..n.div_ceil(block) {
        let start = fields.at as u64;
        let of_block = (j * block / CHUNK) as usize..number.min((j + 1) * block / CHUNK) as usize;
        let mut covered = counts[2 * of_block.start..2 * of_block.end].to_vec();
        let mut coded = Vec::new();
        for i in of_block {
            let g = u64::from(u16::from_le_bytes([counts[2 * i], counts[2 * i + 1]]));
            let codes = fields.bytes("F-5.5", dictionary.width() * g)?;
            coded.extend(dictionary.decode(codes, CHUNK.min(n - CHUNK * i as u64) as usize)?);
            covered.extend(codes);
        }
        let part = (j * block) as usize..n.min((j + 1) * block) as usize;
        let raw = planes.iter().map(|plane| &plane[part.clone()]).collect::<Vec<_>>().concat();
        covered.extend(&raw);
        // F-5.7
        directory.push((start, u64::from(crc(j as u32, &covered))));
        elements.extend(merge(element_type, &coded, &raw));
    }
    fields.padding("F-5.5", 0, 16)?;
    Ok((elements, directory))
}

/// Reads frequencies (F-3.1, F-3.3), and checks them.
fn read_frequencies(fields: &mut Fields<'_>, scale_bits: u64) -> Result<Frequencies, Violation> {
    let alphabet = fields.bytes("F-3.1", 32)?;
    let mut f = [0; 256];
    for s in (0..256).filter(|s| alphabet[s / 8] >> (s % 8) & 1 == 1) {
        f[s] = fields.integer("F-3.1", 2)?;
        rule("F-3.3", f[s] > 0, || format!("symbol {s} has frequency 0"))?;
    }
    rule("R-2.1", (9..=12).contains(&scale_bits), || format!("{scale_bits} scale bits"))?;
    let sum: u64 = f.iter().sum();
    rule("R-2.2", sum == 1 << scale_bits, || format!("frequencies add up to {sum}"))?;
    Ok(Frequencies { scale_bits: scale_bits as u32, f })
}

/// Reads the directory and the trailer, which end the frame (section 6).
fn read_end(fields: &mut Fields<'_>, directory: Vec<(u64, u64)>, blocks: u64) -> Result<(), Violation> {
    let frame = fields.bytes;
    let start = fields.at;
    for entry in directory {
        let found = (fields.integer("F-6.1", 8)?, fields.integer("F-6.1", 4)?);
        rule("F-6.1", found == entry, || format!("the directory has {found:?} instead of {entry:?}"))?;
    }
    let (offset, number) = (fields.integer("F-6.2", 8)?, fields.integer("F-6.2", 8)?);
    rule("F-6.2", (offset, number) == (start as u64, blocks), || {
        format!("{number} blocks, directory at {offset}")
    })?;
    // F-6.3: a reader need not compare the digest.
    fields.integer("F-6.2", 4)?;
    let found = crc(0, &frame[start..fields.at]);
    rule("F-6.2", fields.integer("F-6.2", 4)? == u64::from(found), || {
        "the trailer's checksum differs".to_owned()
    })?;
    rule("F-6.2", fields.at == frame.len(), || format!("{} bytes follow", frame.len() - fields.at))?;
    Ok(())
}

/// Decodes a frame.
///
/// # Errors
///
/// A rule that it breaks. Which one, where there are several, is not specified.
pub fn decode(frame: &[u8]) -> Result<Tensor, Violation> {
    let mut fields = Fields { bytes: frame, at: 0 };
    // Section 3
    rule("F-3.1", fields.bytes("F-3.1", 8)? == MAGIC, || "other magic".to_owned())?;
    let [version, element_type, codec, model, scale_bits, rank] =
        core::array::from_fn(|_| fields.integer("F-3.1", 1));
    for (known, what) in [
        (version? == 1, "version"),
        ([0, 1, 3].contains(&codec.clone()?), "codec"),
        (model.clone()? <= 2, "model"),
    ] {
        rule("F-1.3", known, || format!("another {what}"))?;
    }
    let (element_type, codec, model, scale_bits, rank) =
        (element_type? as u8, codec?, model?, scale_bits?, rank?);
    rule("F-1.3", element_type < 6, || format!("element type {element_type}"))?;
    rule("F-3.1", rank <= 32, || format!("rank {rank}"))?;
    fields.zeros("F-3.1", 2)?;
    let n = fields.integer("F-3.1", 8)?;
    let block = fields.integer("F-3.1", 4)?;
    rule("F-3.1", block.is_multiple_of(64) && (4096..=65536).contains(&block), || {
        format!("blocks of {block}")
    })?;
    fields.zeros("F-3.1", 4)?;
    let shape = (0..rank).map(|_| fields.integer("F-3.1", 8)).collect::<Result<Vec<_>, _>>()?;
    let size = BYTES[usize::from(element_type)];
    let product = if shape.contains(&0) {
        Some(0)
    } else {
        shape.iter().try_fold(1u64, |product, dimension| product.checked_mul(*dimension))
    };
    let all = product.and_then(|product| product.checked_mul(size as u64));
    rule("F-3.2", product == Some(n) && all.is_some(), || format!("{n} elements of shape {shape:?}"))?;
    // F-3.3
    let fits = [(0, 0), (1, 1), (3, 2)].contains(&(codec, model))
        && (codec == 0 || n > 0)
        && (model != 0 || scale_bits == 0)
        && (codec != 3 || block.is_multiple_of(CHUNK));
    rule("F-3.3", fits, || format!("codec {codec}, model {model}, {scale_bits} scale bits, {n} elements"))?;
    let (mut frequencies, mut dictionary) = (None, None);
    if model == 2 {
        dictionary = Some(read_dictionary(&mut fields, scale_bits)?);
    }
    if model == 1 {
        frequencies = Some(read_frequencies(&mut fields, scale_bits)?);
    }
    fields.padding("F-3.1", 0, 4)?;
    let found = crc(0, &frame[..fields.at]);
    rule("F-3.1", fields.integer("F-3.1", 4)? == u64::from(found), || {
        "the header's checksum differs".to_owned()
    })?;
    fields.padding("F-3.1", 0, 16)?;

    // Section 5
    let blocks = n.div_ceil(block);
    let (mut elements, mut directory) = (Vec::new(), Vec::new());
    if let Some(dictionary) = &dictionary {
        (elements, directory) = chunks(&mut fields, dictionary, element_type, n, block)?;
    }
    let blocks_of_their_own = if dictionary.is_none() { blocks } else { 0 };
    for j in 0..blocks_of_their_own {
        let b = block.min(n - j * block) as usize;
        let start = fields.at;
        let checksum = fields.integer("F-5.2", 4)?;
        let w = fields.integer("F-5.2", 4)?;
        let coded_checksum = fields.integer("F-5.2", 4)?;
        fields.zeros("F-5.2", 4)?;
        match &frequencies {
            None => {
                rule("F-5.3", w == 0 && coded_checksum == 0, || format!("block {j} is raw and has words"))?;
                elements.extend(fields.bytes("F-5.2", (b * size) as u64)?);
            }
            Some(frequencies) => {
                rule("F-5.3", w.is_multiple_of(2) && w <= 2 * b as u64, || format!("{w} bytes of words"))?;
                let mut states = [0; 32];
                for state in &mut states {
                    *state = fields.integer("F-5.2", 4)?;
                }
                let word = |bytes: &[u8]| u16::from_le_bytes([bytes[0], bytes[1]]);
                let words = fields.bytes("F-5.2", w)?.chunks(2).map(word).collect();
                fields.padding("F-5.2", start, 16)?;
                let raw = fields.bytes("F-5.2", (b * (size - 1)) as u64)?;
                let coded = rans::decode(frequencies, &Block { states, words }, b)?;
                let found = crc(0, &coded);
                rule("F-5.4", coded_checksum == u64::from(found), || {
                    format!("block {j} decodes to other bytes")
                })?;
                elements.extend(merge(element_type, &coded, raw));
            }
        }
        fields.padding("F-5.2", start, 16)?;
        let found = crc(j as u32, &frame[start + 4..fields.at]);
        rule("F-5.2", checksum == u64::from(found), || format!("the checksum of block {j} differs"))?;
        directory.push((start as u64, checksum));
    }

    read_end(&mut fields, directory, blocks)?;
    Ok(Tensor { element_type, shape, elements })
}

/// Appends what stands between the header and the directory of a frame of codec dictionary; returns
/// what the directory is to be.
fn put_chunks(
    frame: &mut Vec<u8>,
    dictionary: &Dictionary,
    tensor: &Tensor,
    block: usize,
) -> Result<Vec<(u64, [u8; 4])>, Violation> {
    let pad = |frame: &mut Vec<u8>, to: usize| frame.resize(frame.len().next_multiple_of(to), 0);
    let (coded, raw) = split(tensor.element_type, &tensor.elements);
    let codes = coded.chunks(CHUNK as usize).map(|chunk| dictionary.encode(chunk));
    let codes = codes.collect::<Result<Vec<_>, _>>()?;
    let counts: Vec<[u8; 2]> = codes
        .iter()
        .map(|codes| ((codes.len() / dictionary.width() as usize) as u16).to_le_bytes())
        .collect();
    frame.extend(counts.concat());
    for plane in raw.chunks(coded.len()) {
        pad(frame, 256);
        frame.extend(plane);
    }
    pad(frame, 16);
    let mut directory = Vec::new();
    let chunks = block / CHUNK as usize;
    for (j, (codes, counts)) in codes.chunks(chunks).zip(counts.chunks(chunks)).enumerate() {
        let part = j * block..coded.len().min((j + 1) * block);
        let raw = raw.chunks(coded.len()).flat_map(|plane| &plane[part.clone()]).copied();
        let covered = counts.concat().into_iter().chain(codes.concat()).chain(raw).collect::<Vec<_>>();
        directory.push((frame.len() as u64, crc(j as u32, &covered).to_le_bytes()));
        frame.extend(codes.concat());
    }
    pad(frame, 16);
    Ok(directory)
}

/// Encodes a tensor by F-7.2, with this codec if there is something to code: 0 raw, 1 rANS, 3
/// dictionary.
///
/// # Errors
///
/// F-3.2 if the elements are not as many as the shape says.
pub fn encode(tensor: &Tensor, codec: u8) -> Result<Vec<u8>, Violation> {
    let n = tensor.shape.iter().product::<u64>();
    let mut counts = [0; 256];
    split(tensor.element_type, &tensor.elements).0.iter().for_each(|c| counts[usize::from(*c)] += 1);
    let coding = match codec {
        1 if n > 0 => Coding::Rans(Box::new(Frequencies::normalise(&counts, 12))),
        3 if n > 0 => Coding::Dictionary(Model::of_counts(&counts, if n < 65536 { 8 } else { 12 })),
        _ => Coding::Raw,
    };
    encode_as(tensor, &coding, 65536)
}

/// A codec and its model (F-3.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Coding {
    /// Codec 0.
    Raw,
    /// Codec 1.
    Rans(Box<Frequencies>),
    /// Codec 3.
    Dictionary(Model),
}

/// Encodes a tensor in blocks of this many elements.
///
/// # Errors
///
/// F-3.2 if the elements are not as many as the shape says, V-2.1 or V-2.5 if the coding is
/// not for them.
pub fn encode_as(tensor: &Tensor, coding: &Coding, block: usize) -> Result<Vec<u8>, Violation> {
    let Tensor { element_type, shape, elements } = tensor;
    let size = BYTES[usize::from(*element_type)];
    let n = shape.iter().product::<u64>();
    rule("F-3.2", elements.len() as u64 == n * size as u64, || format!("{} bytes", elements.len()))?;
    let (frequencies, model) = match coding {
        Coding::Raw => (None, None),
        Coding::Rans(frequencies) => (Some(frequencies.as_ref()), None),
        Coding::Dictionary(model) => (None, Some(model)),
    };
    let (codec, number, bits) = match coding {
        Coding::Raw => (0, 0, 0),
        Coding::Rans(frequencies) => (1, 1, frequencies.scale_bits as u8),
        Coding::Dictionary(model) => (3, 2, model.w as u8),
    };
    let pad = |frame: &mut Vec<u8>, to: usize| frame.resize(frame.len().next_multiple_of(to), 0);

    let mut frame = MAGIC.to_vec();
    frame.extend([1, *element_type, codec, number, bits, shape.len() as u8, 0, 0]);
    frame.extend(n.to_le_bytes());
    frame.extend((block as u64).to_le_bytes());
    shape.iter().for_each(|dimension| frame.extend(dimension.to_le_bytes()));
    if let Some(Frequencies { f, .. }) = frequencies {
        for eight in f.chunks(8) {
            frame.push((0..8).map(|i| u8::from(eight[i] > 0) << i).sum());
        }
        f.iter().filter(|f| **f > 0).for_each(|f| frame.extend((*f as u16).to_le_bytes()));
    }
    if let Some(Model { costs, l, r, .. }) = model {
        let mut marks = [0; 32];
        costs.keys().for_each(|s| marks[usize::from(s / 8)] |= 1 << (s % 8));
        frame.extend(marks);
        frame.extend(costs.values().map(|(a, _)| *a as u8));
        frame.extend(costs.values().map(|(_, b)| *b as u8));
        frame.extend((*l as u16).to_le_bytes());
        frame.extend((*r as u16).to_le_bytes());
    }
    pad(&mut frame, 4);
    frame.extend(crc(0, &frame).to_le_bytes());
    pad(&mut frame, 16);
    let mut directory = Vec::new();
    if let Some(model) = model {
        directory = put_chunks(&mut frame, &Dictionary::new(model)?, tensor, block)?;
    }
    for (j, elements) in elements.chunks(block * size).enumerate().filter(|_| model.is_none()) {
        let start = frame.len();
        frame.extend([0; 16]);
        match frequencies {
            None => frame.extend(elements),
            Some(frequencies) => {
                let (coded, raw) = split(*element_type, elements);
                let block = rans::encode(frequencies, &coded)?;
                frame[start + 4..start + 8].copy_from_slice(&(2 * block.words.len() as u32).to_le_bytes());
                frame[start + 8..start + 12].copy_from_slice(&crc(0, &coded).to_le_bytes());
                block.states.iter().for_each(|state| frame.extend((*state as u32).to_le_bytes()));
                block.words.iter().for_each(|word| frame.extend(word.to_le_bytes()));
                pad(&mut frame, 16);
                frame.extend(raw);
            }
        }
        pad(&mut frame, 16);
        let checksum = crc(j as u32, &frame[start + 4..]).to_le_bytes();
        frame[start..start + 4].copy_from_slice(&checksum);
        directory.push((start as u64, checksum));
    }
    let start = frame.len();
    for (offset, checksum) in &directory {
        frame.extend(offset.to_le_bytes());
        frame.extend(checksum);
    }
    frame.extend((start as u64).to_le_bytes());
    frame.extend((directory.len() as u64).to_le_bytes());
    frame.extend(crc(0, elements).to_le_bytes());
    frame.extend(crc(0, &frame[start..]).to_le_bytes());
    Ok(frame)
}
