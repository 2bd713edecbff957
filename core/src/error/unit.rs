//! Errors of units: clauses of `spec/DF11.md`.

/// Adds their rows to those that there are, and hands all on: see `table!`.
macro_rules! unit_errors {
    ({ $($rows:tt)* } $next:ident $($later:ident)*) => { $next! { {
        $($rows)*
        EmptyUnit {}: Some("D-3.4"), Unsupported,
            "a unit needs at least one element";
        UnrepresentableExponent { element, exponent }: Some("D-4.1"), Unsupported,
            "{}exponent {exponent} (a magnitude of 2^113 or more, infinity or NaN), but the \
             layout holds only exponents below 240", AtElement(element);
        TooManyElements { elements }: Some("D-3.4"), LimitExceeded,
            "{elements} elements, but a unit holds at most 2^31 - 1";
        TooManyCodeBytes { bytes }: Some("D-6.1"), LimitExceeded,
            "{bytes} bytes of code, but a unit holds at most 2^31 - 1";
        TooManyTables { tables }: Some("D-11.5"), LimitExceeded,
            "the code needs at least {tables} prefix tables, but the layout holds at most 17";
        TablesLength { bytes }: Some("D-5.1"), Corrupt,
            "luts has {bytes} bytes, but must have 2 to 18 rows of 256";
        JumpTarget { table, entry, target, tables }: Some("D-5.3"), Corrupt,
            "luts row {table}, entry {entry} jumps to table {target}, but there are only {tables} \
             tables";
        CodeLength { symbol, length }: Some("D-5.4"), Corrupt,
            "luts gives exponent {symbol} a code length of {length} bits, but 32 is the most";
        CodeTooShort { bytes, elements }:
            Some(if bytes == 0 { "D-6.1" } else { "D-6.2" }), Truncated,
            "encoded_exponent has {bytes} bytes, too few for {elements} elements";
        GapsLength { expected, found }: Some("D-7.4"), short(found as u64, expected as u64),
            "gaps has {found} bytes, but this much code needs {expected}";
        PositionsLength { expected, found }: Some("D-8.3"), short(found as u64, expected as u64),
            "output_positions has {found} bytes, but this much code needs {expected} (or 4 fewer, \
             where no codeword starts in the last block)";
        FirstPosition { found }: Some("D-8.5"), Corrupt,
            "the first output position is {found}, not 0";
        PositionOrder { block, position, next }: Some("D-8.5"), Corrupt,
            "output positions do not grow: {position} for block {block}, then {next}";
        LastPosition { expected, found }: Some("D-8.5"), Corrupt,
            "the last output position is {found}, but sign_mantissa has {expected} elements";
        BlockOverfull { block, elements }: Some("D-8.6"), Corrupt,
            "output positions claim {elements} elements for block {block}, more than it has bits";
        SplitsLength { bytes }: Some("D-9.1"), Corrupt,
            "split_positions has {bytes} bytes, not a multiple of 8";
        SplitOrder { index, position, least, greatest }: Some("D-9.2"), Corrupt,
            "split position {index} is {position}, but must lie between {least} and {greatest}";
        ZeroLength { bit, symbol }: Some("D-5.7"), Corrupt,
            "at bit {bit} of encoded_exponent: the tables lead to exponent {symbol}, which has no \
             code length";
        JumpTooDeep { bit }: Some("D-5.6"), Corrupt,
            "at bit {bit} of encoded_exponent: the tables jump on after 32 bits";
        LengthMismatch { bit, symbol, length, tables }: Some("D-5.8"), Corrupt,
            "at bit {bit} of encoded_exponent: exponent {symbol} was found after {tables} tables, \
             but its code length is {length}";
        CodeEnded { bit, bits }: Some("D-6.2"), Truncated,
            "encoded_exponent has {bits} bits, but its codewords run to bit {bit}";
        BlockEnd { block, expected, found }: Some("D-8.6"), Corrupt,
            "the codewords of block {block} end at bit {found} of encoded_exponent, but the next \
             block's gap says {expected}";
        GapMismatch { window, expected, found }: Some("D-7.2"), Corrupt,
            "the gap of window {window} is {found}, but its first codeword starts {expected} bits \
             into it";
    } $($later)* } };
}

pub(super) use unit_errors;
