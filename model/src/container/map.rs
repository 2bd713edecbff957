//! Bytes of files in memory: mapped, or read where the file system maps nothing. The one place
//! outside the codec's own boundaries with `unsafe`.
#![allow(unsafe_code, reason = "mapping a file is a call to the operating system; see the SAFETY comment")]

use std::fs::File;
use std::io;
use std::ops::{Deref, Range};

use super::read_exact_at;

use memmap2::{Mmap, MmapOptions};

/// A range of a file in memory; given back when it is dropped, so that pages of finished tensors do
/// not pile up.
#[derive(Debug)]
pub(crate) struct Mapped(Bytes);

#[derive(Debug)]
enum Bytes {
    /// The operating system maps no empty ranges.
    None,
    Mapped(Mmap),
    /// Some file systems of networks and containers map nothing.
    Read(Vec<u8>),
}

impl Mapped {
    /// Maps `range` of `file`, which must lie within it. The range may start anywhere and may be
    /// empty.
    pub(crate) fn new(file: &File, range: &Range<u64>) -> io::Result<Self> {
        let len = usize::try_from(range.end - range.start).map_err(|_| io::ErrorKind::OutOfMemory)?;
        if len == 0 {
            return Ok(Mapped(Bytes::None));
        }
        if file.metadata()?.len() < range.end {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut options = MmapOptions::new();
        options.offset(range.start).len(len);
        // SAFETY: The map is private to this value, read-only and inside the file, as checked
        // above. What cannot be proven is that no other process changes the file meanwhile: then
        // bytes change under a `&[u8]`, and a file cut short raises SIGBUS. This is the known
        // contract of every tool that maps its input. Nothing here relies on a byte read twice
        // being the same: lengths and offsets are read from a file's header, which is not mapped,
        // and every index computed from mapped bytes is bounds-checked where it is used. What is
        // written to files is compared with the source, or with its digest, before it becomes
        // visible; what a `Reader` gives is what the bytes are.
        let map = unsafe { options.map(file) };
        if let Ok(map) = map {
            return Ok(Mapped(Bytes::Mapped(map)));
        }
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(len).map_err(|_| io::ErrorKind::OutOfMemory)?;
        bytes.resize(len, 0);
        read_exact_at(file, &mut bytes, range.start)?;
        Ok(Mapped(Bytes::Read(bytes)))
    }
}

impl Deref for Mapped {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Bytes::None => &[],
            Bytes::Mapped(map) => map,
            Bytes::Read(bytes) => bytes,
        }
    }
}
