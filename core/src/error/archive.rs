//! Errors of archives: clauses of `spec/DIETGPU.md`.

/// Adds their rows to those that there are, and hands all on: see `table!`.
macro_rules! archive_errors {
    ({ $($rows:tt)* } $next:ident $($later:ident)*) => { $next! { {
        $($rows)*
        NotAnArchive {}: Some("G-2.2"), Corrupt,
            "these bytes do not begin as an archive of dietgpu of this kind does";
        ArchiveLength { expected, found }: Some("G-2.2"), Truncated,
            "the archive must have at least {expected} bytes, but there are {found}";
        ArchiveField { clause, field, value }: Some(clause), Corrupt,
            "an archive cannot have {value} as its {field}";
        ArchiveChecksum { expected, found }: Some("G-4.1"), Checksum,
            "the archive decodes to bytes with checksum {found:02x}, but it states {expected:02x}";
    } $($later)* } };
}

pub(super) use archive_errors;
