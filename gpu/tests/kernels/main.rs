//! The kernels, run by the emulator: what they decode is what core decodes, bit for bit, and
//! nothing else is wrong with them.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "helpers of tests, which say what they ran"
)]

mod dictionary;
mod figures;
mod published;
mod rans;
mod support;
mod units;
