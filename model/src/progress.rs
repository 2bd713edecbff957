//! Progress reports and cancellation of long operations.

use crate::error::Error;

/// Receives progress; every method may be called from any thread. `()` ignores it.
pub trait Progress: Sync {
    /// Begins a task that will process this many bytes of BF16 or of files.
    fn begin(&self, task: &str, bytes: u64) {
        let _ = (task, bytes);
    }

    /// Adds this many bytes to the work done.
    fn advance(&self, bytes: u64) {
        let _ = bytes;
    }

    /// Tells whether the operation should stop. If so, it ends soon with [`Error::Cancelled`]. As
    /// after any other failure, nothing visible has changed. Large operations check between pieces
    /// of some megabytes.
    fn is_cancelled(&self) -> bool {
        false
    }
}

impl Progress for () {}

/// Returns an error if the operation should stop.
pub(crate) fn go_on(progress: &dyn Progress) -> Result<(), Error> {
    if progress.is_cancelled() { Err(Error::Cancelled) } else { Ok(()) }
}
