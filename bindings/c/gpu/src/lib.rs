//! `libdf11gpu`: decoding on GPUs for engines in C and C++.
//!
//! The header `include/df11_gpu.h` is generated from these doc comments, so users read them there.
//! This crate contains no logic: it checks what crosses the boundary, and passes it on to
//! `df11-gpu`.

#![cfg(target_os = "linux")]
#![allow(unsafe_code, reason = "the boundary to C")]
#![allow(non_camel_case_types, reason = "the names are those of the header")]

// The modules are in the order of the header, not in alphabetical order.
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
