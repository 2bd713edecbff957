//! Situations of users: their files, what happens to these, and which must still exist.
//!
//! Each test states a law. The inputs are small and are made here, after bug reports of this field.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod compat;
mod costs;
mod files;
mod models;
mod support;
