//! One safetensors file: a checked header, and ranges of bytes that are mapped or read on demand.
//! No file stays open, because a checkpoint may have more shards than a process may have open
//! files.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use safetensors::tensor::Dtype;

use crate::error::Error;

mod access;
mod header;
mod map;

use access::Access;
pub(crate) use header::{Layout, MAX_HEADER, parse_header};
pub(crate) use map::Mapped;

/// The length of the field before the header, in bytes. It holds the header's length,
/// little-endian.
pub(crate) const LENGTH_BYTES: u64 = 8;

/// The number of bytes that are read, hashed or compared at a time.
pub(crate) const CHUNK: usize = 1 << 20;

/// A tensor in a file.
#[derive(Clone, Debug)]
pub(crate) struct Tensor {
    pub(crate) name: String,
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<usize>,
    /// The range of its bytes, from the start of the file.
    pub(crate) range: Range<u64>,
}

impl Tensor {
    pub(crate) fn bytes(&self) -> u64 {
        self.range.end - self.range.start
    }
}

/// A tensor and the file that holds it.
pub(crate) type Located<'a> = (&'a Container, &'a Tensor);

/// A safetensors file whose header has been checked against its length.
#[derive(Debug)]
pub(crate) struct Container {
    pub(crate) path: PathBuf,
    /// The length of the file.
    pub(crate) len: u64,
    /// The header as it stands in the file, including trailing spaces.
    pub(crate) header: String,
    pub(crate) metadata: HashMap<String, String>,
    /// The tensors, in the order of their bytes.
    pub(crate) tensors: Vec<Tensor>,
    access: Access,
}

impl Container {
    /// Opens a file or an object, and reads its header.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let (access, len) = Access::of(path)?;
        let header = read_header(&access, len, path)?;
        Self::new(path, access, len, header)
    }

    /// Opens the file of `bytes`, which is not at `path` yet.
    pub(crate) fn in_memory(path: &Path, bytes: Arc<Vec<u8>>) -> Result<Self, Error> {
        let (len, access) = (bytes.len() as u64, Access::Memory(bytes));
        let header = read_header(&access, len, path)?;
        Self::new(path, access, len, header)
    }

    /// Opens a file or an object whose length and header are known.
    pub(crate) fn known(path: &Path, len: u64, header: String) -> Result<Self, Error> {
        Self::new(path, Access::known(path)?, len, header)
    }

    fn new(path: &Path, access: Access, len: u64, header: String) -> Result<Self, Error> {
        let parsed = parse_header(&header).map_err(|problem| Error::file(path, problem))?;
        let before = LENGTH_BYTES + header.len() as u64;
        let (expected, found) = (parsed.data_len, len.saturating_sub(before));
        if expected != found {
            let advice =
                if found < expected { "; the file is cut short; copy or download it again" } else { "" };
            let problem =
                format!("the header promises {expected} bytes of tensors, but {found} follow it{advice}");
            return Err(Error::file(path, problem));
        }
        let (metadata, tensors) = (parsed.metadata, parsed.tensors);
        Ok(Container { path: path.to_owned(), len, tensors, metadata, header, access })
    }

    /// Returns the bytes before the data: the length of the header, and the header.
    pub(crate) fn head(&self) -> Vec<u8> {
        head(&self.header)
    }

    /// Maps the bytes of a tensor.
    pub(crate) fn map(&self, tensor: &Tensor) -> Result<Mapped, Error> {
        self.access.map(&self.path, &tensor.range)
    }

    /// Maps a range of the file.
    pub(crate) fn map_range(&self, range: Range<u64>) -> Result<Mapped, Error> {
        self.access.map(&self.path, &range)
    }

    /// Maps the whole file. A tensor's bytes are at its `range`.
    pub(crate) fn map_all(&self) -> Result<Mapped, Error> {
        self.access.map(&self.path, &(0..self.len))
    }

    /// Reads a range of the file from start to end, in chunks of at most `chunk_bytes` bytes.
    pub(crate) fn read_range(
        &self,
        range: Range<u64>,
        chunk_bytes: usize,
        each: impl FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.access.read_range(&self.path, range, chunk_bytes, each)
    }

    /// Keeps the bytes of these tensors in memory, if they would have to be fetched for each use.
    pub(crate) fn hold<'a>(&self, tensors: impl Iterator<Item = &'a Tensor>) -> Result<(), Error> {
        self.access.hold(tensors.map(|tensor| tensor.range.clone()).collect())
    }

    /// Lets go of what [`hold`](Self::hold) keeps.
    pub(crate) fn release(&self) {
        self.access.release();
    }

    /// Reads a tensor from start to end, in chunks.
    pub(crate) fn read(
        &self,
        tensor: &Tensor,
        each: impl FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.read_range(tensor.range.clone(), CHUNK, each)
    }
}

/// Returns the bytes before the data of a file with this header.
pub(crate) fn head(header: &str) -> Vec<u8> {
    let mut head = (header.len() as u64).to_le_bytes().to_vec();
    head.extend(header.as_bytes());
    head
}

fn read_header(access: &Access, len: u64, path: &Path) -> Result<String, Error> {
    if len < LENGTH_BYTES {
        return Err(Error::file(path, format!("{len} bytes are too few for a safetensors file")));
    }
    let mut prefix = [0; LENGTH_BYTES as usize];
    prefix.copy_from_slice(&access.map(path, &(0..LENGTH_BYTES))?);
    let header_len = u64::from_le_bytes(prefix);
    // Nothing is allocated for a length that exceeds what the file can hold.
    if header_len > len - LENGTH_BYTES || header_len > MAX_HEADER {
        return Err(Error::file(path, not_safetensors(&prefix, header_len, len)));
    }
    let header = access.map(path, &(LENGTH_BYTES..LENGTH_BYTES + header_len))?;
    String::from_utf8(header.to_vec())
        .map_err(|_| Error::file(path, "the safetensors header is not UTF-8 text"))
}

/// Describes a file whose first bytes are no header length, and what to do about it.
fn not_safetensors(prefix: &[u8; 8], header_len: u64, len: u64) -> String {
    if prefix == b"version " {
        return "is a pointer of Git LFS, not the weights; run `git lfs pull` where it was cloned".to_owned();
    }
    if prefix[0] == b'<' {
        return "is a web page, not weights: the download failed; download it again".to_owned();
    }
    if prefix.starts_with(b"PK") || prefix[0] == 0x80 && prefix[1] < 6 {
        return "is a checkpoint of PyTorch, not a safetensors file; convert it to safetensors first"
            .to_owned();
    }
    if header_len <= len - LENGTH_BYTES {
        return format!(
            "its first 8 bytes promise a header of {header_len} bytes, but readers accept at most \
             {MAX_HEADER}; save the model in more shards"
        );
    }
    format!("not a safetensors file, or cut short: its first 8 bytes promise a header of {header_len} bytes")
}

#[cfg(unix)]
pub(crate) fn read_exact_at(file: &File, buffer: &mut [u8], at: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, buffer, at)
}

#[cfg(unix)]
pub(crate) fn write_all_at(file: &File, buffer: &[u8], at: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, buffer, at)
}

#[cfg(windows)]
pub(crate) fn read_exact_at(file: &File, mut buffer: &mut [u8], mut at: u64) -> io::Result<()> {
    while !buffer.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, buffer, at)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => (buffer, at) = (&mut buffer[n..], at + n as u64),
        }
    }
    Ok(())
}

#[cfg(windows)]
pub(crate) fn write_all_at(file: &File, mut buffer: &[u8], mut at: u64) -> io::Result<()> {
    while !buffer.is_empty() {
        match std::os::windows::fs::FileExt::seek_write(file, buffer, at)? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            n => (buffer, at) = (&buffer[n..], at + n as u64),
        }
    }
    Ok(())
}
