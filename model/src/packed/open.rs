//! Units and frames that stay open. Each is checked once, and keeps its decoding tables once they
//! are built.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use df11::frame::{self, Frame};
use df11::{Decoder, Parts, Unit};
use self_cell::self_cell;

use crate::container::Mapped;

/// Tables are kept only for items of at least this many stored bytes. A table takes 48 to 50 KiB,
/// so all tables together take no more memory than the open files.
const KEPT_FROM: usize = 64 << 10;

/// A range of a mapped file.
#[derive(Clone, Debug)]
pub(crate) struct Bytes {
    pub(crate) file: Arc<Mapped>,
    pub(crate) range: Range<usize>,
}

impl Bytes {
    pub(crate) fn get(&self) -> &[u8] {
        &self.file[self.range.clone()]
    }
}

struct CheckedUnit<'a> {
    unit: Unit<'a>,
    decoder: OnceLock<Decoder<'a>>,
}

self_cell! {
    /// A unit and the files that hold it.
    pub(crate) struct OpenUnit {
        owner: [Bytes; 6],
        #[not_covariant]
        dependent: CheckedUnit,
    }
}

impl OpenUnit {
    /// Opens and checks a unit. Its parts are in the order of [`PARTS`](df11::PARTS).
    pub(crate) fn open(parts: [Bytes; 6]) -> Result<Self, df11::Error> {
        OpenUnit::try_new(parts, |parts| {
            let unit = Unit::new(Parts::from_array(parts.each_ref().map(Bytes::get)))?;
            Ok(CheckedUnit { unit, decoder: OnceLock::new() })
        })
    }

    pub(crate) fn tensors(&self) -> Parts<&[u8]> {
        Parts::from_array(self.borrow_owner().each_ref().map(Bytes::get))
    }

    pub(crate) fn with_unit<T>(&self, each: impl FnOnce(&Unit<'_>) -> T) -> T {
        self.with_dependent(|_, checked| each(&checked.unit))
    }

    pub(crate) fn decode_range_into(&self, range: Range<usize>, out: &mut [u8]) -> Result<(), df11::Error> {
        let stored: usize = self.borrow_owner().iter().map(|part| part.range.len()).sum();
        self.with_dependent(|_, checked| {
            if stored < KEPT_FROM {
                return checked.unit.decode_range_into(range, out);
            }
            checked.decoder.get_or_init(|| Decoder::new(&checked.unit)).decode_range_into(range, out)
        })
    }
}

struct CheckedFrame<'a> {
    frame: Frame<'a>,
    decoder: OnceLock<frame::Decoder<'a>>,
}

self_cell! {
    /// A frame and the file that holds it.
    pub(crate) struct OpenFrame {
        owner: Bytes,
        #[not_covariant]
        dependent: CheckedFrame,
    }
}

impl OpenFrame {
    /// Opens and checks a frame.
    pub(crate) fn open(bytes: Bytes) -> Result<Self, df11::Error> {
        OpenFrame::try_new(bytes, |bytes| {
            Ok(CheckedFrame { frame: Frame::new(bytes.get())?, decoder: OnceLock::new() })
        })
    }

    /// Tells whether it is worth keeping open.
    pub(crate) fn is_worth_it(&self) -> bool {
        self.borrow_owner().range.len() >= KEPT_FROM
    }

    pub(crate) fn with_frame<T>(&self, each: impl FnOnce(&Frame<'_>) -> T) -> T {
        self.with_dependent(|_, checked| each(&checked.frame))
    }

    /// Decodes a range of bytes of the elements. The range must begin and end at element
    /// boundaries.
    pub(crate) fn decode_range_into(&self, bytes: Range<usize>, out: &mut [u8]) -> Result<(), df11::Error> {
        self.with_dependent(|_, checked| {
            let size = checked.frame.header().element_type().bytes();
            let elements = bytes.start / size..bytes.end / size;
            if !self.is_worth_it() {
                return checked.frame.decoder().decode_range_into(elements, out);
            }
            checked.decoder.get_or_init(|| checked.frame.decoder()).decode_range_into(elements, out)
        })
    }
}
