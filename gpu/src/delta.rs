//! Deltas for the kernels of `delta_apply.cu`: what is uploaded of one, and the launches that apply
//! several. `df11_gpu::Update` does all of this on a device; here is what it is made of, without a
//! driver.
//!
//! Of a delta, its [`parts`](Upload::parts) are uploaded once. [`Launches`] describe deltas whose
//! parts are on the device, with the places of their tensors; its own parts are uploaded, too, and
//! then [`launches`](Launches::launches) are all that it takes.

mod fault;
mod layout;
mod sums;
mod tail;

use df11::Error;
use df11::frame::ElementType;

use crate::kernels::{WARPS, element_kind};
pub use fault::DeltaFault;
use fault::FAULT_BITS;
use layout::{Body, Layout};
use sums::{Sum, When};
use tail::Content;

/// The initial value of a status, and of the word that refuses: nothing is wrong.
pub const ALL_RIGHT: u32 = u32::MAX;

/// Elements that a thread block puts down at a time: `PATCH` of `delta_apply.cu`.
const PATCH: u64 = 4096;

/// A delta that the host has checked: its header, its tables, its blocks' own checksums, its frame.
#[derive(Clone, Debug)]
pub struct Upload<'a> {
    layout: Layout<'a>,
    blocks: Vec<u8>,
    positions: Vec<u8>,
}

impl<'a> Upload<'a> {
    /// Checks a delta, and takes it apart.
    ///
    /// # Errors
    ///
    /// Those of [`Delta::new`](df11::delta::Delta::new) and of
    /// [`verify_stored`](df11::delta::Delta::verify_stored), of a block whose numbers or padding
    /// break B-5.5 or B-5.6, and of frames.
    pub fn new(bytes: &'a [u8]) -> Result<Self, Error> {
        let layout = Layout::new(bytes)?;
        let (mut blocks, mut positions) = (Vec::new(), Vec::new());
        match &layout.body {
            Body::Coded(coded) => {
                for block in &coded.blocks {
                    blocks.extend((block.at as u64).to_le_bytes());
                    let numbers = [block.words, block.escape_words, block.escapes, block.coded];
                    blocks.extend(numbers.into_iter().flat_map(u32::to_le_bytes));
                }
            }
            Body::List { positions: of_list, .. } => {
                positions.extend(of_list.iter().flat_map(|position| position.to_le_bytes()));
            }
            Body::Same { .. } | Body::Frame => {}
        }
        Ok(Upload { layout, blocks, positions })
    }

    /// Returns what is to be uploaded, each part to an address that is a multiple of 16. Some are
    /// empty.
    #[must_use]
    pub fn parts(&self) -> [&[u8]; 6] {
        let body: [&[u8]; 3] = match &self.layout.body {
            Body::Coded(coded) => [&coded.tables, &self.blocks, coded.data],
            Body::List { values, .. } => [&self.positions, values, &[]],
            Body::Same { .. } | Body::Frame => [&[]; 3],
        };
        let tail: [&[u8]; 3] = match self.layout.tail.as_ref().map(|tail| &tail.content) {
            Some(Content::Raw(elements)) => [elements, &[], &[]],
            Some(Content::Rans { data, slots, chunks, .. }) => [data, slots, chunks],
            None => [&[]; 3],
        };
        [body[0], body[1], body[2], tail[0], tail[1], tail[2]]
    }

    /// Returns the delta as launches need it, of the addresses of its parts.
    #[must_use]
    pub fn placed(&self, addresses: [u64; 6]) -> Placed {
        let Layout { element_type, len, common, .. } = self.layout;
        let [one, two, three, four, five, six] = addresses;
        let body = match &self.layout.body {
            Body::Coded(coded) => PlacedBody::Coded {
                addresses: [three, two, one],
                blocks: coded.blocks.len() as u32,
                elements_of_block: coded.elements_of_block as u32,
                tables: coded.n_tables as u32,
                codes_escapes: u32::from(coded.codes_escapes),
                low: u32::from(coded.low),
                map_one: u32::from(coded.map_one),
            },
            Body::List { positions, .. } => {
                PlacedBody::List { positions: one, values: two, number: positions.len() as u64 }
            }
            Body::Same { .. } | Body::Frame => PlacedBody::Nothing,
        };
        let tail = self.layout.tail.as_ref().map(|tail| match &tail.content {
            Content::Raw(_) => PlacedTail::Raw { values: four },
            Content::Rans { n_chunks, scale_bits, kind, .. } => PlacedTail::Rans {
                data: four,
                slots: five,
                chunks: six,
                number: *n_chunks as u32,
                scale_bits: u32::from(*scale_bits),
                kind: *kind,
            },
        });
        Placed { element_type, len, common, body, tail, sums: self.sums().into() }
    }

    /// The checksums that kernels compare.
    fn sums(&self) -> Vec<Sum> {
        let Layout { element_type, len, common, body, tail } = &self.layout;
        let (size, block) = (element_type.bytes(), 0);
        let whole = Sum { when: When::Both, start: 0, bytes: common * size, base: 0, result: 0, block };
        let mut sums = match body {
            Body::Same { base } => vec![Sum { when: When::Before, base: *base, ..whole }],
            Body::List { base, result, .. } => vec![Sum { base: *base, result: *result, ..whole }],
            Body::Coded(coded) => {
                let of_block = |(number, block): (usize, &layout::Block)| {
                    let start = number * coded.elements_of_block;
                    let elements = coded.elements_of_block.min(common - start);
                    let (base, result, number) = (block.base, block.result, number as u32);
                    let (start, bytes) = ((start * size) as u64, elements * size);
                    Sum { when: When::Both, start, bytes, base, result, block: number }
                };
                coded.blocks.iter().enumerate().map(of_block).collect()
            }
            Body::Frame => Vec::new(),
        };
        if let Some(tail) = tail {
            let (start, bytes) = ((common * size) as u64, (len - common) * size);
            sums.push(Sum { when: When::After, start, bytes, base: 0, result: tail.result, block });
        }
        sums
    }
}

/// A delta whose parts are on a device.
#[derive(Clone, Debug)]
pub struct Placed {
    element_type: ElementType,
    len: usize,
    common: usize,
    body: PlacedBody,
    tail: Option<PlacedTail>,
    sums: std::sync::Arc<[Sum]>,
}

#[derive(Clone, Copy, Debug)]
enum PlacedBody {
    Nothing,
    List {
        positions: u64,
        values: u64,
        number: u64,
    },
    Coded {
        /// Of the bytes of blocks, their descriptions, the tables.
        addresses: [u64; 3],
        blocks: u32,
        elements_of_block: u32,
        tables: u32,
        codes_escapes: u32,
        low: u32,
        map_one: u32,
    },
}

#[derive(Clone, Copy, Debug)]
enum PlacedTail {
    Raw { values: u64 },
    Rans { data: u64, slots: u64, chunks: u64, number: u32, scale_bits: u32, kind: u32 },
}

impl Placed {
    /// Returns the type of its elements.
    #[must_use]
    pub const fn element_type(&self) -> ElementType {
        self.element_type
    }

    /// Returns the number of elements of the result.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a delta is no collection")]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Returns how many elements of the base it needs: as many of the result are given against
    /// them.
    #[must_use]
    pub const fn common(&self) -> usize {
        self.common
    }

    /// Returns the size of the result in bytes.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.len * self.element_type.bytes()
    }

    /// Returns the bytes of the maps of its blocks.
    const fn map_bytes(&self) -> u64 {
        match self.body {
            PlacedBody::Coded { map_one: 1.., blocks, elements_of_block, .. } => {
                blocks as u64 * map_words(elements_of_block) * 4
            }
            _ => 0,
        }
    }

    /// Returns the clause that is broken where its base, or its result, has another checksum.
    const fn clause(&self, of_frame: bool) -> &'static str {
        match self.body {
            _ if of_frame => "F-5.4",
            PlacedBody::Coded { .. } => "B-5.5",
            PlacedBody::List { .. } => "B-4.2",
            PlacedBody::Nothing => "B-4.1",
        }
    }
}

/// The words that a kernel needs for the map of a block: a bit for each of its chunks of 64
/// elements, 32 words at a time. A warp needs none for 32.
const fn map_words(elements_of_block: u32) -> u64 {
    if elements_of_block <= 1 << 16 { 0 } else { 32 * (elements_of_block as u64).div_ceil(1 << 16) }
}

/// A launch of a kernel of `delta_apply.cu`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    /// The kernel's name.
    pub entry: &'static str,
    /// The number of thread blocks that have something to do. Any other number gives the same
    /// result.
    pub thread_blocks: u32,
    /// Addresses and numbers, one for each parameter. A parameter of fewer than 8 bytes takes the
    /// low ones.
    pub arguments: Vec<u64>,
}

/// The kernels, in the order of their launches.
pub const ENTRIES: [&str; 7] = [
    "delta_check",
    "delta_compare",
    "delta_apply_1",
    "delta_apply_2",
    "delta_apply_4",
    "delta_patch",
    "delta_frames",
];

/// Deltas that are applied together, as kernels read them.
#[derive(Debug)]
pub struct Launches {
    powers: Vec<u8>,
    sums: sums::Described,
    /// Of elements of one byte, of two and of four.
    coded: [Described; 3],
    patches: Described,
    frames: Described,
    tensors: u64,
}

/// The descriptions of items of one kind.
#[derive(Debug, Default)]
struct Described {
    bytes: Vec<u8>,
    items: u32,
    blocks: u32,
}

impl Described {
    /// Adds an item with this number of blocks; `None` if there are too many.
    fn add(&mut self, fields: &[u64], blocks: u64) -> Option<()> {
        self.bytes.extend(fields.iter().flat_map(|field| field.to_le_bytes()));
        self.blocks = u32::try_from(u64::from(self.blocks) + blocks).ok()?;
        self.items += 1;
        Some(())
    }
}

const fn pair(low: u32, high: u32) -> u64 {
    low as u64 | (high as u64) << 32
}

impl Launches {
    /// Returns the bytes of memory that launches of these deltas need for themselves.
    #[must_use]
    pub fn scratch_bytes<'a>(deltas: impl IntoIterator<Item = &'a Placed>) -> u64 {
        deltas.into_iter().fold(4, |sum, delta| sum + 4 + 4 * delta.sums.len() as u64 + delta.map_bytes())
    }

    /// Describes deltas, each with the offset in bytes of its tensor from the address that
    /// [`launches`](Self::launches) get, and the address of [memory](Self::scratch_bytes) for the
    /// launches themselves. `None` if there are too many blocks for a launch: 2^32 in all, 2^28 of
    /// one delta.
    #[must_use]
    pub fn new(deltas: &[(&Placed, u64)], scratch: u64) -> Option<Self> {
        let numbered = deltas.iter().zip(0u32..);
        let sums = sums::Described::new(numbered.map(|((delta, offset), i)| (i, *offset, &delta.sums[..])));
        let (n_sums, n_pieces) = (sums.sums.len() / 16, sums.pieces.len() / 24);
        u32::try_from(n_sums.max(n_pieces)).ok()?;
        let tensors = deltas.len() as u64;
        let (coded, patches, frames) = Default::default();
        let mut launches = Launches { powers: sums::powers(), sums, coded, patches, frames, tensors };
        let mut maps = scratch + 4 + 4 * tensors + 4 * n_sums as u64;
        for ((delta, offset), number) in deltas.iter().zip(0u32..) {
            launches.add_body(delta, *offset, number, maps)?;
            maps += delta.map_bytes();
            launches.add_tail(delta, offset + (delta.common * delta.element_type.bytes()) as u64)?;
        }
        Some(launches)
    }

    /// Adds the common elements: `struct Delta` or `struct Patch`.
    fn add_body(&mut self, delta: &Placed, offset: u64, number: u32, maps: u64) -> Option<()> {
        let size = delta.element_type.bytes() as u32;
        match delta.body {
            PlacedBody::Nothing => Some(()),
            PlacedBody::List { positions, values, number } => {
                self.add_patch([positions, values, offset, number], size)
            }
            PlacedBody::Coded {
                addresses: [data, described, tables],
                blocks,
                elements_of_block,
                tables: n_tables,
                codes_escapes,
                low,
                map_one,
            } => {
                if blocks >= 1 << (32 - FAULT_BITS) {
                    return None;
                }
                let (shift, mask, flip) = exponents(delta.element_type);
                let kind = element_kind(delta.element_type);
                let [one, two, four] = &mut self.coded;
                let coded = [one, two, four].into_iter().nth(size as usize / 2)?;
                let fields = [
                    data,
                    described,
                    tables,
                    maps,
                    offset,
                    delta.common as u64,
                    u64::from(coded.blocks),
                    pair(blocks, elements_of_block),
                    pair(n_tables, codes_escapes),
                    pair(low, map_one),
                    pair(kind, size),
                    pair(shift, mask),
                    pair(flip, number),
                    0,
                ];
                coded.add(&fields, u64::from(blocks))
            }
        }
    }

    /// Adds the elements of a frame: `struct Patch`, or `struct Frame` of `rans_block.cuh`.
    fn add_tail(&mut self, delta: &Placed, offset: u64) -> Option<()> {
        let size = delta.element_type.bytes() as u32;
        let number = (delta.len - delta.common) as u64;
        match delta.tail {
            None => Some(()),
            Some(PlacedTail::Raw { values }) => self.add_patch([0, values, offset, number], size),
            Some(PlacedTail::Rans { data, slots, chunks, number, scale_bits, kind }) => {
                let first = u64::from(self.frames.blocks);
                let (numbers, kind) = (pair(number, scale_bits), pair(kind, 0));
                let fields = [data, chunks, slots, offset, first, numbers, kind, 0];
                self.frames.add(&fields, u64::from(number))
            }
        }
    }

    fn add_patch(&mut self, [positions, values, offset, number]: [u64; 4], size: u32) -> Option<()> {
        let (first, blocks) = (u64::from(self.patches.blocks), number.div_ceil(PATCH));
        let numbers = pair(u32::try_from(blocks).ok()?, size);
        if blocks == 0 {
            return Some(());
        }
        self.patches.add(&[positions, values, offset, number, first, numbers], blocks)
    }

    /// Returns what is to be uploaded, each part to an address that is a multiple of 16.
    #[must_use]
    pub fn parts(&self) -> [&[u8]; 8] {
        let Launches { powers, sums, coded: [one, two, four], patches, frames, .. } = self;
        let described = [one, two, four, patches, frames].map(|described| &described.bytes[..]);
        let [one, two, four, patches, frames] = described;
        [powers, &sums.pieces, &sums.sums, one, two, four, patches, frames]
    }

    /// Returns how many words [`ALL_RIGHT`] the memory of the launches must begin with, before the
    /// first of them: a status for each delta, then the word that refuses. All other bytes of it
    /// must be 0 once; launches leave them so.
    #[must_use]
    pub const fn statuses(&self) -> u64 {
        self.tensors + 1
    }

    /// Returns the launches, in their order, of the addresses of the [parts](Self::parts), of the
    /// memory for the launches, and of the tensors.
    #[must_use]
    pub fn launches(&self, parts: [u64; 8], scratch: u64, elements: u64) -> Vec<Launch> {
        let [powers, pieces, expected, coded @ .., patches, frames] = parts;
        let (statuses, refused) = (scratch, scratch + 4 * self.tensors);
        let sums = refused + 4;
        let mut launches = Vec::new();
        let mut add = |entry, thread_blocks: u32, arguments: &[u64]| {
            if thread_blocks > 0 {
                launches.push(Launch { entry, thread_blocks, arguments: arguments.to_vec() });
            }
        };
        for which in [0, 1] {
            if which == 1 {
                let of = |described: &Described| [u64::from(described.items), u64::from(described.blocks)];
                let entries = ["delta_apply_1", "delta_apply_2", "delta_apply_4"];
                for ((entry, described), address) in entries.into_iter().zip(&self.coded).zip(coded) {
                    let ([n, blocks], work) = (of(described), described.blocks.div_ceil(WARPS));
                    add(entry, work, &[address, n, blocks, elements, statuses, refused]);
                }
                let [n, blocks] = of(&self.patches);
                add("delta_patch", self.patches.blocks, &[patches, n, blocks, elements, refused]);
                let ([n, blocks], work) = (of(&self.frames), self.frames.blocks.div_ceil(WARPS));
                add("delta_frames", work, &[frames, n, blocks, elements, refused]);
            }
            let (of, of_sums) = (&self.sums.pieces_of[which], &self.sums.sums_of[which]);
            let first = pieces + 24 * of.start as u64;
            let reads = if which == 0 { 0 } else { refused };
            let work = (of.len() as u32).div_ceil(WARPS);
            add("delta_check", work, &[powers, first, of.len() as u64, elements, sums, reads]);
            let (begin, end) = (of_sums.start as u64, of_sums.end as u64);
            let work = (of_sums.len() as u32).div_ceil(crate::kernels::THREADS);
            add("delta_compare", work, &[expected, begin, end, which as u64, sums, statuses, refused]);
        }
        launches
    }
}

/// Where the exponent of an element begins, the mask of its bits, and the bits that the ordinal of
/// a negative element inverts (B-5.1, B-5.3).
const fn exponents(element_type: ElementType) -> (u32, u32, u32) {
    match element_type {
        ElementType::Bf16 => (7, 0xff, 0x7fff),
        ElementType::F16 => (10, 0x1f, 0x7fff),
        ElementType::F32 => (23, 0xff, 0x7fff_ffff),
        ElementType::F8E4M3 => (3, 0xf, 0x7f),
        ElementType::F8E5M2 => (2, 0x1f, 0x7f),
        _ => (0, 0, 0),
    }
}
