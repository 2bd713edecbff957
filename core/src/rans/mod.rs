//! Interleaved rANS for bytes, as `spec/RANS.md` describes it: 32 lanes, words of 16 bits, blocks
//! that are decoded alone.
//!
//! ```
//! use df11::rans::{self, DecodeTable, EncodeTable, Frequencies};
//!
//! let symbols = b"what follows from how often each symbol occurs".repeat(10);
//! let mut counts = [0; 256];
//! symbols.iter().for_each(|&symbol| counts[usize::from(symbol)] += 1);
//! let frequencies = Frequencies::normalise(&counts, 12)?;
//!
//! let (mut states, mut words) = ([0; rans::STATES_BYTES], vec![0; rans::words_bound(symbols.len())]);
//! let used = EncodeTable::new(&frequencies).encode_into(&symbols, &mut states, &mut words)?;
//! assert!(rans::STATES_BYTES + used < symbols.len());
//!
//! let mut table = DecodeTable::EMPTY;
//! table.build(&frequencies);
//! let mut decoded = vec![0; symbols.len()];
//! table.decode_into(&states, &words[..used], &mut decoded)?;
//! assert_eq!(decoded, symbols);
//! # Ok::<(), df11::Error>(())
//! ```

mod decode;
mod encode;
mod model;

pub use decode::{DecodeBlock, DecodeTable};
pub use encode::{EncodeBlock, EncodeTable};
pub use model::Frequencies;

/// Lanes of a block (R-3.1).
pub const LANES: usize = df11_simd::rans::LANES;

/// Bytes of the states of a block: one `u32` for each lane, little-endian.
pub const STATES_BYTES: usize = 4 * LANES;

/// Bytes of a word (R-3.3).
pub const WORD_BYTES: usize = 2;

/// The least and the greatest scale bits (R-2.1).
pub const SCALE_BITS: core::ops::RangeInclusive<u8> = 9..=12;

/// Blocks that are decoded in turn, so that each hides how long the others take. Without vectors,
/// they would only take stack.
pub(crate) const MANY: usize = if cfg!(any(target_arch = "x86_64", target_arch = "aarch64")) { 4 } else { 1 };

/// Where every state starts and ends (R-3.2).
const START_STATE: u32 = df11_simd::rans::START_STATE;

/// One more than the greatest state.
const STATE_BITS: u32 = 31;

/// The most bytes that the words of so many symbols take: one word for each symbol.
///
/// ```
/// assert_eq!(df11::rans::words_bound(4096), 8192);
/// ```
#[must_use]
pub const fn words_bound(symbols: usize) -> usize {
    symbols.saturating_mul(WORD_BYTES)
}

const _: () = assert!(size_of::<DecodeTable>() <= 18 << 10 && size_of::<EncodeTable>() <= 9 << 10);
