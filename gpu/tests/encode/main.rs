//! The kernels that encode, run by the emulator. Their output is that of core, byte for byte, and
//! the emulator finds no fault.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "helpers of tests, which say what they ran"
)]

mod frames;
mod machines;
mod support;
mod units;
mod work;
