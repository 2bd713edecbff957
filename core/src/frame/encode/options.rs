//! How a frame is to be written, and which codec pays.

use alloc::vec::Vec;

use super::{Encoder, MANY, count};
use crate::dictionary::{self, CHUNK, Width};
use crate::frame::chunks::Sections;
use crate::frame::header::{Model, checked_block_len, countable};
use crate::frame::{ALIGNMENT, BLOCK, Codec, ENTRY_BYTES, ElementType, Header, MAX_RANK, SCALE_BITS, SMALL};
use crate::rans::{Frequencies, STATES_BYTES};
use crate::{Error, bf16};

/// How a frame is to be written.
///
/// ```
/// use df11::frame::{self, Codec, ElementType, EncodeOptions, Frame};
///
/// let elements: Vec<u8> = (0..100_000u32).map(|i| (i % 17) as u8).collect();
/// let options = EncodeOptions::new().codec(Codec::Dictionary);
/// let bytes = options.encode(ElementType::U8, &[100_000], &elements)?;
/// assert_eq!(Frame::new(&bytes)?.header().codec(), Codec::Dictionary);
/// # Ok::<(), df11::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EncodeOptions {
    codec: Codec,
    pub(super) block_len: usize,
}

impl EncodeOptions {
    /// Codec rANS, blocks of [`BLOCK`] elements.
    #[must_use]
    pub const fn new() -> Self {
        EncodeOptions { codec: Codec::Rans, block_len: BLOCK }
    }

    /// How elements are coded, unless that would not make them smaller: then they are kept as they
    /// are.
    #[must_use]
    pub const fn codec(mut self, codec: Codec) -> Self {
        self.codec = codec;
        self
    }

    /// The elements of a block, a multiple of 64 (with a dictionary, of 4,096) from 4,096 to
    /// 65,536: the smaller, the less memory a decoder of single blocks needs, as on a
    /// microcontroller, and the larger the frame.
    #[must_use]
    pub const fn block_len(mut self, elements: usize) -> Self {
        self.block_len = elements;
        self
    }

    /// Begins a frame of elements whose coded bytes occur this often, as [`Encoder::new`].
    ///
    /// # Errors
    ///
    /// As [`Encoder::new`]; [`Error::InvalidArgument`] for a number of elements that blocks cannot
    /// have.
    pub fn encoder(
        &self,
        element_type: ElementType,
        shape: &[u64],
        counts: &[u64; 256],
    ) -> Result<Encoder, Error> {
        self.header(element_type, shape, counts).map(|header| Encoder::with_header(header, Vec::new()))
    }

    fn header(&self, element_type: ElementType, shape: &[u64], counts: &[u64; 256]) -> Result<Header, Error> {
        let bad = |argument, value| Error::InvalidArgument { argument, value };
        let mut dimensions = [0; MAX_RANK];
        let used = dimensions.get_mut(..shape.len()).ok_or(bad("rank of a frame", shape.len() as u64))?;
        used.copy_from_slice(shape);
        let len = countable(element_type, shape).ok_or(bad("element count of a frame", u64::MAX))?;
        let block = self.block_len as u64;
        let mut header = Header {
            element_type,
            block: checked_block_len(block).ok_or(bad("block size of a frame", block))?,
            len,
            shape: dimensions,
            rank: shape.len(),
            model: Model::None,
        };
        if self.codec == Codec::Dictionary && !self.block_len.is_multiple_of(CHUNK) {
            return Err(bad("block size of a frame with a dictionary", block));
        }
        if len > 0 && counts.iter().any(|count| *count > 0) {
            header.model = self.model(&header, counts)?;
        }
        Ok(header)
    }

    /// The model of these counts, if the elements become smaller by it.
    fn model(&self, header: &Header, counts: &[u64; 256]) -> Result<Model, Error> {
        Ok(match self.codec {
            Codec::Raw => Model::None,
            Codec::Rans => {
                let frequencies = Frequencies::normalise(counts, SCALE_BITS)?;
                if is_worth_it(header, &frequencies, counts) {
                    Model::Frequencies(frequencies)
                } else {
                    Model::None
                }
            }
            Codec::Dictionary => {
                let width = if header.len < SMALL { Width::Eight } else { Width::Twelve };
                let (model, mean) = dictionary::Model::with_mean(counts, width)?;
                if gains(header, &model, mean) { Model::Dictionary(model) } else { Model::None }
            }
        })
    }

    /// Encodes a tensor whose elements are at hand, of this shape, in C order.
    ///
    /// # Errors
    ///
    /// The errors of [`encode_into`](Self::encode_into).
    pub fn encode(
        &self,
        element_type: ElementType,
        shape: &[u64],
        elements: &[u8],
    ) -> Result<Vec<u8>, Error> {
        let mut frame = Vec::new();
        self.encode_into(element_type, shape, elements, &mut frame).map(|()| frame)
    }

    /// [`encode`](Self::encode) to memory that has been used for something else before.
    ///
    /// # Errors
    ///
    /// The errors of [`encoder`](Self::encoder); [`Error::BufferLength`] or [`Error::OddBytes`] if
    /// the number of elements does not match the shape. After an error, the content of `frame` is
    /// unspecified.
    pub fn encode_into(
        &self,
        element_type: ElementType,
        shape: &[u64],
        elements: &[u8],
        frame: &mut Vec<u8>,
    ) -> Result<(), Error> {
        let counts = count(element_type, elements)?;
        self.encode_parts(element_type, shape, &counts, elements, MANY, frame, |encoder, part, frame| {
            frame.extend_from_slice(encoder.blocks(part)?);
            Ok(())
        })
    }

    /// Encodes elements with these counts, which `encode` is given this many blocks of at a time.
    #[expect(clippy::too_many_arguments, reason = "what a frame is made of")]
    pub(super) fn encode_parts(
        &self,
        element_type: ElementType,
        shape: &[u64],
        counts: &[u64; 256],
        elements: &[u8],
        blocks: usize,
        frame: &mut Vec<u8>,
        mut encode: impl FnMut(&mut Encoder, &[u8], &mut Vec<u8>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let header = self.header(element_type, shape, counts)?;
        let (codec, expected) = (header.codec(), header.len * element_type.bytes());
        bf16::expect_len("elements", elements.len(), expected)?;
        let part = blocks * self.block_len * element_type.bytes();
        if codec == Codec::Dictionary {
            let mut encoder = Encoder::with_header(header, core::mem::take(frame));
            for part in elements.chunks(part) {
                encode(&mut encoder, part, frame)?;
            }
            *frame = encoder.finish_whole()?;
            return Ok(());
        }
        let mut encoder = Encoder::with_header(header, Vec::new());
        frame.clear();
        frame.extend(encoder.header());
        // What exponents take at most, in trained weights; others grow it.
        frame.reserve(elements.len() / 4 * 3);
        for part in elements.chunks(part) {
            encode(&mut encoder, part, frame)?;
        }
        frame.extend(encoder.finish()?);
        Ok(())
    }
}

impl Default for EncodeOptions {
    fn default() -> Self {
        Self::new()
    }
}

/// Whether rANS makes the elements smaller than they are, by what the model promises.
fn is_worth_it(header: &Header, frequencies: &Frequencies, counts: &[u64; 256]) -> bool {
    /// Parts of a bit.
    const PARTS: u128 = 8 * 256;
    // A symbol of frequency f takes P - log2(f) bits. This computes the logarithm of f^8: its whole
    // part, and 8 bits after it. The function is taken as linear between powers of two, which makes
    // the result at most 0.01 bits too small.
    let log2 = |f: u16| {
        let power = u128::from(f).pow(8);
        let whole = power.ilog2();
        256 * u128::from(whole) + ((power << 8 >> whole) & 0xff)
    };
    let cost = |symbol: u8| PARTS * u128::from(SCALE_BITS) - log2(frequencies.of(symbol));
    let bits: u128 = (0..=255)
        .zip(counts)
        .filter(|(_, count)| **count > 0)
        .map(|(symbol, &count)| u128::from(count) * cost(symbol))
        .sum::<u128>()
        / PARTS;
    let blocks = header.blocks() as u128;
    let tables = 32 + 2 * frequencies.as_array().iter().filter(|frequency| **frequency > 0).count() as u128;
    bits / 8 + blocks * (STATES_BYTES as u128 + ALIGNMENT as u128) + tables < header.len as u128
}

/// Whether a dictionary makes the elements smaller than they are, by how many symbols a code is
/// expected to have, times 2 to the power of 30.
fn gains(header: &Header, model: &dictionary::Model, mean: u64) -> bool {
    let (width, n) = (u128::from(model.width().bits()), header.len as u128);
    let codes = (n << 30) / u128::from(mean.max(1)) * width / 8;
    // Half a group, its number, and part of an entry of the directory.
    let chunks = n.div_ceil(CHUNK as u128) * (width / 2 + 2 + 1);
    let sections = Sections::new(header, 0).unwrap_or_default();
    let symbols = model.first_costs().iter().filter(|cost| **cost > 0).count();
    let rest = 32 + 2 * symbols + 4 + sections.padding + 2 * ALIGNMENT + ENTRY_BYTES;
    codes + chunks + (rest as u128) < n
}
