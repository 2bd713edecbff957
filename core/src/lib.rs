//! Lossless compression of BF16 model weights in the published **DF11** layout.
//!
//! The exponents of trained weights carry about 2.7 bits of information in their 8. DF11 splits
//! each weight into its exponent and its sign and mantissa, codes the exponents with one Huffman
//! code per *unit* (a run of tensors that belong together, usually one transformer block), and
//! keeps the rest raw: about 11 bits a weight, bit for bit reversible, NaN payloads and signed
//! zeros included.
//!
//! # Overview
//!
//! * [`Unit`] is a borrowed view over the six tensors of one unit, built only through validation.
//!   It decodes [whole](Unit::decode_into), [by block](Unit::decode_block_into), or [any
//!   range](Unit::decode_range_into), into the caller's memory, with no allocator.
//! * [`Plan`] holds what an encoder knows before it writes: the code, and the exact size of every
//!   part. [`encode`] plans and encodes in one call, and returns owned buffers.
//! * [`frame`] holds one tensor of any float type in a self-contained byte string, with checksums,
//!   coded by rANS (smallest) or a dictionary (fastest).
//! * [`delta`] holds one tensor against another that is near to it: a fine-tune, a training step.
//! * [`dietgpu`] reads and writes the archives of that program.
//! * [`bf16`] splits and merges planes.
//! * [`hazmat`] holds the parts that all this is made of, for decoders and formats of one's own:
//!   code lengths, codewords and tables, rANS, dictionaries.
//!
//! Weights are passed as bytes, two per element, little-endian, exactly as a safetensors file
//! stores `BF16`: nothing needs to be aligned, and a memory-mapped file can be passed as it is.
//!
//! # Memory
//!
//! Without an allocator, decoding a unit uses the tables that it brings and no others, and less
//! than 1 KiB of stack, whatever the size of the unit: `examples/firmware` measures 640 bytes on a
//! Cortex-M4F, the caller's view of the unit included. With one, units of a thousand weights and
//! more are decoded by [`Decoder`], whose tables take 48 KiB of heap (checking gaps: 64 KiB more,
//! not with AVX-512), and which uses about 10 KiB of stack. Planning a code uses about 20 KiB of
//! stack; a [`Plan`] itself is about 7 KiB. Frames of codec rANS and archives are decoded with a
//! [`frame::RansTable`] of the caller, 18 KiB (16 KiB where there are no vectors for it); frames
//! with dictionaries with a [`frame::DictionaryTable`] of 2 or 32 KiB. [`frame::DecodeTable`], 50
//! KiB, serves all frames. A frame takes about 2 KiB of stack, with a dictionary 4. Encoding 65,536
//! weights and more uses a table of 576 KiB on the heap (not with AVX-512).
//!
//! # Instruction sets
//!
//! [`Level`] is an instruction set: AVX-512, AVX2, NEON or the portable baseline. The best one that
//! the processor supports is chosen automatically; [`Decoder::at_level`] and the other `at_level`
//! methods take a lower one, for tests and benchmarks. This crate has no `unsafe`; what needs it
//! lives in `df11-simd`, whose documentation says how a build is kept to a level.
//!
//! # Crate features
//!
//! | feature | what it brings | without it |
//! |---|---|---|
//! | `alloc` | [`encode`], [`EncodedUnit`], [`Decoder`], [`Encoder`], [`frame::Encoder`], [`frame::encode`], [`dietgpu::encode_floats`] | units are decoded at a tenth of the speed, and encoded through [`Plan`]; frames and archives are decoded, not encoded |
//! | `std` (default) | implies `alloc`; CPU features are detected at run time | only features enabled at compile time (`-C target-feature`) are used |
//! | `rayon` | implies `std`; `encode_parallel`, `decode_parallel_into` and their kind: one unit or frame on the threads of the current rayon pool | one thread for each; units and frames can still be decoded side by side |
//!
//! # Versions
//!
//! Semantic versioning; before 1.0, a minor version may break programs. Enums and structures that
//! may grow are non-exhaustive. The text of an error is for people and may change, its variant,
//! [kind](Error::kind) and [clause](Error::clause) are not. The same weights and options give the
//! same bytes on every machine; what one version wrote, every later one reads. The oldest compiler
//! that is supported is `rust-version` in `Cargo.toml`, which rises in minor versions only.
//!
//! # Errors
//!
//! Every function that reads bytes from outside returns an [`Error`], which names the rule that was
//! broken, where, and the values; nothing panics on bad input. [`Error::kind`] groups errors for
//! programs.

#![no_std]
#![forbid(unsafe_code)]

#[cfg(feature = "alloc")]
extern crate alloc;

pub mod bf16;
pub mod delta;
pub mod dietgpu;
pub mod frame;
pub mod hazmat;

mod bits;
mod df11;
mod dictionary;
mod error;
mod huffman;
mod level;
mod rans;

#[cfg(feature = "rayon")]
pub use self::df11::Counts;
#[cfg(feature = "alloc")]
pub use self::df11::{Decoder, EncodedUnit, Encoder, encode};
pub use self::df11::{
    EncodeOptions, MAX_ELEMENTS, PARTS, PUBLISHED_SHARED_MEMORY, Parts, Plan, Unit, shared_memory_bytes,
};
pub use error::{DeltaPart, Error, ErrorKind, FramePart};
pub use level::Level;

/// The examples in the crate's README, compiled and run with the documentation tests.
#[cfg(all(doctest, feature = "alloc"))]
#[doc = include_str!("../README.md")]
mod readme {}
