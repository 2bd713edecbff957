//! One safetensors file: a checked header, and ranges of bytes that are mapped or read when they are needed.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, Metadata, TensorInfo};

use crate::error::{Error, io};
use crate::map::Mapped;

/// The longest header that the safetensors library reads, in bytes.
const MAX_HEADER: u64 = 100_000_000;

/// Bytes before the header: its length, little-endian.
const LENGTH_BYTES: u64 = 8;

/// Bytes that are read, hashed or compared at a time.
pub(crate) const CHUNK: usize = 1 << 20;

/// A tensor in a file.
#[derive(Clone, Debug)]
pub(crate) struct Tensor {
    pub(crate) name: String,
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<usize>,
    /// Where its bytes are, from the start of the file.
    pub(crate) range: Range<u64>,
}

impl Tensor {
    pub(crate) fn bytes(&self) -> u64 {
        self.range.end - self.range.start
    }
}

/// A tensor and the file that it is in.
pub(crate) type Located<'a> = (&'a Container, &'a Tensor);

/// An open safetensors file whose header has been checked against its length.
#[derive(Debug)]
pub(crate) struct Container {
    pub(crate) path: PathBuf,
    file: File,
    /// The header as it stands in the file, trailing spaces included.
    pub(crate) header: String,
    pub(crate) metadata: HashMap<String, String>,
    /// In order of their bytes.
    pub(crate) tensors: Vec<Tensor>,
}

impl Container {
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        // Asked before opening: to open a pipe is to wait for its writer.
        if !std::fs::metadata(path).map_err(io("cannot open", path))?.is_file() {
            return Err(Error::file(
                path,
                "not a regular file; weights are mapped, so save them to a file first",
            ));
        }
        let mut file = File::open(path).map_err(io("cannot open", path))?;
        let info = file.metadata().map_err(io("cannot open", path))?;
        let header = read_header(&mut file, info.len(), path)?;
        let data = LENGTH_BYTES + header.len() as u64;
        let parsed = parse_header(&header).map_err(|problem| Error::file(path, problem))?;
        let found = info.len() - data;
        if parsed.data_len() as u64 != found {
            let expected = parsed.data_len();
            let advice =
                if found < expected as u64 { "the file is cut short; copy or download it again" } else { "" };
            let problem =
                format!("the header promises {expected} bytes of tensors, but {found} follow it; {advice}");
            return Err(Error::file(path, problem.trim_end_matches("; ")));
        }
        Ok(Container {
            path: path.to_owned(),
            file,
            tensors: tensors(&parsed, data),
            metadata: parsed.metadata().clone().unwrap_or_default(),
            header,
        })
    }

    /// The bytes of a tensor, mapped.
    pub(crate) fn map(&self, tensor: &Tensor) -> Result<Mapped, Error> {
        Mapped::new(&self.file, &tensor.range).map_err(io("cannot map", &self.path))
    }

    /// The whole file, mapped: a tensor's bytes are at its range.
    pub(crate) fn map_all(&self) -> Result<Mapped, Error> {
        let end = self.tensors.last().map_or(0, |last| last.range.end);
        Mapped::new(&self.file, &(0..end)).map_err(io("cannot map", &self.path))
    }

    /// Reads bytes of a tensor, from `offset` in it.
    pub(crate) fn read_at(&self, tensor: &Tensor, offset: u64, buffer: &mut [u8]) -> Result<(), Error> {
        read_exact_at(&self.file, buffer, tensor.range.start + offset).map_err(io("cannot read", &self.path))
    }

    /// Reads a tensor from start to end, in chunks.
    pub(crate) fn read(
        &self,
        tensor: &Tensor,
        mut each: impl FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut buffer = vec![0; CHUNK.min(tensor.bytes() as usize)];
        let mut at = tensor.range.start;
        while at < tensor.range.end {
            let now = buffer.len().min((tensor.range.end - at) as usize);
            self.read_at(tensor, at - tensor.range.start, &mut buffer[..now])?;
            each(&buffer[..now])?;
            at += now as u64;
        }
        Ok(())
    }
}

/// Parses a header, and checks that its tensors lie one after the other without holes and are as long as their shapes
/// say.
pub(crate) fn parse_header(header: &str) -> Result<Metadata, String> {
    serde_json::from_str(header).map_err(|error| format!("the safetensors header is wrong: {error}"))
}

/// The tensors of a header, in order of their bytes, which start at `data`.
pub(crate) fn tensors(metadata: &Metadata, data: u64) -> Vec<Tensor> {
    let names = metadata.offset_keys();
    names
        .into_iter()
        .filter_map(|name| {
            let TensorInfo { dtype, shape, data_offsets: (start, end) } = metadata.info(&name)?.clone();
            Some(Tensor { name, dtype, shape, range: data + start as u64..data + end as u64 })
        })
        .collect()
}

fn read_header(file: &mut File, len: u64, path: &Path) -> Result<String, Error> {
    let cannot = |source| io("cannot read", path)(source);
    if len < LENGTH_BYTES {
        return Err(Error::file(path, format!("{len} bytes are too few for a safetensors file")));
    }
    let mut prefix = [0; LENGTH_BYTES as usize];
    file.read_exact(&mut prefix).map_err(cannot)?;
    let header_len = u64::from_le_bytes(prefix);
    // Nothing is allocated on the word of a length that the file cannot hold.
    if header_len > len - LENGTH_BYTES || header_len > MAX_HEADER {
        return Err(Error::file(
            path,
            format!(
                "not a safetensors file, or cut short: its first 8 bytes promise a header of {header_len} bytes"
            ),
        ));
    }
    let mut header = vec![0; header_len as usize];
    file.read_exact(&mut header).map_err(cannot)?;
    String::from_utf8(header).map_err(|_| Error::file(path, "the safetensors header is not UTF-8 text"))
}

/// The header of a file with these tensors, in the order and with the alignment that the safetensors library uses:
/// larger element types first, then by name; filled up with spaces to a multiple of 8 bytes. Returns the bytes before
/// the data (length and header) and the tensors with their ranges in the file.
pub(crate) fn lay_out(
    mut tensors: Vec<(String, Dtype, Vec<usize>)>,
    metadata: Option<(&str, String)>,
) -> Result<(Vec<u8>, Vec<Tensor>), String> {
    tensors.sort_by(|(a, a_dtype, _), (b, b_dtype, _)| b_dtype.cmp(a_dtype).then_with(|| a.cmp(b)));
    let mut names: Vec<&str> = tensors.iter().map(|(name, ..)| name.as_str()).collect();
    names.sort_unstable();
    if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(format!("two tensors would have the name {}", pair[0]));
    }
    let mut end = 0usize;
    let mut infos = Vec::with_capacity(tensors.len());
    for (name, dtype, shape) in tensors {
        let bits =
            shape.iter().try_fold(dtype.bitsize(), |n, &d| n.checked_mul(d)).ok_or("too large for a file")?;
        let start = end;
        end = start.checked_add(bits / 8).ok_or("too large for a file")?;
        infos.push((name, TensorInfo { dtype, shape, data_offsets: (start, end) }));
    }
    let metadata = metadata.map(|(key, value)| HashMap::from([(key.to_owned(), value)]));
    let metadata = Metadata::new(metadata, infos).map_err(|error| error.to_string())?;
    let mut header = serde_json::to_string(&metadata).map_err(|error| error.to_string())?;
    header.extend(std::iter::repeat_n(' ', header.len().next_multiple_of(8) - header.len()));
    if header.len() as u64 > MAX_HEADER {
        return Err(format!(
            "its header of {} bytes would be longer than safetensors readers accept",
            header.len()
        ));
    }
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    let tensors = self::tensors(&metadata, bytes.len() as u64);
    Ok((bytes, tensors))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout_equals_what_the_safetensors_library_writes() {
        let list = [("b", Dtype::U8, vec![3usize]), ("a", Dtype::U8, vec![2, 2]), ("z", Dtype::I64, vec![1])];
        let data: Vec<u8> = (0..8).collect();
        let views = list.iter().map(|(name, dtype, shape)| {
            let len = shape.iter().product::<usize>() * dtype.bitsize() / 8;
            (*name, safetensors::tensor::TensorView::new(*dtype, shape.clone(), &data[..len]).unwrap())
        });
        let metadata = Some(HashMap::from([("df11".to_owned(), "{}".to_owned())]));
        let theirs = safetensors::serialize(views, metadata).unwrap();

        let ours =
            list.iter().map(|(name, dtype, shape)| ((*name).to_owned(), *dtype, shape.clone())).collect();
        let (head, tensors) = lay_out(ours, Some(("df11", "{}".to_owned()))).unwrap();
        assert_eq!(&theirs[..head.len()], head);
        let ends: Vec<_> = tensors.iter().map(|t| (t.name.as_str(), t.range.end)).collect();
        let start = head.len() as u64;
        assert_eq!(ends, [("z", start + 8), ("a", start + 12), ("b", start + 15)]);
        assert_eq!(theirs.len() as u64, start + 15);
    }
}
