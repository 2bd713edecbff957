//! Interleaved rANS: `hazmat::rans`.

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

/// The number of blocks that are interleaved when decoding, so that each hides the latency of the
/// others. Without vectors, interleaving would only take stack.
pub(crate) const MANY: usize = if cfg!(any(target_arch = "x86_64", target_arch = "aarch64")) { 4 } else { 1 };

/// Where every state starts and ends (R-3.2).
const START_STATE: u32 = df11_simd::rans::START_STATE;

/// One more than the greatest state.
const STATE_BITS: u32 = 31;

/// Returns the largest size in bytes of the words of this many symbols: one word for each symbol.
///
/// ```
/// assert_eq!(df11::hazmat::rans::words_bound(4096), 8192);
/// ```
#[must_use]
pub const fn words_bound(symbols: usize) -> usize {
    symbols.saturating_mul(WORD_BYTES)
}

const _: () = assert!(size_of::<DecodeTable>() <= 18 << 10 && size_of::<EncodeTable>() <= 9 << 10);
