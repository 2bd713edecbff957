//! The parts that the formats are made of, for those who build something of their own from them.
//!
//! The rest of the crate keeps promises about whole units, frames and archives: what it decodes
//! was checked, as far as the format can be, and what it encodes every reader decodes. Here these
//! promises end. Nothing in this module is `unsafe` or panics on bad input; but a code that was not
//! built from the data, states and words from two blocks, or a checksum that nobody compares give
//! bytes that look like an answer and are none.
//!
//! Use it for a decoder elsewhere (on a GPU, in another language), for a check, a benchmark or a
//! format of your own. Otherwise use [`encode`](crate::encode()), [`Unit`](crate::Unit),
//! [`frame`](crate::frame) and [`dietgpu`](crate::dietgpu).
//!
//! | module | content | what it trusts the caller with |
//! |---|---|---|
//! | [`huffman`] | code lengths, canonical codewords, prefix tables of a unit | that the code is that of the data |
//! | [`rans`] | frequencies; states and words of blocks | that they belong together: a block has no checksum of its own |
//! | [`dictionary`] | dictionaries of strings, and the codes of chunks | that the codes were made with this dictionary |
//! | [`delta`] | what a delta holds, by its method | that checksums of the base and of the result are compared |
//! | [`bits`] | reads and writes bits, most significant first | that reading past the end, which gives zeros, is noticed |
//! | [`layout`] | the numbers of the layout of units | |
//! | [`frame`] | the numbers of frames; where the parts of their blocks are; their checksum | that what is decoded from there is compared with the checksums |

pub mod bits {
    //! Bits, most significant first: the order of codewords in `encoded_exponent` and of entries in
    //! `gaps`.

    pub use crate::bits::*;
}

pub mod delta {
    //! What a delta holds, as `spec/DELTA.md` describes it, for decoders elsewhere.
    //!
    //! ```
    //! use df11::delta::{self, Delta};
    //! use df11::frame::ElementType;
    //! use df11::hazmat::delta::Body;
    //!
    //! let base = [0; 2000];
    //! let mut new = base;
    //! new[6] = 1;
    //! let bytes = delta::encode(ElementType::Bf16, &new, &base)?;
    //! let Body::List { entries, .. } = Delta::new(&bytes)?.body() else { unreachable!() };
    //! assert_eq!(entries.collect::<Vec<_>>(), [(3, [1, 0].as_slice())]);
    //! # Ok::<(), df11::Error>(())
    //! ```

    pub use crate::delta::parts::*;
}

pub mod dictionary {
    //! Dictionaries of strings of bytes, as `spec/DICTIONARY.md` describes them: each code, of 8 or
    //! 12 bits, is the number of a string of 1 to 7 symbols, so that no code has to wait for the
    //! one before it.
    //!
    //! ```
    //! use df11::hazmat::dictionary::{self, DecodeTable, EncodeTable, Model, Width};
    //!
    //! let symbols = b"what follows from how often each symbol occurs".repeat(10);
    //! let mut counts = [0; 256];
    //! symbols.iter().for_each(|&symbol| counts[usize::from(symbol)] += 1);
    //! let model = Model::of_counts(&counts, Width::Twelve)?;
    //!
    //! let mut codes = Vec::new();
    //! EncodeTable::new(&model).encode(&symbols, &mut codes)?;
    //! assert!(codes.len() < symbols.len());
    //!
    //! let mut table = DecodeTable::<4096>::new();
    //! table.build(&model)?;
    //! let mut decoded = vec![0; symbols.len()];
    //! table.decode_into(&codes, &mut decoded)?;
    //! assert_eq!(decoded, symbols);
    //! # Ok::<(), df11::Error>(())
    //! ```

    pub use crate::dictionary::*;
}

pub mod huffman {
    //! Huffman codes over exponents: lengths, codewords, and the prefix tables that decoders read.
    //!
    //! From frequencies to a decodable code in three steps, each a type of its own:
    //!
    //! 1. [`CodeLengths`]: how long each symbol's codeword is, by package-merge, within stated
    //!    limits.
    //! 2. [`Codewords`]: the bits, assigned canonically from the lengths.
    //! 3. [`PrefixTables`]: 8-bit look-up tables with jumps, as the layout stores them in `luts`;
    //!    [`PrefixTablesBuf`] builds them. [`Codewords::from_tables`] goes back from tables to
    //!    codewords, for any writer's tables.
    //!
    //! ```
    //! use df11::hazmat::huffman::{CodeLengths, Codewords, PrefixTablesBuf};
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

    pub use crate::huffman::*;
}

pub mod rans {
    //! Interleaved rANS for bytes, as `spec/RANS.md` describes it: 32 lanes, words of 16 bits,
    //! blocks that are decoded alone.
    //!
    //! ```
    //! use df11::hazmat::rans::{self, DecodeTable, EncodeTable, Frequencies};
    //!
    //! let symbols = b"what follows from how often each symbol occurs".repeat(10);
    //! let mut counts = [0; 256];
    //! symbols.iter().for_each(|&symbol| counts[usize::from(symbol)] += 1);
    //! let frequencies = Frequencies::normalise(&counts, 12)?;
    //!
    //! let (mut states, mut words) = ([0; rans::STATES_BYTES], vec![0; rans::words_bound(symbols.len())]);
    //! let used = EncodeTable::new(&frequencies).encode_into(&symbols, &mut states, &mut words)?;
    //! assert!(rans::STATES_BYTES + used < symbols.len());
    //!
    //! let mut table = DecodeTable::new();
    //! table.build(&frequencies);
    //! let mut decoded = vec![0; symbols.len()];
    //! table.decode_into(&states, &words[..used], &mut decoded)?;
    //! assert_eq!(decoded, symbols);
    //! # Ok::<(), df11::Error>(())
    //! ```

    pub use crate::rans::*;
}

/// The numbers of the layout of units, as `spec/DF11.md` fixes them.
pub mod layout {
    pub use crate::df11::{
        BLOCK_BITS, BLOCK_BYTES, GAP_BITS, GAP_BYTES_PER_BLOCK, WINDOW_BITS, WINDOW_BYTES, WINDOWS_PER_BLOCK,
    };
}

/// The numbers of frames, as `spec/FRAME.md` fixes them, and where decoders elsewhere find the
/// parts of blocks.
pub mod frame {
    pub use crate::frame::hazmat::{
        BlockLayout, ChunksLayout, ENTRY_BYTES, SCALE_BITS, TRAILER_BYTES, VERSION, crc,
    };
}
