//! Bytes of files in memory: mapped, or read where the file system cannot map. Outside the codec's
//! own boundaries, this is the one place with `unsafe`.
#![allow(unsafe_code, reason = "mapping a file is a call to the operating system; see the SAFETY comment")]

use std::fs::File;
use std::io;
use std::ops::{Deref, Range};
use std::sync::Arc;

use super::read_exact_at;

use memmap2::{Mmap, MmapOptions};

/// Ranges of at most this many bytes are read: mapping and unmapping would take longer, since all
/// threads have to hear of it.
const SMALL: usize = 1 << 16;

/// A range of a file in memory. Dropping it releases the memory, so pages of finished tensors do
/// not accumulate.
#[derive(Debug)]
pub(crate) struct Mapped(Bytes);

#[derive(Debug)]
enum Bytes {
    /// The empty range. The operating system does not map empty ranges.
    None,
    Mapped(Mmap),
    /// Bytes that were read: a small range, or one of a file system that cannot map files, as some
    /// of networks and containers cannot.
    Read(Vec<u8>),
    /// A range of bytes that others use, too.
    Shared(Arc<Vec<u8>>, Range<usize>),
}

impl Mapped {
    /// Takes bytes that are in memory already.
    pub(crate) fn of_bytes(bytes: Vec<u8>) -> Self {
        Mapped(Bytes::Read(bytes))
    }

    /// Takes a range of bytes that others use, too.
    pub(crate) fn shared(bytes: Arc<Vec<u8>>, range: Range<usize>) -> Self {
        Mapped(Bytes::Shared(bytes, range))
    }

    /// Maps or reads `range` of `file`. The range must lie within the file; it may start anywhere
    /// and may be empty.
    pub(crate) fn new(file: &File, range: &Range<u64>) -> io::Result<Self> {
        let len = usize::try_from(range.end - range.start).map_err(|_| io::ErrorKind::OutOfMemory)?;
        if len == 0 {
            return Ok(Mapped(Bytes::None));
        }
        if file.metadata()?.len() < range.end {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if len > SMALL
            && let Some(map) = Self::map(file, range.start, len)
        {
            return Ok(Mapped(Bytes::Mapped(map)));
        }
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(len).map_err(|_| io::ErrorKind::OutOfMemory)?;
        bytes.resize(len, 0);
        read_exact_at(file, &mut bytes, range.start)?;
        Ok(Mapped(Bytes::Read(bytes)))
    }

    /// Maps a range that lies within the file, if the file system can.
    fn map(file: &File, start: u64, len: usize) -> Option<Mmap> {
        let mut options = MmapOptions::new();
        options.offset(start).len(len);
        // SAFETY: The map is private to its owner, read-only and inside the file, as the caller has
        // checked. It cannot be proven that no other process changes the file meanwhile. If one
        // does, bytes change under a `&[u8]`, and a file that is truncated raises SIGBUS. This is
        // the known contract of every tool that maps its input. Nothing here relies on reading the
        // same byte twice with the same result: lengths and offsets come from a file's header,
        // which is not mapped, and every index computed from mapped bytes is bounds-checked where
        // it is used. What is written to files is compared with the source, or with its digest,
        // before it becomes visible. What a `Reader` returns is what the bytes are at that time.
        unsafe { options.map(file) }.ok()
    }
}

impl Deref for Mapped {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Bytes::None => &[],
            Bytes::Mapped(map) => map,
            Bytes::Read(bytes) => bytes,
            Bytes::Shared(bytes, range) => &bytes[range.clone()],
        }
    }
}
