//! Huffman codes over exponents: lengths, codewords, and the prefix tables that decoders read.
//!
//! From frequencies to a decodable code in three steps, each a type of its own:
//!
//! 1. [`CodeLengths`]: how long each symbol's codeword is, by package-merge, within stated limits.
//! 2. [`Codewords`]: the bits, assigned canonically from the lengths.
//! 3. [`PrefixTables`]: 8-bit look-up tables with jumps, as the layout stores them in `luts`;
//!    [`PrefixTablesBuf`] builds them. [`Codewords::from_tables`] goes back from tables to
//!    codewords, for any writer's tables.
//!
//! ```
//! use df11::huffman::{CodeLengths, Codewords, PrefixTablesBuf};
//!
//! let mut frequencies = [0; 256];
//! (frequencies[120], frequencies[121], frequencies[122]) = (5, 2, 1);
//! let lengths = CodeLengths::from_frequencies(&frequencies, 1, 32)?;
//! let codewords = Codewords::canonical(&lengths)?;
//! assert_eq!((codewords.bits(120), codewords.len(120)), (0b0, 1));
//! assert_eq!((codewords.bits(122), codewords.len(122)), (0b11, 2));
//!
//! let tables = PrefixTablesBuf::build(&codewords)?;
//! assert_eq!(tables.view().decode(0b11 << 30, 0)?, (122, 2));
//! # Ok::<(), df11::Error>(())
//! ```

mod canonical;
mod lengths;
mod tables;

pub use canonical::Codewords;
pub use lengths::{CodeLengths, MAX_CODE_LENGTH, MAX_LEAST_LENGTH};
pub use tables::{FIRST_JUMP, MAX_ROWS, MAX_TABLES, PrefixTables, PrefixTablesBuf};
