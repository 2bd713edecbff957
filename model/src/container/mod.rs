//! One safetensors file: a checked header, and ranges of bytes that are mapped or read on demand.
//! No file stays open, because a checkpoint may have more shards than a process may have open
//! files.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};

use safetensors::tensor::Dtype;

use crate::error::{Error, io};

mod header;
mod map;

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
}

impl Container {
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        // Checked before opening, because opening a pipe waits for its writer.
        if !std::fs::metadata(path).map_err(io("cannot open", path))?.is_file() {
            return Err(Error::file(
                path,
                "not a regular file; weights are mapped, so save them to a file first",
            ));
        }
        let mut file = File::open(path).map_err(io("cannot open", path))?;
        let info = file.metadata().map_err(io("cannot open", path))?;
        let header = read_header(&mut file, info.len(), path)?;
        let parsed = parse_header(&header).map_err(|problem| Error::file(path, problem))?;
        let (expected, found) = (parsed.data_len, info.len() - LENGTH_BYTES - header.len() as u64);
        if expected != found {
            let advice =
                if found < expected { "; the file is cut short; copy or download it again" } else { "" };
            let problem =
                format!("the header promises {expected} bytes of tensors, but {found} follow it{advice}");
            return Err(Error::file(path, problem));
        }
        Ok(Container {
            path: path.to_owned(),
            len: info.len(),
            tensors: parsed.tensors,
            metadata: parsed.metadata,
            header,
        })
    }

    /// Returns the bytes before the data: the length of the header, and the header.
    pub(crate) fn head(&self) -> Vec<u8> {
        head(&self.header)
    }

    fn file(&self) -> Result<File, Error> {
        File::open(&self.path).map_err(io("cannot open", &self.path))
    }

    /// Maps the bytes of a tensor.
    pub(crate) fn map(&self, tensor: &Tensor) -> Result<Mapped, Error> {
        Mapped::new(&self.file()?, &tensor.range).map_err(io("cannot map", &self.path))
    }

    /// Maps the whole file. A tensor's bytes are at its `range`.
    pub(crate) fn map_all(&self) -> Result<Mapped, Error> {
        Mapped::new(&self.file()?, &(0..self.len)).map_err(io("cannot map", &self.path))
    }

    /// Reads a range of the file from start to end, in chunks of at most `chunk_bytes` bytes.
    pub(crate) fn read_range(
        &self,
        range: Range<u64>,
        chunk_bytes: usize,
        mut each: impl FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let file = self.file()?;
        let mut buffer = vec![0; chunk_bytes.min((range.end - range.start) as usize)];
        let mut at = range.start;
        while at < range.end {
            let len = buffer.len().min((range.end - at) as usize);
            read_exact_at(&file, &mut buffer[..len], at).map_err(io("cannot read", &self.path))?;
            each(&buffer[..len])?;
            at += len as u64;
        }
        Ok(())
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

fn read_header(file: &mut File, len: u64, path: &Path) -> Result<String, Error> {
    let cannot = |source| io("cannot read", path)(source);
    if len < LENGTH_BYTES {
        return Err(Error::file(path, format!("{len} bytes are too few for a safetensors file")));
    }
    let mut prefix = [0; LENGTH_BYTES as usize];
    file.read_exact(&mut prefix).map_err(cannot)?;
    let header_len = u64::from_le_bytes(prefix);
    // Nothing is allocated for a length that exceeds what the file can hold.
    if header_len > len - LENGTH_BYTES || header_len > MAX_HEADER {
        return Err(Error::file(path, not_safetensors(&prefix, header_len, len)));
    }
    let mut header = vec![0; header_len as usize];
    file.read_exact(&mut header).map_err(cannot)?;
    String::from_utf8(header).map_err(|_| Error::file(path, "the safetensors header is not UTF-8 text"))
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
