//! Files that are being written, under temporary names.

use std::fs::File;

use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::error::{Error, io};

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
