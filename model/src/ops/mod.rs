//! Operations on checkpoints.

pub(crate) mod compress;
pub(crate) mod decompress;
pub(crate) mod inspect;
pub(crate) mod report;
mod restoration;
pub(crate) mod transcode;
pub(crate) mod verify;
pub(crate) mod weights;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::error::Error;

/// The number of items, each of which reads from a store, that one process works on at a time: one
/// waits for the network while another uses the processor.
const AT_A_TIME: usize = 2;

/// Works on items, two at a time, on threads of their own. Stops at the first error.
pub(crate) fn two_at_a_time<T: Sync>(
    items: &[T],
    work: impl Fn(&T) -> Result<(), Error> + Sync,
) -> Result<(), Error> {
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(None));
    let one = || {
        while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let Err(error) = work(item) {
                next.store(items.len(), Ordering::Relaxed);
                failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
            }
        }
    };
    std::thread::scope(|scope| (0..AT_A_TIME.min(items.len())).for_each(|_| drop(scope.spawn(one))));
    failed.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
}
