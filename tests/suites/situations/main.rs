//! Situations that people meet: what they have, what happens to it, and what must still be there.
//!
//! Each test states a law. Inputs are made here, small, after bug reports of this field.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod compat;
mod costs;
mod files;
mod models;
mod support;
