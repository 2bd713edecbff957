//! A candle engine that runs a model from compressed weights, with the same outputs bit for bit.
//!
//! [`adapter`] connects checkpoints to candle and knows no model; [`bert`] is a model that uses it.

pub mod adapter;
pub mod bert;
