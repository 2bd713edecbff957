//! The asynchronous runtime that requests run on. Its threads belong to this module; callers block.

use std::future::Future;
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Mutex, PoisonError};

use tokio::runtime::{Builder, Runtime};

use crate::error::Error;

/// The runtime, and the process that started it. The child of a process that forks has none of its
/// threads, so it starts a runtime of its own.
static RUNTIME: Mutex<Option<(u32, &'static Runtime)>> = Mutex::new(None);

/// Work that has begun.
pub(super) struct Pending<T>(Receiver<T>);

impl<T> Pending<T> {
    /// Waits for the result.
    pub(super) fn wait(self) -> Result<T, Error> {
        self.0.recv().map_err(|_| Error::Usage("a request to an object store was dropped".to_owned()))
    }
}

fn runtime() -> Result<&'static Runtime, Error> {
    let mut known = RUNTIME.lock().unwrap_or_else(PoisonError::into_inner);
    let process = std::process::id();
    if let Some((owner, runtime)) = *known
        && owner == process
    {
        return Ok(runtime);
    }
    let built = Builder::new_multi_thread().worker_threads(2).thread_name("df11-store").enable_all().build();
    let built = built.map_err(|error| Error::Usage(format!("cannot start threads for requests: {error}")))?;
    // It lives as long as the process: requests may begin at any time.
    let runtime: &'static Runtime = Box::leak(Box::new(built));
    *known = Some((process, runtime));
    Ok(runtime)
}

/// Begins work. It goes on while the caller does something else. This may be called on any thread,
/// also on one of another runtime.
pub(super) fn begin<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> Result<Pending<T>, Error> {
    let (sender, receiver) = sync_channel(1);
    runtime()?.spawn(async move {
        // Nobody waits any more if the caller failed meanwhile.
        let _ = sender.send(work.await);
    });
    Ok(Pending(receiver))
}

/// Does work and waits for its result.
pub(super) fn wait<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> Result<T, Error> {
    begin(work)?.wait()
}
