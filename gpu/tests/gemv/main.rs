//! The kernels that multiply matrices with vectors, run by the emulator. Their sums are those of
//! the stated order, bit for bit, whether weights are compressed or not.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "helpers of tests, which say what they ran"
)]

mod figures;
mod order;
mod shapes;
mod support;
