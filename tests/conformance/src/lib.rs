//! Judges implementations of DF11.
//!
//! * [`vectors`]: the test vectors in `spec/vectors`, as data.
//! * [`judge`]: runs an external decoder or encoder on every vector and says what it did wrong.
//! * [`lint`]: every rule that a unit bends, by clause of `spec/DF11.md`.

pub mod judge;
pub mod lint;
pub mod vectors;
