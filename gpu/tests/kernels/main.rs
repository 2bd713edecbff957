//! The kernels that decode, run by the emulator. Their output is that of core, bit for bit, and the
//! emulator finds no fault.

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
