//! [`FRAME.md`](../../FRAME.md) as a program.

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
    for (known, what) in
        [(version? == 1, "version"), (codec.clone()? <= 1, "codec"), (model.clone()? <= 1, "model")]
    {
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
    let fits = codec == model && (codec == 0 || n > 0) && (model == 1 || scale_bits == 0);
    rule("F-3.3", fits, || format!("codec {codec}, model {model}, {scale_bits} scale bits, {n} elements"))?;
    let mut frequencies = None;
    if model == 1 {
        let alphabet = fields.bytes("F-3.1", 32)?;
        let mut f = [0; 256];
        for s in (0..256).filter(|s| alphabet[s / 8] >> (s % 8) & 1 == 1) {
            f[s] = fields.integer("F-3.1", 2)?;
            rule("F-3.3", f[s] > 0, || format!("symbol {s} has frequency 0"))?;
        }
        rule("R-2.1", (9..=12).contains(&scale_bits), || format!("{scale_bits} scale bits"))?;
        let sum: u64 = f.iter().sum();
        rule("R-2.2", sum == 1 << scale_bits, || format!("frequencies add up to {sum}"))?;
        frequencies = Some(Frequencies { scale_bits: scale_bits as u32, f });
    }
    fields.padding("F-3.1", 0, 4)?;
    let found = crc(0, &frame[..fields.at]);
    rule("F-3.1", fields.integer("F-3.1", 4)? == u64::from(found), || {
        "the header's checksum differs".to_owned()
    })?;
    fields.padding("F-3.1", 0, 16)?;

    // Section 5
    let mut elements = Vec::new();
    let mut directory = Vec::new();
    let blocks = n.div_ceil(block);
    for j in 0..blocks {
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

    // Section 6
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
    Ok(Tensor { element_type, shape, elements })
}

/// Encodes a tensor by F-7.2, with rANS if there is something to code and `coded` says so.
///
/// # Errors
///
/// F-3.2 if the elements are not as many as the shape says.
pub fn encode(tensor: &Tensor, coded: bool) -> Result<Vec<u8>, Violation> {
    const B: usize = 65536;
    let Tensor { element_type, shape, elements } = tensor;
    let size = BYTES[usize::from(*element_type)];
    let n = shape.iter().product::<u64>();
    rule("F-3.2", elements.len() as u64 == n * size as u64, || format!("{} bytes", elements.len()))?;
    let mut frequencies = None;
    if coded && n > 0 {
        let mut counts = [0; 256];
        split(*element_type, elements).0.iter().for_each(|c| counts[usize::from(*c)] += 1);
        frequencies = Some(Frequencies::normalise(&counts, 12));
    }
    let codec = u8::from(frequencies.is_some());
    let pad = |frame: &mut Vec<u8>, to: usize| frame.resize(frame.len().next_multiple_of(to), 0);

    let mut frame = MAGIC.to_vec();
    frame.extend([1, *element_type, codec, codec, 12 * codec, shape.len() as u8, 0, 0]);
    frame.extend(n.to_le_bytes());
    frame.extend((B as u64).to_le_bytes());
    shape.iter().for_each(|dimension| frame.extend(dimension.to_le_bytes()));
    if let Some(Frequencies { f, .. }) = &frequencies {
        for eight in f.chunks(8) {
            frame.push((0..8).map(|i| u8::from(eight[i] > 0) << i).sum());
        }
        f.iter().filter(|f| **f > 0).for_each(|f| frame.extend((*f as u16).to_le_bytes()));
    }
    pad(&mut frame, 4);
    frame.extend(crc(0, &frame).to_le_bytes());
    pad(&mut frame, 16);
    let mut directory = Vec::new();
    for (j, elements) in elements.chunks(B * size).enumerate() {
        let start = frame.len();
        frame.extend([0; 16]);
        match &frequencies {
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
