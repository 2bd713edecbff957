//! Hazards that occur on a card, but not in a lenient emulator. Each is shown with the emulated
//! driver and a device of its own, since the test loses this device.

#![cfg(all(target_os = "linux", feature = "driver"))]
#![allow(clippy::unwrap_used, clippy::panic, unsafe_code, reason = "helpers of tests, and an engine's calls")]

mod addresses;
mod batches;
mod contexts;
mod support;
