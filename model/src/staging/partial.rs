//! Files that are being written, under temporary names.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use tempfile::NamedTempFile;

use crate::error::{Error, io};

/// A file that takes bytes at any offset.
pub(crate) trait Place: Sync {
    /// Writes bytes at an offset.
    fn write_at(&self, bytes: &[u8], at: u64) -> Result<(), Error>;

    /// Sets the length of the file.
    fn set_len(&self, len: u64) -> Result<(), Error>;
}

/// A file that is being written, in memory.
#[derive(Debug, Default)]
pub(crate) struct InMemory(Mutex<Vec<u8>>);

impl InMemory {
    /// Makes an empty file with room for `bytes` bytes.
    pub(crate) fn with_room(bytes: u64) -> Self {
        let mut content = Vec::new();
        // Only an estimate: where there is no room now, there may be later.
        let _ = content.try_reserve_exact(usize::try_from(bytes).unwrap_or(0));
        InMemory(Mutex::new(content))
    }

    /// Returns the content.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place for InMemory {
    fn write_at(&self, bytes: &[u8], at: u64) -> Result<(), Error> {
        let too_long = || Error::Usage("a file of this length does not fit into memory".to_owned());
        let start = usize::try_from(at).map_err(|_| too_long())?;
        let end = start.checked_add(bytes.len()).ok_or_else(too_long)?;
        let mut content = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if content.len() < end {
            let more = end - content.len();
            content.try_reserve(more).map_err(|_| too_long())?;
            content.resize(end, 0);
        }
        content[start..end].copy_from_slice(bytes);
        Ok(())
    }

    fn set_len(&self, len: u64) -> Result<(), Error> {
        let mut content = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        content.resize(usize::try_from(len).unwrap_or(usize::MAX), 0);
        Ok(())
    }
}

/// A file that is being written.
#[derive(Debug)]
pub(crate) struct Partial {
    pub(super) file: NamedTempFile,
    /// The name that errors use for it.
    pub(super) target: PathBuf,
}

impl Partial {
    pub(crate) fn path(&self) -> &Path {
        self.file.path()
    }

    pub(crate) fn file(&self) -> &File {
        self.file.as_file()
    }

    /// Closes the file until it is written to again.
    pub(crate) fn close(self) -> Closed {
        Closed { path: self.file.into_temp_path(), target: self.target }
    }

    /// Sets the length of the file.
    pub(crate) fn set_len(&self, len: u64) -> Result<(), Error> {
        self.file().set_len(len).map_err(io("cannot write", &self.target))
    }

    /// Writes bytes at an offset.
    pub(crate) fn write_at(&self, bytes: &[u8], at: u64) -> Result<(), Error> {
        crate::container::write_all_at(self.file(), bytes, at).map_err(io("cannot write", &self.target))
    }
}

impl Place for Partial {
    fn write_at(&self, bytes: &[u8], at: u64) -> Result<(), Error> {
        Partial::write_at(self, bytes, at)
    }

    fn set_len(&self, len: u64) -> Result<(), Error> {
        Partial::set_len(self, len)
    }
}

/// A file that is being written but is not open. A run may write more files than it may have open.
#[derive(Debug)]
pub(crate) struct Closed {
    pub(super) path: tempfile::TempPath,
    /// The name that errors use for it.
    pub(super) target: PathBuf,
}

impl Closed {
    /// Opens it for writing at any offset.
    pub(crate) fn open(&self) -> Result<OpenAgain<'_>, Error> {
        let file = File::options().write(true).open(&self.path).map_err(io("cannot write", &self.target))?;
        Ok(OpenAgain { file, target: &self.target })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// A [`Closed`] file that is open again.
#[derive(Debug)]
pub(crate) struct OpenAgain<'a> {
    file: File,
    target: &'a Path,
}

impl OpenAgain<'_> {
    /// Writes bytes at an offset.
    pub(crate) fn write_at(&self, bytes: &[u8], at: u64) -> Result<(), Error> {
        crate::container::write_all_at(&self.file, bytes, at).map_err(io("cannot write", self.target))
    }
}
