//! Errors of deltas: clauses of `spec/DELTA.md`.

/// Adds their rows to those that there are, and hands all on: see `table!`.
macro_rules! delta_errors {
    ({ $($rows:tt)* } $next:ident $($later:ident)*) => { $next! { {
        $($rows)*
        NotADelta {}: Some("B-3.1"), Corrupt,
            "these bytes do not begin as a delta does";
        DeltaUnsupported { field, number }: Some("B-1.3"), Unsupported,
            "a delta of {field} {number}, which this version of the program does not know";
        DeltaLength { expected, found }: Some("B-3.3"), short(found, expected),
            "the delta must have {expected} bytes, but has {found}";
        DeltaField { clause, field, value }: Some(clause), Corrupt,
            "the delta cannot have {value} as its {field}";
        DeltaReserved {}: Some("B-1.2"), Corrupt,
            "the delta has bytes that must be 0 and are not";
        DeltaTable {}: Some("B-5.4"), Corrupt,
            "a table of the delta is not written as it must be";
        DeltaChecksum { part }: Some(part.clause()), Checksum,
            "{part} of the delta is not what its checksum promises";
        DeltaCount { what, expected }: Some("B-5.8"), Corrupt,
            "a block of the delta has another number of {what} than the {expected} it states";
        DeltaBase { part, expected, found }: Some(part.clause()), Checksum,
            "{part} of the base has checksum {found:08x}, but the delta was made against one with \
             {expected:08x}; give the base that it was made against";
        DeltaResult { part, expected, found }: Some(part.clause()), Checksum,
            "{part} of the delta gives elements with checksum {found:08x}, but states \
             {expected:08x}";
    } $($later)* } };
}

pub(super) use delta_errors;
