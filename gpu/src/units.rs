//! Units and frames on a device. Their parts were uploaded, or adopted where they are.

#![allow(unsafe_code, reason = "adoption of memory that the caller has filled")]

use std::sync::Arc;

use df11::Parts;
use df11::frame::{self, Codec, ElementType};
use df11::hazmat::dictionary::{self, Width};
use df11::hazmat::frame::crc;
use df11::hazmat::huffman::PrefixTables;
use df11::hazmat::{layout::BLOCK_BYTES, rans};

use crate::context::Shared;
use crate::kernels::RansBlock;
use crate::kernels::element_kind;
use crate::memory::Memory;
use crate::table::{decode_table, dictionary_table};
use crate::{Error, Gpu};

/// The size of a prefix table in bytes.
const TABLE: usize = 256;

/// A unit on a device.
#[derive(Clone, Debug)]
pub struct Unit {
    /// The uploaded memory. Adopted memory belongs to the caller.
    pub(crate) memory: Arc<Memory>,
    pub(crate) shared: Arc<Shared>,
    /// The address of the decode table, which the host makes.
    pub(crate) table: u64,
    pub(crate) raw: RawUnit,
}

impl Unit {
    /// Returns the number of weights. Each has two bytes.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.raw.elements
    }

    /// Tells whether there are no weights, which is never true of a valid unit.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.raw.elements == 0
    }

    /// Returns the number of bytes that it takes on the device, without adopted memory.
    #[must_use]
    pub fn device_bytes(&self) -> usize {
        self.memory.len()
    }

    /// Returns the number of blocks of its code.
    pub(crate) const fn blocks(&self) -> usize {
        self.raw.code_bytes.div_ceil(BLOCK_BYTES)
    }
}

/// The parts of a unit in the memory of a device, each at any address. DF11.md, section 2,
/// describes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawUnit {
    /// The address of the prefix tables: 256 bytes for each of `tables`.
    pub luts: u64,
    /// The address of the code: `code_bytes` bytes.
    pub codes: u64,
    /// The address of the signs and mantissas: `elements` bytes.
    pub sign_mantissa: u64,
    /// The address of the output positions: 4 bytes for each block of 4,096 bytes of code, and any
    /// that follow.
    pub output_positions: u64,
    /// The address of the gaps: 320 bytes for each block of 4,096 bytes of code.
    pub gaps: u64,
    /// The number of prefix tables, including the code lengths.
    pub tables: usize,
    /// The number of bytes of code.
    pub code_bytes: usize,
    /// The number of weights.
    pub elements: usize,
}

/// A frame of codec rANS or dictionary on a device.
#[derive(Clone, Debug)]
pub struct Frame {
    /// The uploaded memory. Adopted memory belongs to the caller.
    pub(crate) memory: Arc<Memory>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) coded: Coded,
    /// The kernels' number for the way in which elements are put together.
    pub(crate) kind: u32,
    /// The number of parts that kernels share among warps: blocks of codec rANS, chunks of codec
    /// dictionary.
    pub(crate) chunks: u32,
    pub(crate) element_type: ElementType,
    pub(crate) elements_bytes: usize,
    /// For each block of codec rANS: the number of its elements, and the checksum of its coded
    /// bytes. Codec dictionary has no such checksums.
    checksums: Arc<[(usize, u32)]>,
}

/// The addresses of a frame's parts on the device.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Coded {
    /// The bytes; the kernel's description of each block in the bytes; the slots of the table.
    Rans { data: u64, chunks: u64, slots: u64, scale_bits: u32 },
    /// An entry for each code; the codes; for each chunk, the groups of codes before it; the
    /// planes, and the distance from one plane to the next.
    Dictionary { entries: u64, codes: u64, offsets: u64, planes: u64, stride: u64, width: u32 },
}

impl Frame {
    /// Returns the size of its elements in bytes.
    #[must_use]
    pub const fn elements_bytes(&self) -> usize {
        self.elements_bytes
    }

    /// Returns the number of bytes that it takes on the device, without adopted memory.
    #[must_use]
    pub fn device_bytes(&self) -> usize {
        self.memory.len()
    }

    /// Compares the checksums of its coded bytes (F-5.4), where it has some, with decoded elements.
    /// Returns the number of the first block whose checksum differs. `elements` must have the
    /// frame's size in bytes.
    pub(crate) fn wrong_block(&self, elements: &[u8]) -> Option<usize> {
        let size = self.element_type.bytes();
        let mut rest = elements;
        self.checksums.iter().position(|(number, expected)| {
            let (block, after) = rest.split_at(number * size);
            rest = after;
            crc(0, &coded_bytes(self.element_type, block)) != *expected
        })
    }
}

/// Returns the coded bytes of some elements (section 4 of FRAME.md).
fn coded_bytes(element_type: ElementType, elements: &[u8]) -> Vec<u8> {
    let two = |shift: u32| {
        let elements = elements.as_chunks::<2>().0.iter();
        elements.map(|element| (u16::from_le_bytes(*element) >> shift) as u8).collect()
    };
    match element_type {
        ElementType::Bf16 => two(7),
        ElementType::F16 => two(8),
        ElementType::F32 => {
            let elements = elements.as_chunks::<4>().0.iter();
            elements.map(|element| (u32::from_le_bytes(*element) >> 23) as u8).collect()
        }
        _ => elements.to_vec(),
    }
}

impl Gpu {
    /// Checks a unit and uploads it. When this returns, every stream can use it.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] if the unit breaks a rule that can be checked without decoding,
    /// [`Error::Driver`] otherwise.
    pub fn upload(&self, tensors: &Parts<&[u8]>) -> Result<Unit, Error> {
        let unit = df11::Unit::new(*tensors)?;
        let table = decode_table(tensors.luts);
        let shared = self.shared();
        let (memory, addresses) = shared.place(&[
            &table,
            tensors.luts,
            tensors.encoded_exponent,
            tensors.sign_mantissa,
            tensors.output_positions,
            tensors.gaps,
        ])?;
        let address = |part: usize| addresses.get(part).copied().unwrap_or_default();
        let raw = RawUnit {
            luts: address(1),
            codes: address(2),
            sign_mantissa: address(3),
            output_positions: address(4),
            gaps: address(5),
            tables: tensors.luts.len() / TABLE,
            code_bytes: tensors.encoded_exponent.len(),
            elements: unit.len(),
        };
        Ok(Unit { memory: Arc::new(memory), shared: Arc::clone(shared), table: address(0), raw })
    }

    /// Adopts a unit whose parts are in the device's memory already, at any addresses. The prefix
    /// tables are downloaded and checked, and the kernel's table is made from them. Nothing else is
    /// copied.
    ///
    /// # Safety
    ///
    /// Until no batch uses the unit any more, each address must hold the number of bytes that
    /// [`RawUnit`] says, in memory that kernels of this context can read, and no one may write
    /// them. They must be there now: copies of them must be done, not only enqueued.
    ///
    /// The parts need not form a valid unit. If they do not, weights are unspecified, but nothing
    /// else goes wrong.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] if there are no weights, too many weights, or prefix tables that lead
    /// nowhere, [`Error::OtherDevice`] for an address of another device, [`Error::Driver`]
    /// otherwise.
    pub unsafe fn adopt(&self, raw: RawUnit) -> Result<Unit, Error> {
        let shared = self.shared();
        let too_many = |number: usize| number > df11::MAX_ELEMENTS;
        if raw.elements == 0 {
            return Err(df11::Error::EmptyUnit.into());
        }
        if too_many(raw.elements) {
            return Err(df11::Error::TooManyElements { elements: raw.elements as u64 }.into());
        }
        if too_many(raw.code_bytes) {
            return Err(df11::Error::TooManyCodeBytes { bytes: raw.code_bytes as u64 }.into());
        }
        if raw.code_bytes < raw.elements.div_ceil(8) {
            let (bytes, elements) = (raw.code_bytes, raw.elements);
            return Err(df11::Error::CodeTooShort { bytes, elements }.into());
        }
        for address in [raw.luts, raw.codes, raw.sign_mantissa, raw.output_positions, raw.gaps] {
            shared.expect_own(address)?;
        }
        let luts = shared.download(raw.luts, TABLE * raw.tables.min(1 + usize::from(u8::MAX)))?;
        PrefixTables::new(&luts)?;
        let (memory, addresses) = shared.place(&[&decode_table(&luts)])?;
        let table = addresses.first().copied().unwrap_or_default();
        Ok(Unit { memory: Arc::new(memory), shared: Arc::clone(shared), table, raw })
    }

    /// Checks a frame, including the checksums of its blocks, and uploads it. When this returns,
    /// every stream can use it.
    ///
    /// # Errors
    ///
    /// [`Error::RawFrame`] for codec raw, [`Error::Invalid`] if a checksum is wrong,
    /// [`Error::Driver`] otherwise.
    pub fn upload_frame(&self, frame: &frame::Frame<'_>) -> Result<Frame, Error> {
        self.frame(frame, None)
    }

    /// Adopts a frame whose bytes are in the device's memory already, at any address. The host's
    /// copy is checked as [`upload_frame`](Self::upload_frame) does, and tells where everything is.
    ///
    /// # Safety
    ///
    /// Until no batch uses the frame any more, the address must hold the bytes of `frame`, in
    /// memory that kernels of this context can read, and no one may write them. They must be there
    /// now: copies of them must be done, not only enqueued.
    ///
    /// # Errors
    ///
    /// The errors of [`upload_frame`](Self::upload_frame), and [`Error::OtherDevice`] for an
    /// address of another device.
    pub unsafe fn adopt_frame(&self, frame: &frame::Frame<'_>, address: u64) -> Result<Frame, Error> {
        self.shared().expect_own(address)?;
        self.frame(frame, Some(address))
    }

    fn frame(&self, frame: &frame::Frame<'_>, address: Option<u64>) -> Result<Frame, Error> {
        match frame.header().codec() {
            Codec::Rans => self.rans(frame, address),
            Codec::Dictionary => self.dictionary(frame, address),
            _ => Err(Error::RawFrame),
        }
    }

    fn rans(&self, frame: &frame::Frame<'_>, address: Option<u64>) -> Result<Frame, Error> {
        let header = frame.header();
        let frequencies = header.frequencies().ok_or(Error::RawFrame)?;
        let mut table = Box::new(rans::DecodeTable::new());
        table.build(frequencies);
        let slots: Vec<u8> = table.slots().iter().flat_map(|slot| slot.to_le_bytes()).collect();
        let (mut chunks, mut checksums) = (Vec::new(), Vec::with_capacity(header.blocks()));
        for block in 0..header.blocks() {
            let (layout, range) = (frame.block_layout(block)?, header.block_range(block));
            let described = RansBlock {
                states: layout.states,
                words: layout.words,
                raw: layout.raw.start,
                first: range.start,
                symbols: range.len(),
            };
            chunks.extend(described.describe().into_iter().flat_map(u64::to_le_bytes));
            checksums.push((range.len(), layout.coded_checksum));
        }
        let (memory, [chunks, slots], data) = self.place_frame(frame, address, [&chunks, &slots])?;
        let coded = Coded::Rans { data, chunks, slots, scale_bits: u32::from(frequencies.scale_bits()) };
        self.made(frame, memory, coded, checksums.len(), checksums.into())
    }

    fn dictionary(&self, frame: &frame::Frame<'_>, address: Option<u64>) -> Result<Frame, Error> {
        let header = frame.header();
        let layout = frame.chunks_layout()?;
        let mut table = Box::new(dictionary::DecodeTable::<{ Width::Twelve.codes() }>::new());
        frame.build(&mut *table);
        let dictionary = table.dictionary().ok_or(df11::Error::OtherTable)?;
        let entries = dictionary_table(dictionary.entries(), element_kind(header.element_type()));
        let groups = frame.as_bytes().get(layout.groups).unwrap_or_default().as_chunks().0;
        let before = groups.iter().scan(0u32, |sum, groups| {
            *sum += u32::from(u16::from_le_bytes(*groups));
            Some(*sum)
        });
        let offsets: Vec<u8> = [0].into_iter().chain(before).flat_map(u32::to_le_bytes).collect();
        let (memory, [entries, offsets], data) = self.place_frame(frame, address, [&entries, &offsets])?;
        let [first, second, _] = layout.planes.map(|plane| plane as u64);
        let coded = Coded::Dictionary {
            entries,
            codes: data + layout.codes.start as u64,
            offsets,
            planes: data + first,
            stride: if header.element_type().bytes() > 2 { second - first } else { 0 },
            width: u32::from(dictionary.width().bits()),
        };
        self.made(frame, memory, coded, groups.len(), Arc::new([]))
    }

    /// Uploads what kernels need besides the bytes of a frame, and these bytes if they are not on
    /// the device yet. Returns the addresses.
    fn place_frame(
        &self,
        frame: &frame::Frame<'_>,
        address: Option<u64>,
        [one, two]: [&[u8]; 2],
    ) -> Result<(Memory, [u64; 2], u64), Error> {
        let bytes = if address.is_some() { &[] } else { frame.as_bytes() };
        let (memory, addresses) = self.shared().place(&[one, two, bytes])?;
        let own = |part: usize| addresses.get(part).copied().unwrap_or_default();
        Ok((memory, [own(0), own(1)], address.unwrap_or(own(2))))
    }

    fn made(
        &self,
        frame: &frame::Frame<'_>,
        memory: Memory,
        coded: Coded,
        chunks: usize,
        checksums: Arc<[(usize, u32)]>,
    ) -> Result<Frame, Error> {
        let element_type = frame.header().element_type();
        Ok(Frame {
            memory: Arc::new(memory),
            shared: Arc::clone(self.shared()),
            coded,
            kind: element_kind(element_type),
            chunks: u32::try_from(chunks).map_err(|_| Error::TooMuch)?,
            element_type,
            elements_bytes: frame.elements_bytes(),
            checksums,
        })
    }
}
