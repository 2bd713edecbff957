//! Runs the kernels of `df11-gpu` in an emulator, without a driver and on any system.
//!
//! [`emulate`] runs the kernels that decode, and any other kernel of the published signature, with
//! all findings of the emulator. [`gemv`] runs those that multiply, [`delta`] those that apply
//! deltas. [`report`] counts their work. [`Machine`](machine::Emulated) runs the kernels that
//! encode.

pub mod delta;
pub mod emulate;
pub mod gemv;
pub mod machine;
pub mod model;
pub mod report;
