//! Errors of the caller, and of this crate.

/// Adds their rows to those that there are, and hands all on: see `table!`.
macro_rules! input_errors {
    ({ $($rows:tt)* } $next:ident $($later:ident)*) => { $next! { {
        $($rows)*
        OddBytes { bytes }: None, InvalidInput,
            "BF16 weights take two bytes each, but there are {bytes} bytes";
        BufferLength { buffer, expected, found }: None, InvalidInput,
            "the {buffer} buffer must be {expected} bytes long, but is {found}";
        RangeOutOfBounds { start, end, len }: None, InvalidInput,
            "the range {start}..{end} does not lie within 0..{len}";
        LengthLimit { limit }: None, InvalidInput,
            "a code-length limit of {limit}, but limits lie between 1 and 32 (least lengths, 1 \
             and 8)";
        LimitTooSmall { limit, symbols }: None, InvalidInput,
            "{symbols} symbols cannot all have codewords of at most {limit} bits";
        Oversubscribed {}: None, InvalidInput,
            "these code lengths belong to no prefix code";
        NoCodeword { symbol }: None, InvalidInput,
            "exponent {symbol} occurs but has no codeword";
        PlanMismatch { element }: None, InvalidInput,
            "the tensors are not the ones that were planned (seen at element {element})";
        ScaleBits { bits }: None, InvalidInput,
            "{bits} scale bits, but there must be 9 to 12";
        NoSymbols {}: None, InvalidInput,
            "there must be at least one symbol";
        OtherTable {}: None, InvalidInput,
            "the decoding table was not built for this frame, or is too small for it";
        InvalidArgument { argument, value }: None, InvalidInput,
            "{value} cannot be the {argument}";
        Impossible { what }: None, Internal,
            "this must not happen, please report it: {what}";
    } $($later)* } };
}

pub(super) use input_errors;
