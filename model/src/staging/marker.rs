//! The marker of an unfinished run.

use std::fs::{self, File, TryLockError};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;

use super::Staging;
use crate::error::{Error, io};

/// The name of the marker. Its text names the job that fills the directory. A second line says
/// whether files are becoming visible.
pub(super) const MARKER: &str = ".df11-unfinished";

/// The second line.
pub(super) const PUBLISHING: &str = "\npublishing";

/// The second line that version 0.1 wrote.
pub(super) const REPLACING: &str = "\nreplacing";

impl Staging {
    /// Writes the marker.
    pub(super) fn mark(&self, text: &str) -> Result<(), Error> {
        let Some((marker, _)) = &self.marker else { return Ok(()) };
        let path = self.root.join(MARKER);
        let mut marker = marker;
        // The text only grows while a run lasts, so no reader finds it empty.
        let written = marker
            .seek(SeekFrom::Start(0))
            .and_then(|_| marker.write_all(text.as_bytes()))
            .and_then(|()| marker.set_len(text.len() as u64))
            .and_then(|()| marker.sync_all());
        written.map_err(io("cannot write", &path))
    }
}

pub(super) fn read_marker(directory: &Path) -> Result<String, Error> {
    let path = directory.join(MARKER);
    if path.is_symlink() {
        return Err(Error::Usage(format!("{} is a link; remove it", path.display())));
    }
    match fs::read(&path) {
        Ok(text) => Ok(String::from_utf8_lossy(&text).into_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(io("cannot read", &path)(error)),
    }
}

pub(super) fn lock_marker(directory: &Path) -> Result<File, Error> {
    let path = directory.join(MARKER);
    let mut options = File::options();
    let marker = options.create(true).truncate(false).write(true).open(&path);
    let marker = marker.map_err(io("cannot write", &path))?;
    match marker.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let problem = format!("{} is being written by another run", directory.display());
            return Err(Error::Usage(problem));
        }
        // Some network file systems have no locks. The only choice there is to continue without
        // one.
        Err(TryLockError::Error(_)) => {}
    }
    // The run that held the lock may have ended and removed the marker.
    if !path.is_file() {
        return Err(Error::Usage(format!("{} was just written by another run", directory.display())));
    }
    Ok(marker)
}
