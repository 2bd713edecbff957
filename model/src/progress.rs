//! How long operations tell how far they are, and are told to stop.

use crate::error::Error;

/// Receives progress; every method may be called from any thread. `()` ignores it.
pub trait Progress: Sync {
    /// A task begins that will go through this many bytes of BF16 or of files.
    fn begin(&self, task: &str, bytes: u64) {
        let _ = (task, bytes);
    }

    /// This many bytes more are done.
    fn advance(&self, bytes: u64) {
        let _ = bytes;
    }

    /// Whether the operation should stop: it then ends as soon as it can with [`Error::Cancelled`],
    /// as any other failure does, with nothing changed that could be seen. Large operations ask
    /// between pieces of some megabytes.
    fn is_cancelled(&self) -> bool {
        false
    }
}

impl Progress for () {}

/// Goes on, unless the operation should stop.
pub(crate) fn go_on(progress: &dyn Progress) -> Result<(), Error> {
    if progress.is_cancelled() { Err(Error::Cancelled) } else { Ok(()) }
}
