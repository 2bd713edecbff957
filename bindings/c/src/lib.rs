//! `libdf11`: the codec for programs in C and C++.
//!
//! The headers `include/df11.h` and `include/df11_files.h` are generated from these doc comments,
//! so users read them there. This crate contains no logic of the codec: it checks what crosses the
//! boundary, and passes it on.
//!
//! The rules of the boundary are in one place ([`boundary`]):
//!
//! * Memory belongs to the caller. Views (a unit, a frame, a plan) are also values in the caller's
//!   memory. They carry marks, so that memory with another content is detected.
//! * Output must not overlap with input, which is checked.
//! * No panic crosses the boundary. A panic would be a defect, and ends as
//!   [`df11_status::DF11_INTERNAL`].

#![allow(unsafe_code, reason = "the boundary to C")]
#![allow(non_camel_case_types, reason = "the names are those of the headers")]

// The modules are in the order of the header, not in alphabetical order.
mod status;

mod boundary;

mod unit;

mod encode;

mod frame;

mod dietgpu;

#[cfg(feature = "files")]
mod files;

use std::ffi::c_char;

pub use boundary::{df11_buffer, df11_bytes};
pub use dietgpu::*;
pub use encode::*;
#[cfg(feature = "files")]
pub use files::*;
pub use frame::*;
pub use status::{df11_error, df11_status};
pub use unit::*;

/// Returns the version of the library, as in "0.1.0". The pointer is never NULL, and always stays
/// valid.
#[unsafe(no_mangle)]
pub extern "C" fn df11_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

/// Computes the CRC-32 (that of Ethernet and zip) of some bytes, continued from `seed`, which is 0
/// at the start. Frames use this checksum. `data` may be NULL if `len` is 0.
///
/// # Safety
///
/// `data` must be valid for reads of `len` bytes, or NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn df11_crc32(seed: u32, data: *const u8, len: usize) -> u32 {
    let bytes = df11_bytes { data, len };
    // SAFETY: this function's caller promises what `get` needs: NULL, or `len` readable bytes.
    unsafe { bytes.get() }.map_or(seed, |bytes| df11::hazmat::frame::crc(seed, bytes))
}
