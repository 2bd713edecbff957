//! Files that are being written, under temporary names.

use std::fs::File;

use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::error::{Error, io};

/// A file that is being written.
#[derive(Debug)]
pub(crate) struct Partial {
    pub(super) file: NamedTempFile,
    /// The name that errors give it.
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

    /// Ends the file at this length.
    pub(crate) fn set_len(&self, len: u64) -> Result<(), Error> {
        self.file().set_len(len).map_err(io("cannot write", &self.target))
    }

    /// Writes bytes at a place.
    pub(crate) fn write_at(&self, bytes: &[u8], at: u64) -> Result<(), Error> {
        crate::container::write_all_at(self.file(), bytes, at).map_err(io("cannot write", &self.target))
    }
}

/// A file that is being written, but not open: a run may write more files than it may have open.
#[derive(Debug)]
pub(crate) struct Closed {
    pub(super) path: tempfile::TempPath,
    /// The name that errors give it.
    pub(super) target: PathBuf,
}

impl Closed {
    /// Opens it to write at any place.
    pub(crate) fn open(&self) -> Result<OpenAgain<'_>, Error> {
        let file = File::options().write(true).open(&self.path).map_err(io("cannot write", &self.target))?;
        Ok(OpenAgain { file, target: &self.target })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// A [`Closed`] file, open.
#[derive(Debug)]
pub(crate) struct OpenAgain<'a> {
    file: File,
    target: &'a Path,
}

impl OpenAgain<'_> {
    /// Writes bytes at a place.
    pub(crate) fn write_at(&self, bytes: &[u8], at: u64) -> Result<(), Error> {
        crate::container::write_all_at(&self.file, bytes, at).map_err(io("cannot write", self.target))
    }
}
