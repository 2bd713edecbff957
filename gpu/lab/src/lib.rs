//! The kernels of `df11-gpu` in an emulator, without a driver and on any system.
//!
//! [`emulate`] runs those that decode, and everybody's kernels of the published signature, with
//! everything that the emulator has to say; [`report`] counts what they do;
//! [`Machine`](machine::Emulated) runs those that encode.

pub mod emulate;
pub mod machine;
pub mod report;
