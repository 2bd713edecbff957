//! What people read.

use core::fmt;

use super::{Error, FramePart};

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
