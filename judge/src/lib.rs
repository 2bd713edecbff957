//! Judges implementations of DF11, of frames and of deltas.
//!
//! * [`judge`]: asks an implementation every question of the vectors, and says what it did wrong,
//!   by clause; the command `df11 judge` is thin over it.
//! * [`campaign`]: questions without end, made up, and answered by the reference.
//! * [`subject`]: who is judged: a program, a shared library, a type in Rust.
//! * [`pair`]: a delta and its base as one input.
//! * [`report`]: a judgement as text, XML, a document to keep, and a badge.
//! * [`lint`]: every rule that a unit or a frame bends, by clause of `spec/DF11.md` or
//!   `spec/FRAME.md`.
//! * [`vectors`]: the vectors themselves, parsed, for an implementation in Rust that is to be
//!   tested in its own process.
//!
//! ```
//! use df11_judge::vectors::{FrameTest, Outcome};
//! use df11::frame::{DecodeTable, Frame};
//!
//! // A decoder of frames, judged in process: here that of df11.
//! for test in FrameTest::load()? {
//!     let bytes = test.bytes()?;
//!     let decoded = Frame::new(&bytes).and_then(|frame| {
//!         let mut elements = vec![0; frame.elements_bytes()];
//!         frame.decode_into(&mut elements).map(|()| elements)
//!     });
//!     match decoded {
//!         Ok(elements) => assert!(test.result == Outcome::Valid && test.is_answer(&elements), "{}", test.id),
//!         Err(error) => assert!(test.result != Outcome::Valid, "{}: {error}", test.id),
//!     }
//! }
//! # Ok::<(), String>(())
//! ```
//!
//! Versions follow those of the other crates of df11: semantic, and before 1.0 a minor version may
//! break programs.

pub mod campaign;
pub mod export;
pub mod judge;
pub mod lint;
pub mod pair;
pub mod question;
pub mod report;
pub mod subject;
pub mod vectors;
