//! What kernels find wrong, as the device tells it later.

use std::ffi::{c_uint, c_void};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use df11_cuda_driver::cuStreamIsCapturing;
use df11_gpu::{Error, Event, Gpu};

use super::host::{Failure, in_context};

/// Of this many calls, the device is asked in the first. What is stored does not change, so that
/// the first call finds all there is, unless the card's memory fails.
const EVERY: u32 = 64;

/// A fault: the item, its block, and the broken clause.
pub(crate) type Found = (usize, usize, &'static str);

/// Whether somebody has asked the device what its kernels found.
struct Asked {
    /// Happens when the answer is there.
    event: Event,
    is_pending: bool,
    calls: u32,
}

/// Asks a device what its kernels found, and keeps the answer.
pub(crate) struct Report {
    asked: Mutex<Asked>,
    /// The first fault that was found. It stays.
    found: OnceLock<Found>,
}

impl Report {
    pub(crate) fn new(gpu: &Gpu) -> Result<Self, Error> {
        let asked = Mutex::new(Asked { event: Event::new(gpu)?, is_pending: false, calls: 0 });
        Ok(Report { asked, found: OnceLock::new() })
    }

    /// Returns what was found, as far as it is known.
    pub(crate) fn found(&self) -> Option<Found> {
        self.found.get().copied()
    }

    fn asked(&self) -> MutexGuard<'_, Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a fault, unless one was found before.
    pub(crate) fn keep(&self, found: Option<Found>) {
        if let Some(found) = found {
            let _ = self.found.set(found);
        }
    }

    /// Takes the answer, if it is there. While the stream is captured, no one can look.
    ///
    /// `arrived` is called when the stream is past what `ask` enqueued.
    pub(crate) fn take(
        &self,
        gpu: &Gpu,
        stream: *mut c_void,
        arrived: impl FnOnce() -> Option<Found>,
    ) -> Result<(), Failure> {
        let mut asked = self.asked();
        if asked.is_pending && !is_captured(gpu, stream)? && asked.event.has_happened()? {
            asked.is_pending = false;
            self.keep(arrived());
        }
        Ok(())
    }

    /// Asks, in the order of a stream and in one of many calls; nobody waits for the answer. While
    /// the stream is captured, no one can be asked.
    ///
    /// # Safety
    ///
    /// `stream` must be a stream of this device's context, or null.
    pub(crate) unsafe fn ask(
        &self,
        gpu: &Gpu,
        stream: *mut c_void,
        enqueue: impl FnOnce() -> Result<(), Error>,
    ) -> Result<(), Failure> {
        let mut asked = self.asked();
        if !asked.calls.is_multiple_of(EVERY) || asked.is_pending {
            asked.calls = asked.calls.wrapping_add(1);
            return Ok(());
        }
        if is_captured(gpu, stream)? {
            return Ok(());
        }
        enqueue()?;
        // SAFETY: the caller promises the stream.
        unsafe { asked.event.record_raw(stream)? };
        (asked.is_pending, asked.calls) = (true, asked.calls.wrapping_add(1));
        Ok(())
    }

    /// Waits for an answer that is under way, and takes it.
    pub(crate) fn wait(&self, arrived: impl FnOnce() -> Option<Found>) -> Result<(), Error> {
        let mut asked = self.asked();
        if std::mem::take(&mut asked.is_pending) {
            asked.event.wait()?;
            self.keep(arrived());
        }
        Ok(())
    }
}

/// Tells whether a stream is captured.
fn is_captured(gpu: &Gpu, stream: *mut c_void) -> Result<bool, Failure> {
    let mut status: c_uint = 0;
    // SAFETY: the pointer is to a local variable for the status, and the stream is the caller's.
    in_context(gpu, || unsafe { cuStreamIsCapturing(stream, &mut status) })?;
    Ok(status != 0)
}
