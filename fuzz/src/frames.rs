//! Frames for the targets: a writer that follows `spec/FRAME.md` and shares nothing with the core's
//! (but for the words of rANS, which `rans_blocks` compares with the reference), edits of frames,
//! and every way of reading them.

use std::ops::Range;

use df11::frame::{Codec, DecodeTable, ElementType, Frame, Header};
use df11::hazmat::rans::{EncodeTable, Frequencies, STATES_BYTES, words_bound};
use df11::{Error, ErrorKind, Level};
use df11_reference::frame as reference;

use crate::soon;

/// The most bytes of elements that are decoded.
const MOST: usize = 16 << 20;

/// The most bytes of a frame that the reference decodes, too.
const REFERENCE: usize = 8 << 10;

/// The most elements that are written again.
const MOST_AGAIN: usize = 1 << 20;

/// F-6.2: bytes of the trailer.
const TRAILER: usize = 24;

/// F-6.1: bytes of the directory for each block.
const ENTRY: usize = 12;

/// F-8.1, for each byte.
const CRC: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let (mut h, mut bit) = (byte as u32, 0);
        while bit < 8 {
            h = (h >> 1) ^ if h & 1 == 1 { 0xedb8_8320 } else { 0 };
            bit += 1;
        }
        table[byte] = h;
        byte += 1;
    }
    table
};

/// F-8.1
pub fn crc(seed: u32, bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!seed, |h, byte| h >> 8 ^ CRC[usize::from(h as u8 ^ byte)])
}

/// What a frame says besides its elements.
#[derive(Clone, Debug)]
pub struct Parameters {
    /// What the elements are.
    pub element_type: ElementType,
    /// F-3.1: elements of a block.
    pub block: usize,
    /// The dimensions.
    pub shape: Vec<u64>,
    /// The model of codec rANS; without it, the codec is raw.
    pub frequencies: Option<Frequencies>,
}

/// A frame, and where its parts begin.
#[derive(Clone, Debug)]
pub struct Written {
    /// The frame.
    pub bytes: Vec<u8>,
    /// Where fields begin.
    pub places: Vec<usize>,
    /// Where blocks are.
    pub blocks: Vec<Range<usize>>,
}

/// The coded bytes of elements, and the planes of their raw part (F-4.1, F-4.2).
fn split(element_type: ElementType, elements: &[u8]) -> (Vec<u8>, Vec<Vec<u8>>) {
    let bits: Vec<u32> = match element_type.bytes() {
        1 => elements.iter().copied().map(u32::from).collect(),
        2 => elements.as_chunks().0.iter().map(|bytes| u32::from(u16::from_le_bytes(*bytes))).collect(),
        _ => elements.as_chunks().0.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect(),
    };
    let all = |part: fn(u32) -> u32| bits.iter().map(|x| part(*x) as u8).collect();
    match element_type {
        ElementType::Bf16 => (all(|x| x >> 7), vec![all(|x| x >> 8 & 0x80 | x & 0x7f)]),
        ElementType::F16 => (all(|x| x >> 8), vec![all(|x| x)]),
        ElementType::F32 => {
            (all(|x| x >> 23), vec![all(|x| x), all(|x| x >> 8), all(|x| x >> 24 & 0x80 | x >> 16 & 0x7f)])
        }
        _ => (all(|x| x), vec![]),
    }
}

/// How often each coded byte occurs.
pub fn counts(element_type: ElementType, elements: &[u8]) -> [u64; 256] {
    let mut counts = [0; 256];
    split(element_type, elements).0.iter().for_each(|&coded| counts[usize::from(coded)] += 1);
    counts
}

/// So many bytes: the pattern again and again, each time with some bits of the mask changed.
pub fn repeated(pattern: &[u8], mask: u8, len: usize) -> Vec<u8> {
    let pattern = if pattern.is_empty() { &[0] } else { pattern };
    let mut bytes = Vec::with_capacity(len);
    for i in 0..len.div_ceil(pattern.len()) as u64 {
        let change = (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8 & mask;
        bytes.extend(pattern.iter().take(len - bytes.len()).map(|byte| byte ^ change));
    }
    bytes
}

fn pad(bytes: &mut Vec<u8>, to: usize) {
    bytes.resize(bytes.len().next_multiple_of(to), 0);
}

impl Parameters {
    /// Those of a frame that the core takes. Panics if they break a rule of section 3.
    fn of(bytes: &[u8], header: &Header) -> Self {
        let block = field::<4>(bytes, 24).map_or(0, u32::from_le_bytes) as usize;
        assert!(block.is_multiple_of(64) && (4096..=65536).contains(&block), "blocks of {block}");
        let shape: Vec<u64> = header.shape().collect();
        let product = shape.iter().try_fold(1u64, |product, &dimension| product.checked_mul(dimension));
        // F-3.2
        let n = if shape.contains(&0) { Some(0) } else { product };
        assert_eq!(n, Some(header.len() as u64));
        let frequencies = header.frequencies().cloned();
        if let Some(frequencies) = &frequencies {
            let sum: u32 = frequencies.as_array().iter().map(|&frequency| u32::from(frequency)).sum();
            assert!((9..=12).contains(&frequencies.scale_bits()) && sum == 1 << frequencies.scale_bits());
            assert!(header.len() > 0);
        }
        Parameters { element_type: header.element_type(), block, shape, frequencies }
    }

    /// Writes a frame.
    pub fn write(&self, elements: &[u8]) -> Written {
        let (element_type, rans) = (self.element_type, &self.frequencies);
        let mut bytes = vec![0x89, 0x44, 0x46, 0x31, 0x31, 0x0d, 0x0a, 0x1a, 1];
        let mut places = vec![0, 8, 9, 10, 11, 12, 13, 14, 16, 24, 28];
        // F-3.1, F-3.3
        let number = ElementType::ALL.iter().position(|other| *other == element_type).unwrap() as u8;
        let (is_rans, scale_bits) =
            (u8::from(rans.is_some()), rans.as_ref().map_or(0, Frequencies::scale_bits));
        bytes.extend([number, is_rans, is_rans, scale_bits, self.shape.len() as u8, 0, 0]);
        bytes.extend((elements.len() as u64 / element_type.bytes() as u64).to_le_bytes());
        bytes.extend((self.block as u32).to_le_bytes());
        bytes.extend([0; 4]);
        for dimension in &self.shape {
            places.push(bytes.len());
            bytes.extend(dimension.to_le_bytes());
        }
        if let Some(frequencies) = rans {
            places.push(bytes.len());
            let alphabet: Vec<u8> = (0..=255).filter(|&s| frequencies.of(s) > 0).collect();
            let mut bits = [0u8; 32];
            alphabet.iter().for_each(|s| bits[usize::from(s / 8)] |= 1 << (s % 8));
            bytes.extend(bits);
            places.push(bytes.len());
            bytes.extend(alphabet.iter().flat_map(|&s| frequencies.of(s).to_le_bytes()));
        }
        pad(&mut bytes, 4);
        places.push(bytes.len());
        bytes.extend(crc(0, &bytes).to_le_bytes());
        pad(&mut bytes, 16);

        let table = rans.as_ref().map(EncodeTable::new);
        let (mut blocks, mut directory) = (Vec::new(), Vec::new());
        for (j, elements) in elements.chunks(self.block * element_type.bytes()).enumerate() {
            let start = bytes.len();
            let checksum = self.block(j as u32, elements, table.as_ref(), &mut bytes, &mut places);
            directory.extend((start as u64).to_le_bytes());
            directory.extend(checksum);
            blocks.push(start..bytes.len());
        }
        // F-6.1, F-6.2
        let start = bytes.len();
        places.extend((start..start + directory.len()).step_by(ENTRY).flat_map(|entry| [entry, entry + 8]));
        bytes.extend(directory);
        places.extend([0, 8, 16, 20].map(|field| bytes.len() + field));
        bytes.extend((start as u64).to_le_bytes());
        bytes.extend((blocks.len() as u64).to_le_bytes());
        bytes.extend(crc(0, elements).to_le_bytes());
        bytes.extend(crc(0, &bytes[start..]).to_le_bytes());
        Written { bytes, places, blocks }
    }

    /// Writes block `j` (F-5.2); returns its checksum.
    fn block(
        &self,
        j: u32,
        elements: &[u8],
        table: Option<&EncodeTable>,
        bytes: &mut Vec<u8>,
        places: &mut Vec<usize>,
    ) -> [u8; 4] {
        let start = bytes.len();
        places.extend([0, 4, 8, 12, 16].map(|field| start + field));
        bytes.extend([0; 16]);
        if let Some(table) = table {
            let (coded, planes) = split(self.element_type, elements);
            let (mut states, mut words) = ([0; STATES_BYTES], vec![0; words_bound(coded.len())]);
            let used =
                table.encode_into(&coded, &mut states, &mut words).expect("every coded byte has a frequency");
            bytes[start + 4..start + 8].copy_from_slice(&(used as u32).to_le_bytes());
            bytes[start + 8..start + 12].copy_from_slice(&crc(0, &coded).to_le_bytes());
            bytes.extend(states);
            places.push(bytes.len());
            bytes.extend(&words[..used]);
            places.push(bytes.len());
            pad(bytes, 16);
            places.push(bytes.len());
            planes.iter().for_each(|plane| bytes.extend(plane));
        } else {
            bytes.extend(elements);
        }
        places.push(bytes.len());
        pad(bytes, 16);
        let checksum = crc(j, &bytes[start + 4..]).to_le_bytes();
        bytes[start..start + 4].copy_from_slice(&checksum);
        checksum
    }
}

/// Bytes at an offset, if there are so many.
fn field<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

fn set(bytes: &mut [u8], at: usize, value: &[u8]) {
    if let Some(to) = bytes.get_mut(at..at.saturating_add(value.len())) {
        to.copy_from_slice(value);
    }
}

/// Where the checksum of the header is, as far as that can be told (F-3.1).
pub fn header_checksum(bytes: &[u8]) -> Option<usize> {
    let [model, _, rank] = field(bytes, 11)?;
    let mut at = 32 + 8 * usize::from(rank);
    if model == 1 || model == 2 {
        let alphabet: [u8; 32] = field(bytes, at)?;
        at += 32 + 2 * alphabet.iter().map(|byte| byte.count_ones() as usize).sum::<usize>();
        at += if model == 2 { 4 } else { 0 };
    }
    Some(at.next_multiple_of(4))
}

/// Makes the checksums of a frame right again, as far as its parts can be found; so that what else
/// is wrong is seen. If told so, links the blocks first: the directory and the trailer say where
/// they are by what they say about themselves.
pub fn repair(bytes: &mut [u8], links: bool) -> Option<()> {
    let checksum = header_checksum(bytes)?;
    let header = crc(0, bytes.get(..checksum)?).to_le_bytes();
    set(bytes, checksum, &header);
    let start = (checksum + 4).next_multiple_of(16);
    let [_, element_type, codec] = field(bytes, 8)?;
    let size = [1, 2, 2, 4, 1, 1].get(usize::from(element_type)).copied()?;
    let (n, block) =
        (u64::from_le_bytes(field(bytes, 16)?), u64::from(u32::from_le_bytes(field(bytes, 24)?)));
    let blocks = usize::try_from(n.checked_add(block.checked_sub(1)?)? / block).ok()?;
    let end = bytes.len().checked_sub(TRAILER)?;
    let directory = end.checked_sub(blocks.checked_mul(ENTRY)?)?;
    if codec == 3 {
        repair_chunks(bytes, links, start, n, block)?;
        let trailer = crc(0, &bytes[directory..end + 20]).to_le_bytes();
        set(bytes, end + 20, &trailer);
        return Some(());
    }
    let mut at = start as u64;
    for j in 0..blocks {
        let entry = directory + ENTRY * j;
        if links {
            set(bytes, entry, &at.to_le_bytes());
            let words = field(bytes, (at as usize).saturating_add(4)).map_or(0, u32::from_le_bytes);
            let elements = block.min(n - j as u64 * block);
            let (states, raw) = if codec == 1 { (128, size - 1) } else { (0, size) };
            let words_end = (at + 16 + states + u64::from(words)).next_multiple_of(16);
            at = (words_end + elements * raw).next_multiple_of(16);
        }
    }
    if links {
        set(bytes, end, &(directory as u64).to_le_bytes());
        set(bytes, end + 8, &(blocks as u64).to_le_bytes());
    }
    for j in 0..blocks {
        let entry = directory + ENTRY * j;
        let from = u64::from_le_bytes(field(bytes, entry)?) as usize;
        let to = if j + 1 < blocks {
            u64::from_le_bytes(field(bytes, entry + ENTRY)?) as usize
        } else {
            directory
        };
        if let Some(rest) = from.checked_add(4).and_then(|from| bytes.get(from..to.min(directory))) {
            let checksum = crc(j as u32, rest).to_le_bytes();
            set(bytes, from, &checksum);
            set(bytes, entry + 8, &checksum);
        }
    }
    let trailer = crc(0, &bytes[directory..end + 20]).to_le_bytes();
    set(bytes, end + 20, &trailer);
    Some(())
}

/// What [`repair`] does to blocks of chunks (F-5.5 to F-5.7), whose header ends at `start`.
fn repair_chunks(bytes: &mut [u8], links: bool, start: usize, n: u64, block: u64) -> Option<()> {
    let [_, element_type, _, _, width] = field(bytes, 8)?;
    let size = [1, 2, 2, 4, 1, 1].get(usize::from(element_type)).copied()?;
    let (n, block) = (usize::try_from(n).ok()?, block as usize);
    let blocks = n.checked_next_multiple_of(block)? / block;
    let end = bytes.len().checked_sub(TRAILER)?;
    let directory = end.checked_sub(blocks.checked_mul(ENTRY)?)?;
    let chunks = n.div_ceil(4096);
    let mut at = start.checked_add(chunks.checked_mul(2)?)?;
    let mut planes = Vec::new();
    for _ in 1..size {
        planes.push(at.checked_next_multiple_of(256)?);
        at = planes.last()?.checked_add(n)?;
    }
    let mut codes = at.checked_next_multiple_of(16)?;
    for j in 0..blocks {
        let (first, last) = (j * block / 4096, chunks.min((j + 1) * block / 4096));
        let groups = bytes.get(start + 2 * first..start + 2 * last)?.to_vec();
        let number: usize = groups.as_chunks().0.iter().map(|g| usize::from(u16::from_le_bytes(*g))).sum();
        let entry = directory + ENTRY * j;
        if links {
            set(bytes, entry, &(codes as u64).to_le_bytes());
        }
        let from = u64::from_le_bytes(field(bytes, entry)?) as usize;
        let to = from.checked_add(number * usize::from(width))?;
        let mut checksum = crc(crc(j as u32, &groups), bytes.get(from..to)?);
        for plane in &planes {
            checksum = crc(checksum, bytes.get(plane + j * block..plane + n.min((j + 1) * block))?);
        }
        set(bytes, entry + 8, &checksum.to_le_bytes());
        codes = to;
    }
    if links {
        set(bytes, end, &(directory as u64).to_le_bytes());
        set(bytes, end + 8, &(blocks as u64).to_le_bytes());
    }
    Some(())
}

/// Bytes of an [`edit`].
pub const EDIT: usize = 8;

/// Changes a frame somewhere: at a field or anywhere, by at most four bytes, or by more.
pub fn edit(frame: &mut Vec<u8>, written: &Written, edit: [u8; EDIT]) {
    let [kind, place, value @ ..] = edit;
    let [a, b, bytes @ ..] = value;
    let near = u16::from_le_bytes([a, b]) as usize;
    let value = u32::from_le_bytes(bytes);
    if frame.is_empty() {
        return;
    }
    let at = match written.places.get(usize::from(place) % written.places.len().max(1)) {
        Some(start) if kind < 0x40 => (start + near % 4).min(frame.len() - 1),
        Some(start) if kind < 0x80 => (start + near % STATES_BYTES).min(frame.len() - 1),
        _ => (near | usize::from(place) << 16) % frame.len(),
    };
    let end = (at + 4).min(frame.len());
    match kind % 16 {
        0..4 => frame[at] ^= 1 << (value % 8),
        4 => frame[at] = value as u8,
        5 => frame[at..end].copy_from_slice(&bytes[..end - at]),
        6 | 7 => {
            let old = field(frame, at).map_or(0, u32::from_le_bytes);
            set(frame, at, &old.wrapping_add(i32::from(value as u16 as i16) as u32).to_le_bytes());
        }
        8 => {
            let len = frame.len();
            (0..16).for_each(|i| frame.swap((at + i) % len, (value as usize % len + i) % len));
        }
        9 => drop(frame.drain(at..(at + 1 + value as usize % 64).min(frame.len()))),
        10 => drop(frame.splice(at..at, std::iter::repeat_n(bytes[3], 1 + value as usize % 64))),
        11 => frame.truncate(at),
        12 => frame.extend(bytes),
        13 => {
            // A piece of the frame, of whole lines of 16 bytes, to where another begins.
            let other = (value as usize % frame.len()) / 16 * 16;
            let len = (16 * (1 + near % 64)).min(frame.len() - other.max(at));
            frame.copy_within(other..other + len, at);
        }
        _ => {
            // Two blocks exchanged.
            let number = |number: usize| written.blocks.get(number % written.blocks.len().max(1)).cloned();
            if let (Some(a), Some(b)) = (number(usize::from(place)), number(value as usize)) {
                let (a, b) = if a.start <= b.start { (a, b) } else { (b, a) };
                if a.start < b.start && b.end <= frame.len() {
                    let parts = [&frame[b.clone()], &frame[a.end..b.start], &frame[a.clone()]].concat();
                    frame[a.start..b.end].copy_from_slice(&parts);
                }
            }
        }
    }
}

/// Reads any bytes as a frame, in every way, by the reference, too, if it is soon done; all must
/// agree. Returns the elements, if it is one, and not too large.
pub fn verdict(bytes: &[u8]) -> Option<Vec<u8>> {
    let found = by_core(bytes);
    let is_soon =
        |header: &Header| header.frequencies().is_none_or(|frequencies| header.len() <= soon(frequencies));
    let header = Header::parse(bytes).ok().map(|(header, _)| header);
    if bytes.len() <= REFERENCE && header.as_ref().is_none_or(is_soon) {
        match (&found, reference::decode(bytes)) {
            (Some(elements), Ok(tensor)) => {
                let header = header.expect("a frame has a header");
                assert_eq!(tensor.element_type, header.element_type().number());
                assert!(header.shape().eq(tensor.shape) && tensor.elements == *elements);
            }
            (None, Err(_)) => {}
            (found, expected) => panic!("core accepts: {}, reference: {:?}", found.is_some(), expected.err()),
        }
    }
    found
}

/// Reads any bytes as a frame in every way that the core has.
fn by_core(bytes: &[u8]) -> Option<Vec<u8>> {
    let parsed = Header::parse(bytes);
    let frame = match Frame::new(bytes) {
        Ok(frame) => frame,
        Err(error) => {
            assert!(error.clause().is_some(), "{error:?}");
            if let Ok((header, start)) = parsed {
                // Whatever follows.
                for (block, prefix) in bytes[start..].as_chunks().0.iter().enumerate().take(8) {
                    let _ = header.block_bytes(block, prefix);
                    let _ = header.block_bytes(usize::MAX - block, prefix);
                }
            }
            return None;
        }
    };
    let (header, start) = parsed.expect("a frame has a header");
    assert_eq!(&header, frame.header());
    // More bytes could make it valid, and nothing else is wrong.
    let error = Header::parse(&bytes[..bytes.len() % start]).expect_err("a part of a header");
    assert_eq!(error.kind(), ErrorKind::Truncated);
    // A block has 16 bytes (with a dictionary 8) and 12 in the directory at the least, and 65,536
    // elements at the most.
    let size = header.element_type().bytes();
    assert_eq!(frame.elements_bytes(), header.len() * size);
    assert!(header.blocks() <= bytes.len() / 20 && frame.elements_bytes() <= header.blocks() * 65536 * size);
    if frame.elements_bytes() > MOST {
        return None;
    }

    let mut table = Box::new(DecodeTable::new());
    let mut elements = vec![0xa5; frame.elements_bytes()];
    let whole = frame.decode_in(&mut table, &mut elements);
    let (mut errors, mut found) = (Vec::new(), vec![whole]);
    for level in Level::all() {
        let mut other = vec![0x5a; frame.elements_bytes()];
        found.push(frame.clone().at_level(level).decode_in(&mut table, &mut other));
        assert!(whole.is_err() || other == elements, "{}", level.name());
    }
    for block in 0..header.blocks() {
        let range = header.block_range(block);
        let mut part = vec![0; range.len() * size];
        match frame.decode_block_into(&table, block, &mut part) {
            Ok(()) => assert!(whole.is_err() || part == elements[range.start * size..range.end * size]),
            Err(error) => errors.push(error),
        }
    }
    // The error of one of the blocks that have one; levels may come to another first.
    for found in found {
        match found {
            Ok(()) => assert_eq!(errors, []),
            Err(error) => assert!(errors.contains(&error), "{error:?} is in no block: {errors:?}"),
        }
    }
    // What the caller gets wrong.
    let mut none = [];
    let outside =
        Error::RangeOutOfBounds { start: header.blocks(), end: header.blocks() + 1, len: header.blocks() };
    assert_eq!(frame.decode_block_into(&table, header.blocks(), &mut none), Err(outside));
    let mut longer = vec![0; elements.len() + 1];
    let error = frame.decode_in(&mut table, &mut longer).expect_err("a buffer that is too long");
    assert!(matches!(error, Error::BufferLength { .. }));
    if header.blocks() > 0 {
        let mut part = vec![0; header.block_range(0).len() * size];
        let _ = frame.decode_block_into(&DecodeTable::new(), 0, &mut part);
    }

    if !errors.is_empty() {
        errors.iter().for_each(|error| assert!(error.clause().is_some(), "{error:?}"));
        return None;
    }
    if header.codec() == Codec::Dictionary {
        return Some(elements);
    }
    // A reader that streams comes to the directory.
    let mut at = start;
    for block in 0..header.blocks() {
        at += header.block_bytes(block, bytes[at..].first_chunk().unwrap()).expect("a sound block");
    }
    assert_eq!(at + ENTRY * header.blocks() + TRAILER, bytes.len());
    if header.len() <= MOST_AGAIN {
        is_canonical(bytes, &header, &elements);
    }
    Some(elements)
}

/// F-1.1: whatever breaks no rule is what a writer writes, to the byte; only the digest may be
/// another (F-6.3).
fn is_canonical(bytes: &[u8], header: &Header, elements: &[u8]) {
    let Written { bytes: mut written, blocks, .. } = Parameters::of(bytes, header).write(elements);
    let (end, directory) = (written.len() - TRAILER, written.len() - TRAILER - ENTRY * blocks.len());
    if let Some(digest) = bytes.len().checked_sub(8).and_then(|at| field::<4>(bytes, at)) {
        set(&mut written, end + 16, &digest);
    }
    let checksum = crc(0, &written[directory..end + 20]).to_le_bytes();
    set(&mut written, end + 20, &checksum);
    let different = written.iter().zip(bytes).position(|(written, found)| written != found);
    assert!(
        written == bytes,
        "a frame that breaks a rule is taken: see offset {different:?} of {}",
        bytes.len()
    );
}
