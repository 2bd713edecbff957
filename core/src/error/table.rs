//! What is known of each error, by the rows of all tables.

use core::fmt;

use super::ErrorKind::{
    self, Checksum, Corrupt, Internal, InvalidInput, LimitExceeded, Truncated, Unsupported,
};
use super::archive::archive_errors;
use super::delta::delta_errors;
use super::frame::frame_errors;
use super::input::input_errors;
use super::unit::unit_errors;
use super::{DeltaPart, Error, FramePart};

/// Makes functions of rows: `Variant { fields }: clause, kind, text and what it shows besides the
/// fields;`. A variant without a row does not compile.
macro_rules! table {
    ({ $(
        $variant:ident { $($field:ident),* }: $clause:expr, $kind:expr, $text:literal $(, $value:expr)?;
    )* }) => {
        impl Error {
            /// The clause of the specification (`spec/DF11.md`, `spec/RANS.md`,
            /// `spec/DICTIONARY.md`, `spec/FRAME.md`, `spec/DELTA.md`, `spec/DIETGPU.md`) that is
            /// broken; `None` where the caller's arguments are wrong.
            ///
            /// ```
            /// use df11::Error;
            ///
            /// assert_eq!(Error::EmptyUnit.clause(), Some("D-3.4"));
            /// assert_eq!(Error::OddBytes { bytes: 1 }.clause(), None);
            /// ```
            #[must_use]
            #[allow(unused_variables, reason = "a row names all fields")]
            pub const fn clause(&self) -> Option<&'static str> {
                match *self {
                    $(Error::$variant { $($field),* } => $clause,)*
                }
            }

            /// The group this error belongs to.
            ///
            /// ```
            /// use df11::{Error, ErrorKind};
            ///
            /// assert_eq!(Error::EmptyUnit.kind(), ErrorKind::Unsupported);
            /// ```
            #[must_use]
            #[allow(unused_variables, reason = "a row names all fields")]
            pub const fn kind(&self) -> ErrorKind {
                match *self {
                    $(Error::$variant { $($field),* } => $kind,)*
                }
            }
        }

        impl fmt::Display for Error {
            #[allow(unused_variables, reason = "a row names all fields")]
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match *self {
                    $(Error::$variant { $($field),* } => write!(f, $text $(, $value)?),)*
                }
            }
        }
    };
}

input_errors! { {} unit_errors frame_errors delta_errors archive_errors table }

/// What has another length than it should: cut off, or too long.
const fn short(found: u64, expected: u64) -> ErrorKind {
    if found < expected { Truncated } else { Corrupt }
}

/// The place of a weight, where it is known.
struct AtElement(Option<u64>);

impl fmt::Display for AtElement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |element| write!(f, "element {element}: "))
    }
}

impl FramePart {
    /// The clause that says how long this part is, and what its checksum covers.
    const fn clause(self) -> &'static str {
        match self {
            FramePart::Header => "F-3.1",
            FramePart::Block(_) => "F-5.2",
            FramePart::Chunks(_) => "F-5.8",
            FramePart::Frame | FramePart::Trailer => "F-6.2",
        }
    }
}

impl fmt::Display for FramePart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FramePart::Frame => write!(f, "the frame"),
            FramePart::Header => write!(f, "the header of the frame"),
            FramePart::Block(block) | FramePart::Chunks(block) => write!(f, "block {block} of the frame"),
            FramePart::Trailer => write!(f, "the trailer of the frame"),
        }
    }
}

impl DeltaPart {
    /// The clause that says what its checksums cover.
    const fn clause(self) -> &'static str {
        match self {
            DeltaPart::Header => "B-3.1",
            DeltaPart::Block(_) => "B-5.5",
            DeltaPart::Elements => "B-4.2",
        }
    }
}

impl fmt::Display for DeltaPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DeltaPart::Header => write!(f, "the header"),
            DeltaPart::Block(block) => write!(f, "block {block}"),
            DeltaPart::Elements => write!(f, "the tensor"),
        }
    }
}
