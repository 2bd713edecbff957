//! Errors of frames: clauses of `spec/FRAME.md`, and of what codes them, `spec/RANS.md` and
//! `spec/DICTIONARY.md`.

/// Adds their rows to those that there are, and hands all on: see `table!`.
macro_rules! frame_errors {
    ({ $($rows:tt)* } $next:ident $($later:ident)*) => { $next! { {
        $($rows)*
        FrequencySum { sum, scale_bits }: Some("R-2.2"), Corrupt,
            "the frequencies add up to {sum}, but with {scale_bits} scale bits it must be {}",
            1u64 << scale_bits;
        NoFrequency { symbol, index }: Some("R-2.2"), InvalidInput,
            "symbol {symbol}, at {index} of the block, occurs but has no frequency";
        OddWords { bytes }: Some("R-3.3"), Corrupt,
            "the words of a block have {bytes} bytes, but each has two";
        LaneState { lane, state }: Some("R-5.3"), Corrupt,
            "lane {lane} is in state {state}, but states lie between 2^15 and 2^31 - 1";
        WordsMissing { step }: Some("R-5.4"), Truncated,
            "step {step} of the block needs words, but none is left";
        WordsLeft { words }: Some("R-5.4"), Corrupt,
            "{words} words are left after the last symbol";
        LastState { lane, state }: Some("R-5.5"), Corrupt,
            "lane {lane} ends in state {state}, not in the start state, 32768";
        SymbolCost { symbol }: Some("F-3.3"), Corrupt,
            "symbol {symbol} must have a first and a following cost, or neither";
        DictionaryStrings { most }: Some("V-2.5"), Corrupt,
            "the dictionary has more strings than the {most} that its codes can name";
        ChunkGroups { groups }: Some("V-3.3"), Corrupt,
            "a chunk has {groups} groups of codes, and is not decoded by exactly that many";
        ChunkSymbols { expected, found }: Some("V-3.3"), Corrupt,
            "a chunk has {expected} symbols, but a code of it ends with symbol {found}";
        ChunkPadding {}: Some("V-3.3"), Corrupt,
            "codes after the last of a chunk are not 0";
        NotAFrame {}: Some("F-3.1"), Corrupt,
            "these bytes do not begin as a frame does";
        FrameUnsupported { field, number }: Some("F-1.3"), Unsupported,
            "a frame of {field} {number}, which this version of the program does not know";
        FrameLength { part, expected, found }: Some(part.clause()), short(found, expected),
            "{part} must have {expected} bytes, but has {found}";
        FrameField { clause, field, value }: Some(clause), Corrupt,
            "the frame cannot have {value} as its {field}";
        FrameReserved { part }: Some("F-1.2"), Corrupt,
            "{part} has bytes that must be 0 and are not";
        FrameChecksum { part }: Some(part.clause()), Checksum,
            "{part} is not what its checksum promises";
        FrameDigest { block, expected, found }: Some("F-5.4"), Checksum,
            "block {block} of the frame decodes to bytes with checksum {found:08x}, but it states \
             {expected:08x}";
    } $($later)* } };
}

pub(super) use frame_errors;
