//! Deltas: one tensor stored against another, as `spec/DELTA.md` describes it.
//!
//! [`encode`] makes one of a tensor and its *base*: a fine-tuned matrix and the matrix that it
//! began as, a checkpoint and the one before. [`Delta`] is a view over the bytes of one, built only
//! through validation; it gives the tensor back, bit for bit, where the base is at hand:
//! [whole](Delta::apply), [by range](Delta::apply_range_in) or [over the
//! base](Delta::apply_in_place). Of weights that are 99 % equal to the base's, a delta takes about
//! half a per cent; where nothing is gained, it holds a [frame](crate::frame) and is as large as
//! that.
//!
//! A wrong base is noticed by checksums of 32 bits in every block. That is enough for accidents;
//! whoever keeps deltas should keep a cryptographic digest of each base, too.
//!
//! ```
//! use df11::{delta::{self, Delta}, frame::ElementType};
//!
//! let base: Vec<u8> = (0..20_000u16).flat_map(|i| (0x3c00 + i % 999).to_le_bytes()).collect();
//! // A step of training: every tenth weight is one unit in the last place more.
//! let mut new = base.clone();
//! new.chunks_mut(20).for_each(|ten| ten[0] = ten[0].wrapping_add(1));
//!
//! let bytes = delta::encode(ElementType::Bf16, &new, &base)?;
//! assert!(bytes.len() < new.len() / 20);
//! assert_eq!(Delta::new(&bytes)?.apply(&base)?, new);
//!
//! // Another base is refused.
//! let mut wrong = base.clone();
//! wrong[40] ^= 1;
//! assert!(Delta::new(&bytes)?.apply(&wrong).is_err());
//! # Ok::<(), df11::Error>(())
//! ```

mod decode;
mod element;
#[cfg(feature = "alloc")]
mod encode;
#[cfg(feature = "alloc")]
mod groups;
mod table;
mod view;

#[cfg(feature = "alloc")]
pub use encode::{EncodeOptions, encode};
pub use table::DecodeTable;
pub use view::{Delta, Method};

/// What [`hazmat::delta`](crate::hazmat::delta) shows.
pub(crate) mod parts {
    pub use super::view::{Block, Body, Coded, Entries};
}

/// The first bytes of a delta (B-3.1).
pub const MAGIC: [u8; 8] = *b"\x89DF11d\n\x1a";

/// The version that is described and written here.
pub const VERSION: u8 = 1;

/// The most elements of a block (B-3.1).
pub const LONGEST_BLOCK: usize = 1 << 20;

/// The fewest elements of a block that is not the last (B-3.1).
const SHORTEST_BLOCK: usize = 1 << 12;

/// Elements of a chunk (B-5.7).
const CHUNK: usize = 64;

/// Chunks of the longest block.
const CHUNKS: usize = LONGEST_BLOCK / CHUNK;

/// Bytes of an entry of the directory (B-5.5).
const ENTRY: usize = 28;

/// The symbol of an escape (B-5.2).
const ESCAPE: u8 = 255;

/// The sum of the frequencies of a table.
const SUM: u32 = 1 << df11_simd::delta::SCALE_BITS;
