//! The kernels that apply deltas, run by the emulator. What they leave is what core restores, bit
//! for bit, and the emulator finds no fault.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "helpers of tests, which say what they ran"
)]

#[path = "../common/emulated.rs"]
mod emulated;

mod barriers;
mod damage;
mod figures;
mod laws;
mod support;
