//! `libdf11gpu`: decoding on GPUs for engines in C and C++.
//!
//! The header `include/df11_gpu.h` is made of what stands here, and is where users read about it.
//! There is no logic in this crate: it checks what comes over the boundary, and passes it on to
//! `df11-gpu`.

#![cfg(target_os = "linux")]
#![allow(unsafe_code, reason = "the boundary to C")]
#![allow(non_camel_case_types, reason = "the names are those of the header")]

// In the order in which the header has them, not in that of the alphabet.
mod types;

mod boundary;

mod device;

mod unit;

mod frame;

mod batch;

pub use batch::*;
pub use device::*;
pub use frame::*;
pub use types::*;
pub use unit::*;
