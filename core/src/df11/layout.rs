//! The numbers of the layout.

/// The keys of a unit's parts, after its module path, with their element types as safetensors names
/// them.
pub const PARTS: [(&str, &str); 6] = [
    ("luts", "U8"),
    ("encoded_exponent", "U8"),
    ("sign_mantissa", "U8"),
    ("output_positions", "U8"),
    ("gaps", "U8"),
    ("split_positions", "I64"),
];

/// Bytes of code in a window: `bytes_per_thread` in published configurations.
pub const WINDOW_BYTES: usize = 8;

/// Bits of code in a window.
pub const WINDOW_BITS: u64 = 8 * WINDOW_BYTES as u64;

/// Windows in a block: `threads_per_block` in published configurations.
pub const WINDOWS_PER_BLOCK: usize = 512;

/// Bytes of code in a block.
pub const BLOCK_BYTES: usize = WINDOWS_PER_BLOCK * WINDOW_BYTES;

/// Bits of code in a block.
pub const BLOCK_BITS: u64 = 8 * BLOCK_BYTES as u64;

/// Bits of one entry in `gaps`: with codewords of at most 32 bits, the first to start in a window
/// does so at bit 0..=31.
pub const GAP_BITS: u32 = 5;

/// Bytes of `gaps` for each block.
pub const GAP_BYTES_PER_BLOCK: usize = WINDOWS_PER_BLOCK * GAP_BITS as usize / 8;

/// The most elements, and the most bytes of code, that a unit can hold: published decoders count
/// both in 32-bit signed integers.
pub const MAX_ELEMENTS: usize = (1 << 31) - 1;

/// Shared memory that a thread block may use without asking the driver for more, in bytes.
/// Published decoders do not ask, so they cannot launch for a unit that needs more (see
/// [`Unit::shared_memory_bytes`](super::Unit::shared_memory_bytes)).
pub const PUBLISHED_SHARED_MEMORY: u64 = 48 * 1024;

/// Shared memory, in bytes, that the published kernel asks for if no block has more than this many
/// elements: a counter for each thread, one more, and two bytes for each element of the largest
/// block.
#[must_use]
pub const fn shared_memory_bytes(largest_block: u32) -> u64 {
    4 * WINDOWS_PER_BLOCK as u64 + 4 + 2 * largest_block as u64
}
