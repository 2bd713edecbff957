//! Huffman codes: `hazmat::huffman`.

mod canonical;
mod lengths;
mod tables;

pub use canonical::Codewords;
pub use lengths::{CodeLengths, MAX_CODE_LENGTH, MAX_LEAST_LENGTH};
pub use tables::{FIRST_JUMP, MAX_ROWS, MAX_TABLES, PrefixTables, PrefixTablesBuf};
