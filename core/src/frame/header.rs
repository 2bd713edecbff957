//! The header of a frame (section 3), and what follows from it about the blocks.

use core::num::NonZeroUsize;

use super::{ALIGNMENT, BLOCK, BLOCK_HEADER, ElementType, MAGIC, MAX_RANK, VERSION, crc, padding};
use crate::dictionary::{self, CHUNK, Width};
use crate::rans::{self, Frequencies, STATES_BYTES};
use crate::{Error, FramePart};

/// How the blocks of a frame are coded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Codec {
    /// Not at all.
    Raw,
    /// Coded bytes by rANS, raw parts as they are.
    Rans,
    /// Coded bytes by a dictionary, raw parts as they are: a little larger than rANS, and several
    /// times as fast.
    Dictionary,
}

impl Codec {
    /// Its number in the header (F-3.1).
    ///
    /// ```
    /// assert_eq!(df11::frame::Codec::Dictionary.number(), 3);
    /// ```
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Codec::Raw => 0,
            Codec::Rans => 1,
            Codec::Dictionary => 3,
        }
    }

    /// `raw`, `rans` or `dictionary`.
    ///
    /// ```
    /// assert_eq!(df11::frame::Codec::Rans.name(), "rans");
    /// ```
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Codec::Raw => "raw",
            Codec::Rans => "rans",
            Codec::Dictionary => "dictionary",
        }
    }
}

/// What the blocks of a frame are coded with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Model {
    None,
    Frequencies(Frequencies),
    Dictionary(dictionary::Model),
}

impl Model {
    /// The codec and the number of the model in a frame (F-3.3), and what stands in byte 12.
    pub(super) const fn numbers(&self) -> (Codec, u8, u8) {
        match self {
            Model::None => (Codec::Raw, 0, 0),
            Model::Frequencies(frequencies) => (Codec::Rans, 1, frequencies.scale_bits()),
            Model::Dictionary(model) => (Codec::Dictionary, 2, model.width().bits()),
        }
    }
}

/// The header of a frame: what its elements are and how they are coded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    pub(super) element_type: ElementType,
    /// Elements of every block but the last, as [`checked_block_len`] has them.
    pub(super) block: NonZeroUsize,
    pub(super) len: usize,
    pub(super) shape: [u64; MAX_RANK],
    pub(super) rank: usize,
    pub(super) model: Model,
}

/// The number of elements of a shape (F-3.2): 0 if a dimension is 0, whatever the others are.
/// `None` from 2^64 on.
///
/// ```
/// use df11::frame::element_count;
///
/// assert_eq!([&[3, 4][..], &[], &[1 << 63, 2, 0]].map(element_count), [Some(12), Some(1), Some(0)]);
/// assert_eq!(element_count(&[1 << 63, 2]), None);
/// ```
#[must_use]
pub fn element_count(shape: &[u64]) -> Option<u64> {
    if shape.contains(&0) {
        return Some(0);
    }
    shape.iter().try_fold(1u64, |product, &dimension| product.checked_mul(dimension))
}

/// Returns [`element_count`], if the size of these elements in bytes does not overflow here either.
pub(super) fn countable(element_type: ElementType, shape: &[u64]) -> Option<usize> {
    let count = usize::try_from(element_count(shape)?).ok()?;
    count.checked_mul(element_type.bytes()).map(|_| count)
}

/// The fewest elements of a block, but for the last of a frame (F-3.1).
pub(super) const SHORTEST_BLOCK: usize = 4096;

/// Returns the number of elements of a block, if it is allowed (F-3.1).
pub(super) fn checked_block_len(block: u64) -> Option<NonZeroUsize> {
    let is_good = block.is_multiple_of(64) && (SHORTEST_BLOCK as u64..=BLOCK as u64).contains(&block);
    NonZeroUsize::new(block as usize).filter(|_| is_good)
}

/// Takes bytes off the front.
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn take<const N: usize>(&mut self) -> Result<&'a [u8; N], Error> {
        let missing = Error::FrameLength {
            part: FramePart::Header,
            expected: (self.at + N) as u64,
            found: self.bytes.len() as u64,
        };
        let taken = self.bytes.get(self.at..).and_then(|rest| rest.first_chunk()).ok_or(missing)?;
        self.at += N;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, Error> {
        self.take().map(|[byte]| *byte)
    }

    fn reserved<const N: usize>(&mut self) -> Result<(), Error> {
        let taken: &[u8; N] = self.take()?;
        if *taken == [0; N] { Ok(()) } else { Err(Error::FrameReserved { part: FramePart::Header }) }
    }

    fn padding(&mut self, to: usize) -> Result<(), Error> {
        for _ in 0..padding(self.at, to) {
            self.reserved::<1>()?;
        }
        Ok(())
    }
}

impl Model {
    fn read_frequencies(&mut self, cursor: &mut Cursor<'_>, scale_bits: u8) -> Result<(), Error> {
        *self = Model::Frequencies(Frequencies::unchecked(scale_bits));
        let Model::Frequencies(frequencies) = self else { return Ok(()) };
        let known = frequencies.as_unchecked_array();
        let alphabet: &[u8; 32] = cursor.take()?;
        for symbol in symbols(alphabet) {
            let frequency = u16::from_le_bytes(*cursor.take()?);
            if frequency == 0 {
                return Err(Error::FrameField { clause: "F-3.3", field: "frequency", value: 0 });
            }
            known[usize::from(symbol)] = frequency;
        }
        Ok(())
    }

    fn read_costs(&mut self, cursor: &mut Cursor<'_>, width: u8) -> Result<(), Error> {
        let bad = |clause, field, value: u8| Error::FrameField { clause, field, value: u64::from(value) };
        // Another width is an error, when it is known that the header is not damaged.
        let width = Width::from_bits(width).unwrap_or(Width::Twelve);
        *self = Model::Dictionary(dictionary::Model::unchecked(width));
        let Model::Dictionary(model) = self else { return Ok(()) };
        let (first, following, limit, remainder) = model.as_unchecked();
        let alphabet: &[u8; 32] = cursor.take()?;
        if *alphabet == [0; 32] {
            return Err(bad("F-3.3", "number of symbols", 0));
        }
        for costs in [first, following] {
            for symbol in symbols(alphabet) {
                match cursor.byte()? {
                    0 => return Err(bad("F-3.3", "cost", 0)),
                    cost => costs[usize::from(symbol)] = cost,
                }
            }
        }
        *limit = u16::from_le_bytes(*cursor.take()?);
        *remainder = u16::from_le_bytes(*cursor.take()?);
        Ok(())
    }
}

/// The symbols of an alphabet (F-3.1), least first.
fn symbols(alphabet: &[u8; 32]) -> impl Iterator<Item = u8> {
    (0..=u8::MAX).filter(|symbol| alphabet[usize::from(symbol / 8)] >> (symbol % 8) & 1 == 1)
}

impl Header {
    /// Reads the header at the front of these bytes; returns how many they are, too.
    ///
    /// # Errors
    ///
    /// [`Error::FrameLength`] of kind [`Truncated`](crate::ErrorKind::Truncated) if there are too
    /// few bytes yet; [`Error::NotAFrame`], [`Error::FrameUnsupported`], [`Error::FrameChecksum`],
    /// [`Error::FrameReserved`], [`Error::FrameField`], [`Error::FrequencySum`],
    /// [`Error::SymbolCost`] or [`Error::DictionaryStrings`] for what breaks
    /// a rule of section 3.
    ///
    /// ```
    /// use df11::frame::{self, ElementType, Header};
    ///
    /// let bytes = frame::encode(ElementType::F16, &[3], &[0; 6])?;
    /// let (header, length) = Header::parse(&bytes)?;
    /// assert_eq!((header.element_type(), header.len()), (ElementType::F16, 3));
    /// assert_eq!(length % 16, 0);
    /// # Ok::<(), df11::Error>(())
    /// ```
    pub fn parse(bytes: &[u8]) -> Result<(Self, usize), Error> {
        let mut header = Header::UNREAD;
        let end = header.read(bytes)?;
        Ok((header, end))
    }

    /// What [`read`](Self::read) overwrites.
    pub(super) const UNREAD: Header = Header {
        element_type: ElementType::U8,
        block: NonZeroUsize::MIN,
        len: 0,
        shape: [0; MAX_RANK],
        rank: 0,
        model: Model::None,
    };

    /// [`parse`](Self::parse) to where the header is to be: it takes most of a KiB, and each move
    /// would take as much stack. After an error it is no header.
    pub(super) fn read(&mut self, bytes: &[u8]) -> Result<usize, Error> {
        let mut cursor = Cursor { bytes, at: 0 };
        if bytes.iter().zip(&MAGIC).any(|(found, wanted)| found != wanted) {
            return Err(Error::NotAFrame);
        }
        cursor.take::<8>()?;
        let unsupported = |field, number| Err(Error::FrameUnsupported { field, number });
        match cursor.byte()? {
            VERSION => {}
            number => return unsupported("version", number),
        }
        let [element_type, codec, model, scale_bits, rank] = *cursor.take()?;
        let Some(element_type) = ElementType::ALL.get(usize::from(element_type)).copied() else {
            return unsupported("element type", element_type);
        };
        if ![Codec::Raw, Codec::Rans, Codec::Dictionary].iter().any(|known| known.number() == codec) {
            return unsupported("codec", codec);
        }
        if model > 2 {
            return unsupported("model", model);
        }
        if usize::from(rank) > MAX_RANK {
            return Err(Error::FrameField { clause: "F-3.1", field: "rank", value: u64::from(rank) });
        }
        cursor.reserved::<2>()?;
        let count = u64::from_le_bytes(*cursor.take()?);
        let block = u32::from_le_bytes(*cursor.take()?);
        cursor.reserved::<4>()?;
        let shape = &mut self.shape;
        for dimension in shape.iter_mut().take(usize::from(rank)) {
            *dimension = u64::from_le_bytes(*cursor.take()?);
        }
        // A reader needs to know first whether a header is damaged, and only then what its damaged
        // fields would mean.
        self.model = Model::None;
        match model {
            1 => self.model.read_frequencies(&mut cursor, scale_bits)?,
            2 => self.model.read_costs(&mut cursor, scale_bits)?,
            _ => {}
        }
        cursor.padding(4)?;
        let end = cursor.at;
        if u32::from_le_bytes(*cursor.take()?) != crc(0, bytes.get(..end).unwrap_or_default()) {
            return Err(Error::FrameChecksum { part: FramePart::Header });
        }
        cursor.padding(ALIGNMENT)?;

        let (implied, _, bits) = self.model.numbers();
        if codec != implied.number() || (model != 0 && count == 0) || (model == 0 && scale_bits != bits) {
            return Err(Error::FrameField { clause: "F-3.3", field: "model", value: u64::from(model) });
        }
        if model == 2 && scale_bits != bits {
            let value = u64::from(scale_bits);
            return Err(Error::FrameField { clause: "F-3.1", field: "width of codes", value });
        }
        match &self.model {
            Model::None => {}
            Model::Frequencies(_) if !rans::SCALE_BITS.contains(&scale_bits) => {
                let value = u64::from(scale_bits);
                return Err(Error::FrameField { clause: "R-2.1", field: "number of scale bits", value });
            }
            Model::Frequencies(frequencies) => frequencies.check()?,
            Model::Dictionary(model) => model.check()?,
        }
        let Some(block_len) = checked_block_len(u64::from(block)) else {
            return Err(Error::FrameField { clause: "F-3.1", field: "block size", value: u64::from(block) });
        };
        if implied == Codec::Dictionary && !block_len.get().is_multiple_of(CHUNK) {
            return Err(Error::FrameField { clause: "F-3.3", field: "block size", value: u64::from(block) });
        }
        let dimensions = shape.get(..usize::from(rank)).unwrap_or_default();
        let len = countable(element_type, dimensions).filter(|len| *len as u64 == count);
        self.element_type = element_type;
        self.block = block_len;
        self.len = len.ok_or(Error::FrameField { clause: "F-3.2", field: "element count", value: count })?;
        self.rank = usize::from(rank);
        Ok(cursor.at)
    }

    /// What the elements are.
    #[must_use]
    pub const fn element_type(&self) -> ElementType {
        self.element_type
    }

    /// How the blocks are coded.
    #[must_use]
    pub const fn codec(&self) -> Codec {
        self.model.numbers().0
    }

    /// The number of elements.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a header is no collection")]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// The dimensions, outermost first.
    pub fn shape(&self) -> impl Iterator<Item = u64> {
        self.shape.into_iter().take(self.rank)
    }

    /// The model of codec rANS.
    #[must_use]
    pub const fn frequencies(&self) -> Option<&Frequencies> {
        match &self.model {
            Model::Frequencies(frequencies) => Some(frequencies),
            _ => None,
        }
    }

    /// The model of codec dictionary.
    #[must_use]
    pub const fn dictionary(&self) -> Option<&dictionary::Model> {
        match &self.model {
            Model::Dictionary(model) => Some(model),
            _ => None,
        }
    }

    /// The elements of every block but the last.
    #[must_use]
    pub const fn block_len(&self) -> usize {
        self.block.get()
    }

    /// Returns the size in bytes of the elements of every block but the last. It is never 0, and
    /// never more than the size of all elements.
    pub(super) fn block_bytes_of_elements(&self) -> usize {
        self.block.get().saturating_mul(self.element_type.bytes()).max(1)
    }

    /// The number of blocks.
    #[must_use]
    pub const fn blocks(&self) -> usize {
        self.len.div_ceil(self.block.get())
    }

    /// The elements of a block; empty for one that is not there.
    #[must_use]
    pub fn block_range(&self, block: usize) -> core::ops::Range<usize> {
        let at = |block: usize| block.saturating_mul(self.block.get()).min(self.len);
        at(block)..at(block.saturating_add(1))
    }

    /// How many bytes a block has, by its first [`PREFIX`](Self::PREFIX): what a reader that
    /// streams has to wait for.
    ///
    /// # Errors
    ///
    /// [`Error::FrameField`] if the block says that it has more words than symbols, or half a word;
    /// [`Error::FrameUnsupported`] with codec dictionary, whose blocks do not stand one after the
    /// other.
    ///
    /// ```
    /// use df11::frame::{self, ElementType, Header};
    ///
    /// let bytes = frame::encode(ElementType::U8, &[10], b"0123456789")?;
    /// let (header, start) = Header::parse(&bytes)?;
    /// let prefix = bytes[start..].first_chunk().unwrap();
    /// assert_eq!(header.block_bytes(0, prefix)?, 32);
    /// # Ok::<(), df11::Error>(())
    /// ```
    pub fn block_bytes(&self, block: usize, prefix: &[u8; Self::PREFIX]) -> Result<usize, Error> {
        let [_, _, _, _, a, b, c, d, ..] = *prefix;
        self.parts(block, u32::from_le_bytes([a, b, c, d])).map(|parts| parts.end)
    }

    /// Bytes that say how long a block is.
    pub const PREFIX: usize = BLOCK_HEADER;

    /// Where the parts of a block are, from its start.
    pub(super) fn parts(&self, block: usize, words: u32) -> Result<Parts, Error> {
        let elements = self.block_range(block).len();
        let number = u64::from(words);
        if number % 2 != 0 {
            return Err(Error::FrameField { clause: "F-5.2", field: "bytes of words", value: number });
        }
        let too_many = Error::FrameField { clause: "F-5.3", field: "bytes of words", value: number };
        let (states, raw) = match self.codec() {
            Codec::Raw => (0, elements * self.element_type.bytes()),
            Codec::Rans => (STATES_BYTES, elements * self.element_type.raw_bytes()),
            Codec::Dictionary => {
                let number = Codec::Dictionary.number();
                return Err(Error::FrameUnsupported { field: "codec", number });
            }
        };
        let most = if states > 0 { 2 * elements } else { 0 };
        let words = usize::try_from(words).ok().filter(|words| *words <= most).ok_or(too_many)?;
        let words_start = BLOCK_HEADER + states;
        let words_end = words_start + words;
        let raw_start = words_end + padding(words_end, ALIGNMENT);
        let raw_end = raw_start + raw;
        Ok(Parts { words_start, words_end, raw_start, raw_end, end: raw_end + padding(raw_end, ALIGNMENT) })
    }
}

/// Offsets from the start of a block.
pub(super) struct Parts {
    pub(super) words_start: usize,
    pub(super) words_end: usize,
    pub(super) raw_start: usize,
    pub(super) raw_end: usize,
    pub(super) end: usize,
}
