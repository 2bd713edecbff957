//! One error for the whole crate: small, `Copy`, and precise about the rule that was broken.
//!
//! Clause, kind and text of each variant stand in one row, and the rows in a table for each format:
//! `unit.rs`, `frame.rs`, `archive.rs`, and `input.rs` for what is the caller's mistake.

mod archive;
mod delta;
mod frame;
mod input;
mod kind;
mod table;
mod unit;

pub use kind::ErrorKind;

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

/// A part of a delta.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DeltaPart {
    /// Its header, with tables, list or directory.
    Header,
    /// A block, by its number.
    Block(u64),
    /// All common elements.
    Elements,
}

/// Why something could not be read, encoded or decoded.
///
/// The variants name the broken rule and carry the offset and the values. Their
/// [`Display`](core::fmt::Display) text is for people and may change; the variants and
/// [`kind`](Error::kind) are the stable part.
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
    /// A weight has an exponent of 240 to 255 (magnitude >= 2^113, infinity or NaN); table values
    /// from 240 are jumps.
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
    /// An argument has a value that it cannot have.
    InvalidArgument {
        /// Which argument.
        argument: &'static str,
        /// Its value, `u64::MAX` for one that cannot be counted.
        value: u64,
    },
    /// What must not happen has happened: a fault of this crate.
    Impossible {
        /// What it is.
        what: &'static str,
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
    /// `output_positions` does not hold a 4-byte entry for each block and one more (or, in the
    /// short form, none more).
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
    /// Scale bits outside 9 to 12, asked for by the caller.
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
    /// A part of a frame does not match its checksum.
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
    /// The bytes do not begin as a delta does.
    NotADelta,
    /// A delta of a version, element type or method that this reader does not know.
    DeltaUnsupported {
        /// Which of them.
        field: &'static str,
        /// Its number.
        number: u8,
    },
    /// A delta ends before it should, or goes on after that.
    DeltaLength {
        /// The length it must have, at least, in bytes.
        expected: u64,
        /// The length it has, in bytes.
        found: u64,
    },
    /// A field of a delta has a value that it cannot have.
    DeltaField {
        /// The clause that says so.
        clause: &'static str,
        /// Which field.
        field: &'static str,
        /// Its value.
        value: u64,
    },
    /// Reserved bytes or padding of a delta that are not 0.
    DeltaReserved,
    /// A table of frequencies of a delta is not written as it must be.
    DeltaTable,
    /// A part of a delta does not match its checksum.
    DeltaChecksum {
        /// Which part.
        part: DeltaPart,
    },
    /// A block has another number of coded elements or escapes than it says.
    DeltaCount {
        /// `coded elements` or `escapes`.
        what: &'static str,
        /// The number that the block states.
        expected: u64,
    },
    /// The elements of the base are not those that the delta was made against.
    DeltaBase {
        /// Which of them.
        part: DeltaPart,
        /// The checksum that they must have.
        expected: u32,
        /// The checksum that they have.
        found: u32,
    },
    /// A delta gives other elements than were encoded.
    DeltaResult {
        /// Which of them.
        part: DeltaPart,
        /// The checksum that they must have.
        expected: u32,
        /// The checksum that they have.
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

impl core::error::Error for Error {}

/// The error for what must not happen but may not panic either. Builds with debug assertions do
/// panic, so that tests and fuzzers see it.
#[cold]
pub(crate) fn impossible(what: &'static str) -> Error {
    debug_assert!(false, "{what}");
    Error::Impossible { what }
}
