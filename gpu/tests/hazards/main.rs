//! What goes wrong on a card and not in an emulator that is kind: each hazard with the emulated
//! driver that shows it, and a device of its own, since whoever falls into one loses it.

#![cfg(all(target_os = "linux", feature = "driver"))]
#![allow(clippy::unwrap_used, clippy::panic, unsafe_code, reason = "helpers of tests, and an engine's calls")]

mod addresses;
mod batches;
mod contexts;
mod support;
