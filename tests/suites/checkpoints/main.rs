//! Checkpoints of every shape are compressed and restored.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod damage;
mod files;
mod foreign;
mod partition;
mod reader;
mod round_trip;
mod stopped;
mod support;
