//! The groups of errors.

/// What kind of failure an [`Error`](super::Error) is, for programs that act on it.
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
    /// The data decodes, but does not match its checksum.
    Checksum,
    /// The call is wrong: a buffer of another length, an index out of range, a choice that there is
    /// not. Never the data's fault.
    InvalidInput,
    /// A fault of this crate.
    Internal,
}
