//! Frames: one tensor in a self-contained byte string, as `spec/FRAME.md` describes it.
//!
//! [`encode`] makes one, [`Frame`] is a view over the bytes of one, built only through validation.
//! [`Frame::decode`] gives all elements; a [`Decoder`] keeps the table for many calls and decodes
//! any range. Without an allocator, the caller has memory for a [`DecodeTable`] of 50 KiB, or a
//! smaller [`Table`] where the codec is known: [`Frame::decode_in`]. An [`Encoder`] writes one
//! block at a time, and needs memory for one; with a dictionary, for all. [`EncodeOptions`] choose
//! the codec:
//!
//! | codec | size of weights, % of BF16 | speed |
//! |---|---|---|
//! | [`Codec::Rans`] | 66.5 | |
//! | [`Codec::Dictionary`] | 67.4 | decoding as fast without vectors as with them; every chunk of 4,096 elements on its own |
//!
//! ```
//! use df11::frame::{self, ElementType, Frame};
//!
//! let elements: Vec<u8> = (0..20_000u16).flat_map(|i| (0x3c00 + i % 999).to_le_bytes()).collect();
//! let bytes = frame::encode(ElementType::Bf16, &[100, 200], &elements)?;
//! assert!(bytes.len() < elements.len());
//!
//! let frame = Frame::new(&bytes)?;
//! assert!(frame.header().shape().eq([100, 200]));
//! assert_eq!(frame.decode()?, elements);
//! # Ok::<(), df11::Error>(())
//! ```

mod chunks;
mod crc;
#[cfg(feature = "alloc")]
mod decoder;
#[cfg(feature = "alloc")]
mod encode;
mod header;
mod numbers;
#[cfg(feature = "rayon")]
mod parallel;
pub(crate) mod planes;
mod table;
mod view;

#[cfg(feature = "alloc")]
pub use decoder::Decoder;
#[cfg(feature = "rayon")]
pub use encode::count_parallel;
#[cfg(feature = "alloc")]
pub use encode::{EncodeOptions, Encoder, count, encode};
pub use header::{Codec, Header, element_count};
pub use numbers::{BLOCK, MAGIC, MAX_RANK};
pub use table::{DecodeTable, DictionaryTable, RansTable, Table};
pub use view::Frame;

#[cfg(feature = "alloc")]
pub(crate) use self::crc::Digest;
use self::crc::crc;
use self::numbers::{ALIGNMENT, BLOCK_HEADER, ENTRY_BYTES, TRAILER_BYTES, VERSION};
#[cfg(feature = "alloc")]
use self::numbers::{SCALE_BITS, SMALL};
use crate::rans::{STATES_BYTES, WORD_BYTES};

/// What `crate::hazmat::frame` shows.
pub(crate) mod hazmat {
    pub use super::chunks::ChunksLayout;
    pub use super::crc::crc;
    pub use super::numbers::{ENTRY_BYTES, SCALE_BITS, TRAILER_BYTES, VERSION};
    pub use super::view::BlockLayout;
}

/// Returns the largest size in bytes of a frame with this many elements, whatever they are and
/// whatever the length of its blocks; `None` if it overflows.
///
/// ```
/// use df11::frame::{self, ElementType};
///
/// // Bytes of which nothing can be gained.
/// let elements: Vec<u8> = (0..100_000u32).map(|i| (i.wrapping_mul(i) >> 5) as u8).collect();
/// let bound = frame::bound(ElementType::U8, &[100_000]).ok_or("too many")?;
/// assert!(frame::encode(ElementType::U8, &[100_000], &elements)?.len() <= bound);
/// assert_eq!(frame::bound(ElementType::U8, &[u64::MAX, 2]), None);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use]
pub fn bound(element_type: ElementType, shape: &[u64]) -> Option<usize> {
    /// The fields before the shape (F-3.1), marks and frequencies or costs of 256 symbols (F-3.3),
    /// the checksum, and padding, that of planes (F-5.5) as well.
    const HEADER: usize = 32 + 32 + 2 * 256 + 4 + 4 + 3 * ALIGNMENT + 3 * chunks::PLANE_ALIGNMENT;
    let elements = header::countable(element_type, shape)?;
    let blocks = elements.div_ceil(header::SHORTEST_BLOCK);
    let each = BLOCK_HEADER + STATES_BYTES + 2 * ALIGNMENT + ENTRY_BYTES;
    // Coded bytes: at most a word each. Where that is more than the elements, they are mostly kept
    // as they are.
    elements
        .checked_mul(element_type.raw_bytes() + WORD_BYTES)?
        .checked_add(blocks.checked_mul(each)?)?
        .checked_add(HEADER + 8 * shape.len() + TRAILER_BYTES)
}

/// Returns how many zeros follow this many bytes up to a multiple of `to`.
const fn padding(bytes: usize, to: usize) -> usize {
    bytes.wrapping_neg() % to
}

/// What the elements of a frame are (section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ElementType {
    /// Plain bytes.
    U8,
    /// 1 bit of sign, 8 of exponent, 7 of mantissa.
    Bf16,
    /// 1 bit of sign, 5 of exponent, 10 of mantissa.
    F16,
    /// 1 bit of sign, 8 of exponent, 23 of mantissa.
    F32,
    /// 1 bit of sign, 4 of exponent, 3 of mantissa.
    F8E4M3,
    /// 1 bit of sign, 5 of exponent, 2 of mantissa.
    F8E5M2,
}

impl ElementType {
    /// All types, by their number.
    ///
    /// ```
    /// use df11::frame::ElementType;
    ///
    /// assert_eq!(ElementType::ALL[ElementType::F32.number() as usize], ElementType::F32);
    /// ```
    pub const ALL: [ElementType; 6] = [
        ElementType::U8,
        ElementType::Bf16,
        ElementType::F16,
        ElementType::F32,
        ElementType::F8E4M3,
        ElementType::F8E5M2,
    ];

    /// Its number in a frame.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// Bytes of an element.
    ///
    /// ```
    /// use df11::frame::ElementType;
    ///
    /// assert_eq!(ElementType::ALL.map(ElementType::bytes), [1, 2, 2, 4, 1, 1]);
    /// ```
    #[must_use]
    pub const fn bytes(self) -> usize {
        match self {
            ElementType::U8 | ElementType::F8E4M3 | ElementType::F8E5M2 => 1,
            ElementType::Bf16 | ElementType::F16 => 2,
            ElementType::F32 => 4,
        }
    }

    /// Bytes of the raw part: all but one.
    const fn raw_bytes(self) -> usize {
        self.bytes() - 1
    }

    /// `U8`, `BF16`, `F16`, `F32`, `F8_E4M3` or `F8_E5M2`, as safetensors call them.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            ElementType::U8 => "U8",
            ElementType::Bf16 => "BF16",
            ElementType::F16 => "F16",
            ElementType::F32 => "F32",
            ElementType::F8E4M3 => "F8_E4M3",
            ElementType::F8E5M2 => "F8_E5M2",
        }
    }
}
