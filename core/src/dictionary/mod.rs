//! Dictionaries of strings of bytes, as `spec/DICTIONARY.md` describes them: each code, of 8 or 12
//! bits, is the number of a string of 1 to 7 symbols, so that no code has to wait for the one
//! before it.
//!
//! ```
//! use df11::dictionary::{self, DecodeTable, EncodeTable, Model, Width};
//!
//! let symbols = b"what follows from how often each symbol occurs".repeat(10);
//! let mut counts = [0; 256];
//! symbols.iter().for_each(|&symbol| counts[usize::from(symbol)] += 1);
//! let model = Model::of_counts(&counts, Width::Twelve)?;
//!
//! let mut codes = Vec::new();
//! EncodeTable::new(&model).encode(&symbols, &mut codes)?;
//! assert!(codes.len() < symbols.len());
//!
//! let mut table = DecodeTable::<4096>::EMPTY;
//! table.build(&model)?;
//! let mut decoded = vec![0; symbols.len()];
//! table.decode_into(&codes, &mut decoded)?;
//! assert_eq!(decoded, symbols);
//! # Ok::<(), df11::Error>(())
//! ```

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
/// use df11::dictionary::{Width, codes_bound};
///
/// assert_eq!(codes_bound(4096, Width::Twelve), 6144);
/// assert_eq!(codes_bound(1, Width::Eight), 8);
/// ```
#[must_use]
pub const fn codes_bound(symbols: usize, width: Width) -> usize {
    symbols.div_ceil(GROUP).saturating_mul(width.group_bytes())
}
