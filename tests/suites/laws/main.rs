//! Laws that hold for any weights, stated over generated ones.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod damage;
mod levels;
mod pieces;
mod reference;
mod support;
mod threads;
mod units;
