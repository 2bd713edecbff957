//! One error for the whole crate: small, `Copy`, and precise about the rule that was broken.

use core::fmt;

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

/// A part of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FramePart {
    /// All of it.
    Frame,
    /// Its header.
    Header,
    /// A block, by its number.
    Block(u64),
    /// A block of codec dictionary, by its number: its chunks, and what belongs to them.
    Chunks(u64),
    /// The directory of blocks and the trailer.
    Trailer,
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

/// Why something could not be read, encoded or decoded.
///
/// The variants name the broken rule and carry the offset and the values. Their [`Display`](fmt::Display) text is for
/// people and may change; the variants and [`kind`](Error::kind) are the stable part.
///
/// ```
/// use df11::{Error, ErrorKind, bf16};
///
/// let error = bf16::split(&[0x80], &mut [], &mut []).unwrap_err();
/// assert_eq!(error, Error::OddBytes { bytes: 1 });
/// assert_eq!(error.kind(), ErrorKind::InvalidInput);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// BF16 weights take two bytes each; this many bytes were passed.
    OddBytes {
        /// Length of the slice in bytes.
        bytes: usize,
    },
    /// A buffer does not have the length that the operation needs.
    BufferLength {
        /// Which buffer.
        buffer: &'static str,
        /// The length it must have, in bytes.
        expected: u64,
        /// The length it has, in bytes.
        found: u64,
    },
    /// A range of elements does not lie within the unit.
    RangeOutOfBounds {
        /// First element of the range.
        start: usize,
        /// One past the last element of the range.
        end: usize,
        /// Number of elements (or of blocks) there are.
        len: usize,
    },
    /// A unit without elements: the layout cannot hold one.
    EmptyUnit,
    /// A weight has an exponent of 240 to 255 (magnitude >= 2^113, infinity or NaN); table values from 240 are jumps.
    UnrepresentableExponent {
        /// Index of the first such element in the unit, where the weights were at hand.
        element: Option<u64>,
        /// Its exponent.
        exponent: u8,
    },
    /// More than 2^31 - 1 elements: published decoders count them in 32-bit signed integers.
    TooManyElements {
        /// Number of elements.
        elements: u64,
    },
    /// More than 2^31 - 1 bytes of code: published decoders count them in 32-bit signed integers.
    TooManyCodeBytes {
        /// Number of bytes.
        bytes: u64,
    },
    /// The code needs more prefix tables than jumps can name (17 with the first).
    TooManyTables {
        /// Number of tables, or one more than the limit where counting stopped there.
        tables: usize,
    },
    /// A code-length limit outside 1 to 32, or a least length above the limit or above 8.
    LengthLimit {
        /// The limit that was asked for.
        limit: u8,
    },
    /// A code-length limit too small for the number of symbols.
    LimitTooSmall {
        /// The limit that was asked for.
        limit: u8,
        /// Number of symbols that need a codeword.
        symbols: u16,
    },
    /// These code lengths belong to no prefix code (the Kraft sum exceeds one).
    Oversubscribed,
    /// A symbol occurs in the data but has no codeword.
    NoCodeword {
        /// The symbol (exponent).
        symbol: u8,
    },
    /// The tensors passed to encode are not the ones that were planned.
    PlanMismatch {
        /// Index of the element at which the difference was seen.
        element: u64,
    },
    /// `luts` is not 2 to 18 rows of 256 bytes.
    TablesLength {
        /// Its length in bytes.
        bytes: usize,
    },
    /// A jump leads to a table that does not exist.
    JumpTarget {
        /// The table (row of `luts`) that holds the jump.
        table: usize,
        /// The entry in that table.
        entry: usize,
        /// The table it points to.
        target: usize,
        /// Number of tables.
        tables: usize,
    },
    /// A code length above 32 bits.
    CodeLength {
        /// The symbol (exponent).
        symbol: u8,
        /// The length in the last row of `luts`.
        length: u8,
    },
    /// No code at all, or less of it than one bit for each element.
    CodeTooShort {
        /// Length of `encoded_exponent` in bytes.
        bytes: usize,
        /// Number of elements it has to hold.
        elements: usize,
    },
    /// `gaps` does not hold 320 bytes (512 entries of 5 bits) for each block.
    GapsLength {
        /// The length it must have, in bytes.
        expected: usize,
        /// The length it has, in bytes.
        found: usize,
    },
    /// `output_positions` does not hold a 4-byte entry for each block and one more (or, in the short form, none more).
    PositionsLength {
        /// The length it must have, in bytes, in the long form.
        expected: usize,
        /// The length it has, in bytes.
        found: usize,
    },
    /// The first output position is not 0.
    FirstPosition {
        /// The position found.
        found: u32,
    },
    /// Output positions must grow from block to block; only the last block may start no codeword.
    PositionOrder {
        /// The block.
        block: usize,
        /// Its output position.
        position: u32,
        /// The output position after it.
        next: u32,
    },
    /// The last output position is not the number of elements.
    LastPosition {
        /// The number of elements.
        expected: usize,
        /// The position found.
        found: u32,
    },
    /// A block claims more elements than it has bits after its first gap.
    BlockOverfull {
        /// The block.
        block: usize,
        /// Number of elements between its output position and the next.
        elements: u32,
    },
    /// `split_positions` is not a list of 8-byte integers.
    SplitsLength {
        /// Its length in bytes.
        bytes: usize,
    },
    /// Split positions must not decrease and must lie within the unit.
    SplitOrder {
        /// Index of the split.
        index: usize,
        /// Its value.
        position: i64,
        /// The least value it may have: the split before it.
        least: i64,
        /// The greatest value it may have: the number of elements.
        greatest: i64,
    },
    /// A codeword was read that the tables give no length.
    ZeroLength {
        /// Bit offset of the codeword in `encoded_exponent`.
        bit: u64,
        /// The symbol (exponent) that the tables gave.
        symbol: u8,
    },
    /// The tables jump on after 32 bits of code.
    JumpTooDeep {
        /// Bit offset of the codeword in `encoded_exponent`.
        bit: u64,
    },
    /// A symbol's code length does not end in the table in which it was found.
    LengthMismatch {
        /// Bit offset of the codeword in `encoded_exponent`.
        bit: u64,
        /// The symbol (exponent).
        symbol: u8,
        /// Its code length.
        length: u8,
        /// How many tables were read to find it.
        tables: u8,
    },
    /// The code ends before all elements are decoded.
    CodeEnded {
        /// Bit offset at which the codewords end.
        bit: u64,
        /// Number of bits there are.
        bits: u64,
    },
    /// A block's codewords do not end where the next block says its own begin.
    BlockEnd {
        /// The block.
        block: usize,
        /// Bit offset at which the next block's first codeword begins, by its gap.
        expected: u64,
        /// Bit offset at which this block's last codeword ends.
        found: u64,
    },
    /// A window's gap is not the offset of the first codeword that starts in it.
    GapMismatch {
        /// The window (8 bytes of code).
        window: u64,
        /// The offset of the first codeword in it, in bits.
        expected: u8,
        /// The gap that the unit states.
        found: u8,
    },
    /// Scale bits outside 9 to 12.
    ScaleBits {
        /// The number found.
        bits: u8,
    },
    /// Nothing to count, encode or decode, where there must be a symbol.
    NoSymbols,
    /// Normalised frequencies whose sum is not 2 to the power of the scale bits.
    FrequencySum {
        /// Their sum.
        sum: u32,
        /// The scale bits.
        scale_bits: u8,
    },
    /// A symbol occurs in the data but has no frequency.
    NoFrequency {
        /// The symbol.
        symbol: u8,
        /// Its index in the block.
        index: usize,
    },
    /// The words of a block are half a word more or less than whole ones.
    OddWords {
        /// Their length in bytes.
        bytes: usize,
    },
    /// The state of a lane is below 2^15 or from 2^31 up.
    LaneState {
        /// The lane.
        lane: usize,
        /// Its state.
        state: u32,
    },
    /// A block's words end before all its symbols are decoded.
    WordsMissing {
        /// The step (32 symbols each) that needs more.
        step: usize,
    },
    /// A block has words that no symbol needs.
    WordsLeft {
        /// Their number.
        words: usize,
    },
    /// A lane does not end in the state in which encoding starts.
    LastState {
        /// The lane.
        lane: usize,
        /// The state that it ends in.
        state: u32,
    },
    /// A symbol of a dictionary has one of its two costs and lacks the other.
    SymbolCost {
        /// The symbol.
        symbol: u8,
    },
    /// A dictionary has more strings than codes of its width have numbers.
    DictionaryStrings {
        /// How many it may have at most.
        most: usize,
    },
    /// A chunk has no groups of codes, more than 512, part of one, or one that it does not need.
    ChunkGroups {
        /// The number of whole groups.
        groups: usize,
    },
    /// No code of a chunk ends with its last symbol.
    ChunkSymbols {
        /// The number of symbols the chunk has.
        expected: usize,
        /// The number with which a code ends: the first that is larger, or the last.
        found: usize,
    },
    /// Codes after the last of a chunk that are not 0.
    ChunkPadding,
    /// The table was built for another frame, or cannot hold what this one needs.
    OtherTable,
    /// The bytes do not begin as a frame does.
    NotAFrame,
    /// A frame of a version, element type, codec or model that this reader does not know.
    FrameUnsupported {
        /// Which of them.
        field: &'static str,
        /// Its number.
        number: u8,
    },
    /// A frame ends before it should, or goes on after that.
    FrameLength {
        /// Which part has another length.
        part: FramePart,
        /// The length it must have, in bytes.
        expected: u64,
        /// The length it has, in bytes.
        found: u64,
    },
    /// A field of a frame has a value that it cannot have.
    FrameField {
        /// The clause that says so.
        clause: &'static str,
        /// Which field.
        field: &'static str,
        /// Its value.
        value: u64,
    },
    /// Reserved bytes or padding that are not 0.
    FrameReserved {
        /// Which part they are in.
        part: FramePart,
    },
    /// A part of a frame is not what its checksum promises.
    FrameChecksum {
        /// Which part.
        part: FramePart,
    },
    /// A block decodes to other coded bytes than were encoded.
    FrameDigest {
        /// The block.
        block: u64,
        /// The checksum that the block states.
        expected: u32,
        /// That of the bytes that were decoded.
        found: u32,
    },
    /// The bytes do not begin as an archive of this kind does.
    NotAnArchive,
    /// An archive ends before it should.
    ArchiveLength {
        /// The length it must have at least, in bytes.
        expected: u64,
        /// The length it has, in bytes.
        found: u64,
    },
    /// A field of an archive has a value that it cannot have.
    ArchiveField {
        /// The clause that says so.
        clause: &'static str,
        /// Which field.
        field: &'static str,
        /// Its value.
        value: u64,
    },
    /// An archive decodes to other bytes than its checksum promises.
    ArchiveChecksum {
        /// The checksum that the archive states.
        expected: u32,
        /// That of what was decoded.
        found: u32,
    },
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

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Error::OddBytes { bytes } => {
                write!(f, "BF16 weights take two bytes each, but there are {bytes} bytes")
            }
            Error::BufferLength { buffer, expected, found } => {
                write!(f, "the {buffer} buffer must be {expected} bytes long, but is {found}")
            }
            Error::RangeOutOfBounds { start, end, len } => {
                write!(f, "the range {start}..{end} does not lie within 0..{len}")
            }
            Error::EmptyUnit => write!(f, "a unit needs at least one element"),
            Error::UnrepresentableExponent { element, exponent } => {
                if let Some(element) = element {
                    write!(f, "element {element}: ")?;
                }
                write!(
                    f,
                    "exponent {exponent} (a magnitude of 2^113 or more, infinity or NaN), but the layout holds only \
                     exponents below 240"
                )
            }
            Error::TooManyElements { elements } => {
                write!(f, "{elements} elements, but a unit holds at most 2^31 - 1")
            }
            Error::TooManyCodeBytes { bytes } => {
                write!(f, "{bytes} bytes of code, but a unit holds at most 2^31 - 1")
            }
            Error::TooManyTables { tables } => {
                write!(f, "the code needs at least {tables} prefix tables, but the layout holds at most 17")
            }
            Error::LengthLimit { limit } => {
                write!(
                    f,
                    "a code-length limit of {limit}, but limits lie between 1 and 32 (least lengths, 1 and 8)"
                )
            }
            Error::LimitTooSmall { limit, symbols } => {
                write!(f, "{symbols} symbols cannot all have codewords of at most {limit} bits")
            }
            Error::Oversubscribed => write!(f, "these code lengths belong to no prefix code"),
            Error::NoCodeword { symbol } => write!(f, "exponent {symbol} occurs but has no codeword"),
            Error::PlanMismatch { element } => {
                write!(f, "the tensors are not the ones that were planned (seen at element {element})")
            }
            Error::TablesLength { bytes } => {
                write!(f, "luts has {bytes} bytes, but must have 2 to 18 rows of 256")
            }
            Error::JumpTarget { table, entry, target, tables } => write!(
                f,
                "luts row {table}, entry {entry} jumps to table {target}, but there are only {tables} tables"
            ),
            Error::CodeLength { symbol, length } => {
                write!(f, "luts gives exponent {symbol} a code length of {length} bits, but 32 is the most")
            }
            Error::CodeTooShort { bytes, elements } => {
                write!(f, "encoded_exponent has {bytes} bytes, too few for {elements} elements")
            }
            Error::GapsLength { expected, found } => {
                write!(f, "gaps has {found} bytes, but this much code needs {expected}")
            }
            Error::PositionsLength { expected, found } => write!(
                f,
                "output_positions has {found} bytes, but this much code needs {expected} (or 4 fewer, where no codeword \
                 starts in the last block)"
            ),
            Error::FirstPosition { found } => write!(f, "the first output position is {found}, not 0"),
            Error::PositionOrder { block, position, next } => {
                write!(f, "output positions do not grow: {position} for block {block}, then {next}")
            }
            Error::LastPosition { expected, found } => {
                write!(f, "the last output position is {found}, but sign_mantissa has {expected} elements")
            }
            Error::BlockOverfull { block, elements } => {
                write!(
                    f,
                    "output positions claim {elements} elements for block {block}, more than it has bits"
                )
            }
            Error::SplitsLength { bytes } => {
                write!(f, "split_positions has {bytes} bytes, not a multiple of 8")
            }
            Error::SplitOrder { index, position, least, greatest } => {
                write!(f, "split position {index} is {position}, but must lie between {least} and {greatest}")
            }
            Error::ZeroLength { bit, symbol } => write!(
                f,
                "at bit {bit} of encoded_exponent: the tables lead to exponent {symbol}, which has no code length"
            ),
            Error::JumpTooDeep { bit } => {
                write!(f, "at bit {bit} of encoded_exponent: the tables jump on after 32 bits")
            }
            Error::LengthMismatch { bit, symbol, length, tables } => write!(
                f,
                "at bit {bit} of encoded_exponent: exponent {symbol} was found after {tables} tables, but its code \
                 length is {length}"
            ),
            Error::CodeEnded { bit, bits } => {
                write!(f, "encoded_exponent has {bits} bits, but its codewords run to bit {bit}")
            }
            Error::BlockEnd { block, expected, found } => write!(
                f,
                "the codewords of block {block} end at bit {found} of encoded_exponent, but the next block's gap says \
                 {expected}"
            ),
            Error::NotAFrame => write!(f, "these bytes do not begin as a frame does"),
            Error::FrameUnsupported { field, number } => {
                write!(f, "a frame of {field} {number}, which this version of the program does not know")
            }
            Error::FrameLength { part, expected, found } => {
                write!(f, "{part} must have {expected} bytes, but has {found}")
            }
            Error::FrameField { field, value, .. } => {
                write!(f, "the frame cannot have {value} as its {field}")
            }
            Error::FrameReserved { part } => {
                write!(f, "{part} has bytes that must be 0 and are not")
            }
            Error::FrameChecksum { part } => write!(f, "{part} is not what its checksum promises"),
            Error::FrameDigest { block, expected, found } => write!(
                f,
                "block {block} of the frame decodes to bytes with checksum {found:08x}, but it states {expected:08x}"
            ),
            Error::SymbolCost { symbol } => {
                write!(f, "symbol {symbol} must have a first and a following cost, or neither")
            }
            Error::DictionaryStrings { most } => {
                write!(f, "the dictionary has more strings than the {most} that its codes can name")
            }
            Error::ChunkGroups { groups } => {
                write!(f, "a chunk has {groups} groups of codes, and is not decoded by exactly that many")
            }
            Error::ChunkSymbols { expected, found } => {
                write!(f, "a chunk has {expected} symbols, but a code of it ends with symbol {found}")
            }
            Error::ChunkPadding => write!(f, "codes after the last of a chunk are not 0"),
            Error::OtherTable => {
                write!(f, "the decoding table was not built for this frame, or is too small for it")
            }
            Error::NotAnArchive => {
                write!(f, "these bytes do not begin as an archive of dietgpu of this kind does")
            }
            Error::ArchiveLength { expected, found } => {
                write!(f, "the archive must have at least {expected} bytes, but there are {found}")
            }
            Error::ArchiveField { field, value, .. } => {
                write!(f, "an archive cannot have {value} as its {field}")
            }
            Error::ArchiveChecksum { expected, found } => write!(
                f,
                "the archive decodes to bytes with checksum {found:02x}, but it states {expected:02x}"
            ),
            Error::ScaleBits { bits } => write!(f, "{bits} scale bits, but there must be 9 to 12"),
            Error::NoSymbols => write!(f, "there must be at least one symbol"),
            Error::FrequencySum { sum, scale_bits } => {
                write!(
                    f,
                    "the frequencies add up to {sum}, but with {scale_bits} scale bits it must be {}",
                    1u64 << scale_bits
                )
            }
            Error::NoFrequency { symbol, index } => {
                write!(f, "symbol {symbol}, at {index} of the block, occurs but has no frequency")
            }
            Error::OddWords { bytes } => {
                write!(f, "the words of a block have {bytes} bytes, but each has two")
            }
            Error::LaneState { lane, state } => {
                write!(f, "lane {lane} is in state {state}, but states lie between 2^15 and 2^31 - 1")
            }
            Error::WordsMissing { step } => {
                write!(f, "step {step} of the block needs words, but none is left")
            }
            Error::WordsLeft { words } => write!(f, "{words} words are left after the last symbol"),
            Error::LastState { lane, state } => {
                write!(f, "lane {lane} ends in state {state}, not in the start state, 32768")
            }
            Error::GapMismatch { window, expected, found } => write!(
                f,
                "the gap of window {window} is {found}, but its first codeword starts {expected} bits into it"
            ),
        }
    }
}

impl core::error::Error for Error {}
