//! The numbers of frames.

/// The first bytes of a frame (F-3.1).
pub const MAGIC: [u8; 8] = *b"\x89DF11\r\n\x1a";

/// The version that is described and written here.
pub const VERSION: u8 = 1;

/// The most dimensions (F-3.1).
pub const MAX_RANK: usize = 32;

/// Elements of a block as they are written here; others are read.
pub const BLOCK: usize = 1 << 16;

/// Scale bits as they are written here.
pub const SCALE_BITS: u8 = 12;

/// Tensors of fewer elements get codes of 8 bits, as they are written here: a table of 12 would
/// take longer to build than they take to decode.
#[cfg(feature = "alloc")]
pub(super) const SMALL: usize = 1 << 16;

/// Bytes of the trailer (F-6.2).
pub const TRAILER_BYTES: usize = 24;

/// Bytes of the directory for each block (F-6.1).
pub const ENTRY_BYTES: usize = 12;

/// Parts of a frame begin at multiples of this.
pub(super) const ALIGNMENT: usize = 16;

/// Bytes of a block before its states or elements (F-5.2).
pub(super) const BLOCK_HEADER: usize = 16;
