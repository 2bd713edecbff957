//! What the suites share: an independent decoder, corpora, generators.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "test support fails by panicking")]

pub mod corpus;
pub mod fixtures;
pub mod foreign;
pub mod spec_text;
pub mod vectors;
pub mod walk;
pub mod weights;
