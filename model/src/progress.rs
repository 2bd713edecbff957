//! How long operations tell how far they are.

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
}

impl Progress for () {}
