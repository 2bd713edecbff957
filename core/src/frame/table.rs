//! Decoding tables of frames, in the caller's memory.

use super::Header;
use super::header::Model;
use crate::{dictionary, rans};

pub use crate::dictionary::DecodeTable as DictionaryTable;
pub use crate::rans::DecodeTable as RansTable;

/// A table that frames are decoded with, and that the caller has memory for.
///
/// [`DecodeTable`] serves all frames. Where the codec is known, less will do: [`RansTable`], or
/// [`DictionaryTable`] of either size.
pub trait Table: sealed::Sealed {}

impl<T: sealed::Sealed> Table for T {}

pub(super) mod sealed {
    use super::{Header, Tables};

    pub trait Sealed {
        /// Whether it serves codec rANS: what decodes others is left out of programs without such a
        /// table.
        const RANS: bool;

        /// Whether it serves codec dictionary.
        const DICTIONARY: bool;

        /// Makes this the table of a frame; of none, if it is not for such frames.
        fn build(&mut self, header: &Header);

        /// What it holds.
        fn tables(&self) -> Tables<'_>;
    }
}

/// Tables for each codec that has been provided for.
#[derive(Clone, Copy, Debug)]
pub struct Tables<'t> {
    pub(super) rans: Option<&'t rans::DecodeTable>,
    pub(super) dictionary: Option<dictionary::Dictionary<'t>>,
}

/// A table for frames of any codec: 50 KiB.
#[derive(Clone, Debug)]
pub struct DecodeTable {
    rans: rans::DecodeTable,
    dictionary: dictionary::DecodeTable<4096>,
}

impl DecodeTable {
    /// A table of no frame, to be [built](super::Frame::build).
    #[must_use]
    pub const fn new() -> DecodeTable {
        DecodeTable { rans: rans::DecodeTable::new(), dictionary: dictionary::DecodeTable::new() }
    }
}

impl Default for DecodeTable {
    fn default() -> Self {
        Self::new()
    }
}

impl sealed::Sealed for DecodeTable {
    const RANS: bool = true;
    const DICTIONARY: bool = true;

    fn build(&mut self, header: &Header) {
        match header.model {
            Model::None => {}
            Model::Frequencies(_) => sealed::Sealed::build(&mut self.rans, header),
            Model::Dictionary(_) => sealed::Sealed::build(&mut self.dictionary, header),
        }
    }

    fn tables(&self) -> Tables<'_> {
        Tables { rans: Some(&self.rans), dictionary: self.dictionary.dictionary() }
    }
}

impl sealed::Sealed for rans::DecodeTable {
    const RANS: bool = true;
    const DICTIONARY: bool = false;

    fn build(&mut self, header: &Header) {
        if let Model::Frequencies(frequencies) = &header.model {
            self.build(frequencies);
        }
    }

    fn tables(&self) -> Tables<'_> {
        Tables { rans: Some(self), dictionary: None }
    }
}

impl<const N: usize> sealed::Sealed for dictionary::DecodeTable<N> {
    const RANS: bool = false;
    const DICTIONARY: bool = true;

    fn build(&mut self, header: &Header) {
        if let Model::Dictionary(model) = &header.model {
            // Of a table that is too small, nothing is built; decoding then says so.
            let _ = self.build(model);
        }
    }

    fn tables(&self) -> Tables<'_> {
        Tables { rans: None, dictionary: self.dictionary() }
    }
}

#[cfg(feature = "alloc")]
impl<T: sealed::Sealed> sealed::Sealed for alloc::boxed::Box<T> {
    const RANS: bool = T::RANS;
    const DICTIONARY: bool = T::DICTIONARY;

    fn build(&mut self, header: &Header) {
        sealed::Sealed::build(&mut **self, header);
    }

    fn tables(&self) -> Tables<'_> {
        (**self).tables()
    }
}
