//! The kernels that encode, run by the emulator: what they write is what core writes, byte for
//! byte, and nothing else is wrong with them.

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
