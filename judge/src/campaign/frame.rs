//! Frames that are made up: sound ones of many kinds, and ones with a field bent, whose checksums
//! are made right again.

use df11_reference::dictionary::Model;
use df11_reference::frame::{Coding, Tensor, crc, encode_as};
use df11_reference::rans::Frequencies;
use fastrand::Rng;

/// Bytes of an element, by type (F-4.1).
const BYTES: [usize; 6] = [1, 2, 2, 4, 1, 1];

/// Bytes of an entry of the directory, and of the trailer (F-6.1, F-6.2).
const ENTRY: usize = 12;
const TRAILER: usize = 24;

/// Elements of a chunk (F-5.5).
const CHUNK: usize = 4096;

/// A recipe for a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FrameCase {
    element_type: u8,
    shape: Vec<u64>,
    pub(super) elements: Vec<u8>,
    codec: u8,
    scale_bits: u32,
    block: usize,
    /// Whether checksums are made right after all is done.
    pub(super) repaired: bool,
    /// What is done to it, in this order.
    pub(super) bends: Vec<Bend>,
}

/// Something done to a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Bend {
    /// A bit of a field, or near it, is changed.
    Flip { place: usize, near: usize, bit: u8 },
    /// A byte of a field is set.
    Set { place: usize, near: usize, to: u8 },
    /// A field of four bytes is changed.
    Add { place: usize, by: i32 },
    /// A block has a word more, or one less.
    Words { block: usize, more: bool },
    /// Two blocks change places.
    Swap,
    /// The frame ends earlier.
    Cut(usize),
    /// Something follows.
    Grow(usize),
    /// The digest is another.
    Digest,
}

/// Where things are in a sound frame.
struct Layout {
    places: Vec<usize>,
    header: usize,
    start: usize,
    /// Where blocks begin, and where the last ends.
    blocks: Vec<usize>,
    directory: usize,
}

impl FrameCase {
    /// Makes up a frame.
    pub(super) fn new(rng: &mut Rng) -> Self {
        let element_type = rng.u8(..6);
        let (n, base, most) = match rng.u8(..20) {
            0 => (0, 0, 1),
            1..12 => (rng.usize(1..=200), rng.u8(..), rng.u8(1..=255)),
            12..17 => (rng.usize(1..=1500), rng.u8(..30), rng.u8(1..=12)),
            _ => (rng.usize(4000..=9000), 0, rng.u8(1..=6)),
        };
        let n = if n > 1500 && rng.bool() { n.next_multiple_of(4096) } else { n };
        let mut elements = Vec::new();
        for _ in 0..n {
            let mut far = 0;
            while far < most - 1 && rng.u8(..8) > 2 {
                far += 1;
            }
            let coded = u32::from(base.wrapping_add(far));
            let raw = rng.u32(..);
            let bits = match element_type {
                1 => coded << 7 | raw & 0x807f,
                2 => coded << 8 | raw & 0xff,
                3 => coded << 23 | raw & 0x807f_ffff,
                _ => coded,
            };
            elements.extend(&bits.to_le_bytes()[..BYTES[usize::from(element_type)]]);
        }
        let codec = if n == 0 { 0 } else { [0, 1, 1, 1, 3][rng.usize(..5)] };
        let block = match codec {
            3 => [4096, 8192, 65536][rng.usize(..3)],
            _ => [4096, 4160, 8192, 65536][rng.usize(..4)],
        };
        let mut case = FrameCase {
            element_type,
            shape: shape(rng, n as u64),
            elements,
            codec,
            scale_bits: rng.u32(9..=12),
            block,
            repaired: rng.u8(..5) > 0,
            bends: Vec::new(),
        };
        for _ in 0..[0, 0, 1, 1, 1, 1, 1, 2][rng.usize(..8)] {
            case.bends.push(Bend::new(rng));
        }
        case
    }

    fn coding(&self) -> Coding {
        let size = BYTES[usize::from(self.element_type)];
        let mut counts = [0u64; 256];
        for element in self.elements.chunks(size) {
            let bits = element.iter().rev().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte));
            let coded = match self.element_type {
                1 => bits >> 7,
                2 => bits >> 8,
                3 => bits >> 23,
                _ => bits,
            };
            counts[coded as usize & 0xff] += 1;
        }
        match self.codec {
            1 => Coding::Rans(Box::new(Frequencies::normalise(&counts, self.scale_bits))),
            3 => Coding::Dictionary(Model::of_counts(&counts, if self.scale_bits < 11 { 8 } else { 12 })),
            _ => Coding::Raw,
        }
    }

    /// The frame, as the recipe says.
    pub(super) fn build(&self) -> Result<Vec<u8>, String> {
        let (element_type, shape, elements) = (self.element_type, self.shape.clone(), self.elements.clone());
        let tensor = Tensor { element_type, shape, elements };
        let mut frame = encode_as(&tensor, &self.coding(), self.block).map_err(|error| error.to_string())?;
        let layout = self.layout(&frame);
        let mut is_whole = true;
        for bend in &self.bends {
            is_whole &= !matches!(bend, Bend::Cut(_) | Bend::Grow(_));
            bend.apply(&mut frame, &layout);
        }
        if self.repaired && is_whole {
            self.repair(&mut frame, &layout);
        }
        Ok(frame)
    }

    fn layout(&self, frame: &[u8]) -> Layout {
        let mut places = vec![0, 8, 9, 10, 11, 12, 13, 14, 16, 20, 24, 28];
        let rank = self.shape.len();
        places.extend((0..rank).map(|dimension| 32 + 8 * dimension));
        let mut header = 32 + 8 * rank;
        if self.codec > 0 {
            let symbols: usize = frame[header..header + 32].iter().map(|b| b.count_ones() as usize).sum();
            places.extend([header, header + 32, header + 32 + symbols]);
            header += 32 + 2 * symbols + if self.codec == 3 { 4 } else { 0 };
            places.push(header - 4);
        }
        let model = header;
        header = header.next_multiple_of(4);
        let start = (header + 4).next_multiple_of(16);
        places.extend([model.min(header - 1), header, start - 1]);
        let n = self.elements.len() / BYTES[usize::from(self.element_type)];
        let number = n.div_ceil(self.block);
        let directory = frame.len() - TRAILER - ENTRY * number;
        let mut blocks: Vec<usize> =
            (0..number).map(|j| number_at(frame, directory + ENTRY * j) as usize).collect();
        for block in &blocks {
            places.extend([0, 4, 8, 12, 16, 20, 124].map(|field| block + field));
        }
        blocks.push(directory);
        for pair in blocks.windows(2) {
            places.extend([(pair[0] + pair[1]) / 2, pair[1] - 1]);
        }
        places.push(start);
        places.extend((0..number).flat_map(|j| [directory + ENTRY * j, directory + ENTRY * j + 8]));
        places.extend([0, 8, 16, 20].map(|field| frame.len() - TRAILER + field));
        Layout { places, header, start, blocks, directory }
    }

    /// Makes every checksum right, of parts that are where they were.
    fn repair(&self, frame: &mut [u8], layout: &Layout) {
        let put = |frame: &mut [u8], at: usize, value: u32| {
            frame[at..at + 4].copy_from_slice(&value.to_le_bytes());
        };
        let header = crc(0, &frame[..layout.header]);
        put(frame, layout.header, header);
        for (j, pair) in layout.blocks.windows(2).enumerate() {
            let checksum = if self.codec == 3 {
                self.of_chunks(frame, layout, j)
            } else {
                let checksum = crc(j as u32, &frame[pair[0] + 4..pair[1]]);
                put(frame, pair[0], checksum);
                checksum
            };
            // The directory keeps what it says; only of blocks that changed, the checksum follows.
            put(frame, layout.directory + ENTRY * j + 8, checksum);
        }
        let end = frame.len() - 4;
        let trailer = crc(0, &frame[layout.directory..end]);
        put(frame, end, trailer);
    }

    /// The checksum of a block of chunks (F-5.7).
    fn of_chunks(&self, frame: &[u8], layout: &Layout, j: usize) -> u32 {
        let size = BYTES[usize::from(self.element_type)];
        let n = self.elements.len() / size;
        let chunks = n.div_ceil(CHUNK);
        let of_block = self.block / CHUNK;
        let (first, last) = (j * of_block, chunks.min((j + 1) * of_block));
        let counts = &frame[layout.start + 2 * first..layout.start + 2 * last];
        let groups: usize = counts.chunks(2).map(|g| usize::from(u16::from_le_bytes([g[0], g[1]]))).sum();
        let from = layout.blocks[j];
        // As the header of the recipe has it.
        let width = if self.scale_bits < 11 { 8 } else { 12 };
        let codes = &frame[from..(from + groups * width).min(layout.directory)];
        let mut sum = crc(j as u32, &[counts, codes].concat());
        let mut at = layout.start + 2 * chunks;
        for _ in 1..size {
            at = at.next_multiple_of(256);
            sum = crc(sum, &frame[at + j * self.block..at + n.min((j + 1) * self.block)]);
            at += n;
        }
        sum
    }

    /// Recipes for smaller frames, the smallest first.
    pub(super) fn smaller(&self) -> Vec<Self> {
        let mut all = Vec::new();
        let mut with = |change: &dyn Fn(&mut Self)| {
            let mut case = self.clone();
            change(&mut case);
            if case != *self {
                all.push(case);
            }
        };
        let size = BYTES[usize::from(self.element_type)];
        let n = self.elements.len() / size;
        for len in [n / 16, n / 4, n / 2, n - n / 4, n - n / 16, n.saturating_sub(1)] {
            if len > 0 {
                with(&|case| {
                    case.elements.truncate(len * size);
                    case.shape = vec![len as u64];
                });
            }
        }
        for at in 0..self.bends.len() {
            with(&|case| {
                case.bends.remove(at);
            });
        }
        if n > 0 {
            with(&|case| case.shape = vec![n as u64]);
        }
        with(&|case| case.scale_bits = 12);
        with(&|case| case.elements.iter_mut().skip(2 * n).for_each(|byte| *byte &= 0x80));
        all
    }
}

/// Dimensions whose product is `n`.
fn shape(rng: &mut Rng, n: u64) -> Vec<u64> {
    match (n, rng.u8(..6)) {
        (0, 0) => vec![1 << 40, 0, 1 << 40],
        (0, 1) => vec![0; rng.usize(1..=32)],
        (0, _) => vec![3, 0],
        (1, 0) => vec![],
        (_, 1) => {
            let mut shape = vec![1; rng.usize(1..=32)];
            let at = rng.usize(..shape.len());
            shape[at] = n;
            shape
        }
        (_, 2 | 3) => {
            let divisor = (2..=7).find(|divisor| n.is_multiple_of(*divisor)).unwrap_or(1);
            vec![divisor, n / divisor]
        }
        _ => vec![n],
    }
}

fn number_at(frame: &[u8], at: usize) -> u64 {
    frame[at..at + 8].iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

impl Bend {
    fn new(rng: &mut Rng) -> Self {
        let (place, near) = (rng.usize(..), rng.usize(..4));
        match rng.u8(..24) {
            0..8 => Bend::Flip { place, near, bit: rng.u8(..8) },
            8..14 => {
                let to = [0, 1, 2, 3, 8, 13, 0x80, 0xff, rng.u8(..)][rng.usize(..9)];
                Bend::Set { place, near, to }
            }
            14..19 => Bend::Add { place, by: [1, -1, 2, -2, 64, i32::MIN][rng.usize(..6)] },
            19 | 20 => Bend::Words { block: rng.usize(..), more: rng.bool() },
            21 => Bend::Swap,
            22 => {
                if rng.bool() {
                    Bend::Cut(rng.usize(1..40))
                } else {
                    Bend::Grow(rng.usize(1..40))
                }
            }
            _ => Bend::Digest,
        }
    }

    fn apply(&self, frame: &mut Vec<u8>, layout: &Layout) {
        let at = |place: usize, near: usize| {
            (layout.places[place % layout.places.len()] + near).min(frame.len().saturating_sub(1))
        };
        match *self {
            Bend::Flip { place, near, bit } => {
                let at = at(place, near);
                frame[at] ^= 1 << bit;
            }
            Bend::Set { place, near, to } => {
                let at = at(place, near);
                frame[at] = to;
            }
            Bend::Add { place, by } => {
                let at = at(place, 0);
                if let Some(field) = frame.get_mut(at..at + 4) {
                    let old = field.iter().rev().fold(0u32, |old, byte| old << 8 | u32::from(*byte));
                    field.copy_from_slice(&old.wrapping_add_signed(by).to_le_bytes());
                }
            }
            Bend::Words { block, more } => {
                let blocks = layout.blocks.len() - 1;
                if blocks > 0 && frame.len() > layout.directory {
                    let at = layout.blocks[block % blocks] + 4;
                    let old = u32::from_le_bytes([frame[at], frame[at + 1], frame[at + 2], frame[at + 3]]);
                    let new = if more { old.wrapping_add(2) } else { old.wrapping_sub(2) };
                    frame[at..at + 4].copy_from_slice(&new.to_le_bytes());
                    // What is no word any more is padding.
                    let end = at + 140 + new as usize;
                    if let Some(word) = frame.get_mut(end..end.saturating_add(2)).filter(|_| !more) {
                        word.fill(0);
                    }
                }
            }
            Bend::Swap => {
                if let [a, b, c, ..] = layout.blocks[..]
                    && b - a == c - b
                    && frame.len() > layout.directory
                {
                    let (first, second) = frame[a..c].split_at_mut(b - a);
                    first.swap_with_slice(second);
                }
            }
            Bend::Cut(by) => frame.truncate(frame.len().saturating_sub(by)),
            Bend::Grow(by) => frame.resize(frame.len() + by, 0),
            Bend::Digest => {
                let at = frame.len().saturating_sub(8);
                if let Some(byte) = frame.get_mut(at) {
                    *byte ^= 0x55;
                }
            }
        }
    }
}
