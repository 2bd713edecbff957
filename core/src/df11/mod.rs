//! Units in the DF11 layout: [`Unit`] reads and decodes, [`Plan`] and [`encode()`] write.
//!
//! A unit holds the weights of one or more tensors, one after the other, under one Huffman code, in
//! six tensors:
//!
//! | tensor | content |
//! |---|---|
//! | `luts` | 1 to 17 prefix tables of 256 bytes, then 256 code lengths |
//! | `encoded_exponent` | the exponents' codewords, most significant bit first |
//! | `sign_mantissa` | a byte per element: sign in bit 7, mantissa below |
//! | `output_positions` | per block, the index of the first element whose codeword starts in it, then the number of elements; `u32`, little-endian |
//! | `gaps` | per window, the bit offset of the first codeword that starts in it; 5 bits each, 512 entries per block |
//! | `split_positions` | the element at which each tensor but the first begins; `i64`, little-endian |
//!
//! A *window* is 8 bytes of code (what one GPU thread decodes), a *block* 512 windows (what one
//! thread block decodes).

mod decode;
mod encode;
mod gaps;
mod layout;
mod parts;
mod unit;

#[cfg(feature = "alloc")]
pub use decode::Decoder;
#[cfg(feature = "rayon")]
pub use encode::Counts;
pub use encode::{EncodeOptions, Plan};
#[cfg(feature = "alloc")]
pub use encode::{Encoder, encode};
pub use layout::{
    BLOCK_BITS, BLOCK_BYTES, GAP_BITS, GAP_BYTES_PER_BLOCK, MAX_ELEMENTS, PARTS, PUBLISHED_SHARED_MEMORY,
    WINDOW_BITS, WINDOW_BYTES, WINDOWS_PER_BLOCK, shared_memory_bytes,
};
#[cfg(feature = "alloc")]
pub use parts::EncodedUnit;
pub use parts::Parts;
pub use unit::Unit;
