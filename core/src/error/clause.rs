//! The clause of the specification that each error breaks.

use super::{Error, FramePart};

impl Error {
    /// The clause of the specification (`spec/DF11.md`, `spec/RANS.md`, `spec/DICTIONARY.md`, `spec/FRAME.md`,
    /// `spec/DIETGPU.md`) that is broken; `None` where the caller's arguments are wrong.
    ///
    /// ```
    /// use df11::Error;
    ///
    /// assert_eq!(Error::EmptyUnit.clause(), Some("D-3.4"));
    /// assert_eq!(Error::OddBytes { bytes: 1 }.clause(), None);
    /// ```
    #[must_use]
    pub const fn clause(&self) -> Option<&'static str> {
        Some(match self {
            Error::EmptyUnit | Error::TooManyElements { .. } => "D-3.4",
            Error::UnrepresentableExponent { .. } => "D-4.1",
            Error::TablesLength { .. } => "D-5.1",
            Error::JumpTarget { .. } => "D-5.3",
            Error::CodeLength { .. } => "D-5.4",
            Error::JumpTooDeep { .. } => "D-5.6",
            Error::ZeroLength { .. } => "D-5.7",
            Error::LengthMismatch { .. } => "D-5.8",
            Error::TooManyCodeBytes { .. } => "D-6.1",
            Error::CodeTooShort { bytes: 0, .. } => "D-6.1",
            Error::CodeTooShort { .. } | Error::CodeEnded { .. } => "D-6.2",
            Error::GapMismatch { .. } => "D-7.2",
            Error::GapsLength { .. } => "D-7.4",
            Error::PositionsLength { .. } => "D-8.3",
            Error::FirstPosition { .. } | Error::PositionOrder { .. } | Error::LastPosition { .. } => "D-8.5",
            Error::BlockOverfull { .. } | Error::BlockEnd { .. } => "D-8.6",
            Error::SplitsLength { .. } => "D-9.1",
            Error::SplitOrder { .. } => "D-9.2",
            Error::TooManyTables { .. } => "D-11.5",
            Error::ScaleBits { .. } => "R-2.1",
            Error::FrequencySum { .. } | Error::NoFrequency { .. } => "R-2.2",
            Error::OddWords { .. } => "R-3.3",
            Error::LaneState { .. } => "R-5.3",
            Error::WordsMissing { .. } | Error::WordsLeft { .. } => "R-5.4",
            Error::LastState { .. } => "R-5.5",
            Error::DictionaryStrings { .. } => "V-2.5",
            Error::ChunkGroups { .. } | Error::ChunkSymbols { .. } | Error::ChunkPadding => "V-3.3",
            Error::FrameReserved { .. } => "F-1.2",
            Error::FrameUnsupported { .. } => "F-1.3",
            Error::FrameField { clause, .. } | Error::ArchiveField { clause, .. } => clause,
            Error::NotAFrame => "F-3.1",
            Error::SymbolCost { .. } => "F-3.3",
            Error::FrameLength { part, .. } | Error::FrameChecksum { part } => match part {
                FramePart::Header => "F-3.1",
                FramePart::Block(_) => "F-5.2",
                FramePart::Chunks(_) => "F-5.8",
                FramePart::Frame | FramePart::Trailer => "F-6.2",
            },
            Error::FrameDigest { .. } => "F-5.4",
            Error::NotAnArchive | Error::ArchiveLength { .. } => "G-2.2",
            Error::ArchiveChecksum { .. } => "G-4.1",
            _ => return None,
        })
    }
}
