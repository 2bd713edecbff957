//! Dictionaries of strings: `hazmat::dictionary`.

mod decode;
#[cfg(feature = "alloc")]
mod encode;
mod model;

pub use decode::{DecodeTable, Dictionary};
#[cfg(feature = "alloc")]
pub use encode::EncodeTable;
pub use model::{Model, Width};

#[cfg(feature = "alloc")]
pub(crate) use df11_simd::dictionary::ROOM;
pub use df11_simd::dictionary::{GROUP, LONGEST};

/// The most symbols of a chunk (V-3.1).
pub const CHUNK: usize = 4096;

/// The most groups of a chunk (V-3.1).
pub const MAX_GROUPS: usize = CHUNK / GROUP;

/// The most bytes that the codes of this many symbols, at most a chunk, take: a code for each, in
/// whole groups.
///
/// ```
/// use df11::hazmat::dictionary::{Width, codes_bound};
///
/// assert_eq!(codes_bound(4096, Width::Twelve), 6144);
/// assert_eq!(codes_bound(1, Width::Eight), 8);
/// ```
#[must_use]
pub const fn codes_bound(symbols: usize, width: Width) -> usize {
    symbols.div_ceil(GROUP).saturating_mul(width.group_bytes())
}
