//! `libdf11`: the codec for programs in C and C++.
//!
//! The headers `include/df11.h` and `include/df11_files.h` are made of what stands here, and are
//! where users read about it. There is no logic of the codec in this crate: it checks what comes
//! over the boundary, and passes it on.
//!
//! The rules of the boundary, in one place ([`boundary`]):
//!
//! * Memory belongs to the caller. Views (a unit, a frame, a plan) are values in memory of the
//!   caller, too, and are marked, so that memory that holds another is noticed.
//! * What goes out must not overlap with what comes in; that is checked.
//! * No panic crosses: there should be none, and one would end as [`df11_status::DF11_INTERNAL`].

#![allow(unsafe_code, reason = "the boundary to C")]
#![allow(non_camel_case_types, reason = "the names are those of the headers")]

// In the order in which the header has them, not in that of the alphabet.
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

/// The version of the library, as in "0.1.0". Never NULL; lives as long as the library.
#[unsafe(no_mangle)]
pub extern "C" fn df11_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

/// CRC-32 (that of Ethernet and zip) of some bytes, continued from `seed`, which is 0 at the start:
/// what frames are checked by. `data` may be NULL if `len` is 0.
///
/// # Safety
///
/// `data` must point to `len` bytes that can be read.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn df11_crc32(seed: u32, data: *const u8, len: usize) -> u32 {
    let bytes = df11_bytes { data, len };
    // SAFETY: What the caller promises.
    unsafe { bytes.get() }.map_or(seed, |bytes| df11::hazmat::frame::crc(seed, bytes))
}
