//! The group of each error.

use super::Error;

/// What kind of failure an [`Error`] is, for programs that act on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Bytes are missing: more of the same input could make it valid.
    Truncated,
    /// The bytes are there and contradict the format.
    Corrupt,
    /// The data is sound, but the layout has no way to hold it.
    Unsupported,
    /// A stated limit of the layout is exceeded.
    LimitExceeded,
    /// The data decodes, but not to what its checksum promises.
    Checksum,
    /// The caller passed something that cannot be meant.
    InvalidInput,
}

impl Error {
    /// The group this error belongs to.
    ///
    /// ```
    /// use df11::{Error, ErrorKind};
    ///
    /// assert_eq!(Error::EmptyUnit.kind(), ErrorKind::Unsupported);
    /// ```
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Error::OddBytes { .. }
            | Error::BufferLength { .. }
            | Error::RangeOutOfBounds { .. }
            | Error::LengthLimit { .. }
            | Error::LimitTooSmall { .. }
            | Error::Oversubscribed
            | Error::NoCodeword { .. }
            | Error::NoFrequency { .. }
            | Error::NoSymbols
            | Error::OtherTable
            | Error::PlanMismatch { .. } => ErrorKind::InvalidInput,
            Error::EmptyUnit | Error::UnrepresentableExponent { .. } | Error::FrameUnsupported { .. } => {
                ErrorKind::Unsupported
            }
            Error::FrameChecksum { .. } | Error::FrameDigest { .. } | Error::ArchiveChecksum { .. } => {
                ErrorKind::Checksum
            }
            Error::FrameLength { expected, found, .. } => {
                if *found < *expected {
                    ErrorKind::Truncated
                } else {
                    ErrorKind::Corrupt
                }
            }
            Error::TooManyElements { .. } | Error::TooManyCodeBytes { .. } | Error::TooManyTables { .. } => {
                ErrorKind::LimitExceeded
            }
            Error::CodeTooShort { .. }
            | Error::CodeEnded { .. }
            | Error::WordsMissing { .. }
            | Error::ArchiveLength { .. } => ErrorKind::Truncated,
            Error::GapsLength { expected, found } | Error::PositionsLength { expected, found } => {
                if *found < *expected { ErrorKind::Truncated } else { ErrorKind::Corrupt }
            }
            _ => ErrorKind::Corrupt,
        }
    }
}
