//! Streams and events.

#![allow(unsafe_code, reason = "calls of the driver")]

use std::ffi::{c_int, c_void};
use std::ptr;
use std::sync::Arc;
use std::time::Duration;

use df11_cuda_driver::{
    cuEventCreate, cuEventDestroy_v2, cuEventElapsedTime, cuEventQuery, cuEventRecord, cuEventSynchronize,
    cuStreamCreate, cuStreamDestroy_v2, cuStreamSynchronize, cuStreamWaitEvent,
};

use crate::context::{Current, Handle, Shared};
use crate::error::call;
use crate::{Error, Gpu};

/// `CU_STREAM_NON_BLOCKING`
const NON_BLOCKING: u32 = 1;

/// `CUDA_ERROR_NOT_READY`
const NOT_READY: c_int = 600;

/// A stream of a context. Its work is done in order. There is no defined order between its work and
/// that of other streams.
///
/// It does not wait for the legacy stream, and the legacy stream does not wait for it. (Streams of
/// `cust` 0.3.2 do wait, because `cust` drops the flag.)
#[derive(Debug)]
pub struct Stream {
    handle: Handle,
    context: Handle,
    /// `None` for the stream that `Shared` itself has.
    _shared: Option<Arc<Shared>>,
}

impl Stream {
    /// Makes a stream of a device.
    ///
    /// # Errors
    ///
    /// [`Error::Driver`].
    pub fn new(gpu: &Gpu) -> Result<Self, Error> {
        let shared = gpu.shared();
        let _current = shared.enter()?;
        let mut stream = Stream::in_current(shared.context)?;
        stream._shared = Some(Arc::clone(shared));
        Ok(stream)
    }

    pub(crate) fn in_current(context: Handle) -> Result<Self, Error> {
        let mut handle = ptr::null_mut();
        // SAFETY: the pointer is to a local variable for the handle.
        call("make a stream", unsafe { cuStreamCreate(&mut handle, NON_BLOCKING) })?;
        Ok(Stream { handle: Handle(handle), context, _shared: None })
    }

    /// Returns its handle, a `CUstream`.
    #[must_use]
    pub const fn as_raw(&self) -> *mut c_void {
        self.handle.0
    }

    /// Waits until its work is done.
    ///
    /// # Errors
    ///
    /// [`Error::Driver`] if earlier work of the stream failed.
    pub fn wait(&self) -> Result<(), Error> {
        let _current = Current::enter(self.context)?;
        // SAFETY: the stream lives, and its context is current.
        call("finish what was asked for", unsafe { cuStreamSynchronize(self.handle.0) })
    }

    /// Makes all later work of this stream wait for an event. The call itself does not wait.
    ///
    /// # Errors
    ///
    /// [`Error::Driver`].
    pub fn wait_for(&self, event: &Event) -> Result<(), Error> {
        let _current = Current::enter(self.context)?;
        // SAFETY: the stream and the event live, and the stream's context is current.
        call("make a stream wait", unsafe { cuStreamWaitEvent(self.handle.0, event.handle.0, 0) })
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if let Ok(_current) = Current::enter(self.context) {
            // SAFETY: no one has the stream after this. The driver destroys it when its work is
            // done.
            unsafe { cuStreamDestroy_v2(self.handle.0) };
        }
    }
}

/// A point in the work of a stream.
#[derive(Debug)]
pub struct Event {
    handle: Handle,
    shared: Arc<Shared>,
}

impl Event {
    /// Makes an event of a device. It has not been recorded yet.
    ///
    /// # Errors
    ///
    /// [`Error::Driver`].
    pub fn new(gpu: &Gpu) -> Result<Self, Error> {
        let shared = Arc::clone(gpu.shared());
        let mut handle = ptr::null_mut();
        let current = shared.enter()?;
        // SAFETY: the pointer is to a local variable for the handle.
        call("make an event", unsafe { cuEventCreate(&mut handle, 0) })?;
        drop(current);
        Ok(Event { handle: Handle(handle), shared })
    }

    /// Returns its handle, a `CUevent`.
    #[must_use]
    pub const fn as_raw(&self) -> *mut c_void {
        self.handle.0
    }

    /// Records it on a stream. The event happens once the stream has done all of its work so far.
    ///
    /// # Errors
    ///
    /// [`Error::Driver`].
    pub fn record(&self, stream: &Stream) -> Result<(), Error> {
        // SAFETY: the stream is borrowed, so it lives.
        unsafe { self.record_raw(stream.as_raw()) }
    }

    /// Records it on any stream.
    ///
    /// # Safety
    ///
    /// `stream` must be a stream (`CUstream`) of the event's context, or null for its legacy
    /// stream.
    ///
    /// # Errors
    ///
    /// [`Error::Driver`].
    pub unsafe fn record_raw(&self, stream: *mut c_void) -> Result<(), Error> {
        let _current = self.shared.enter()?;
        // SAFETY: the event lives. The caller promises that `stream` is a stream of the event's
        // context, or null.
        call("record an event", unsafe { cuEventRecord(self.handle.0, stream) })
    }

    /// Waits until it has happened.
    ///
    /// # Errors
    ///
    /// [`Error::Driver`].
    pub fn wait(&self) -> Result<(), Error> {
        let _current = self.shared.enter()?;
        // SAFETY: the event lives.
        call("wait for an event", unsafe { cuEventSynchronize(self.handle.0) })
    }

    /// Tells whether it has happened, without waiting. An event that was never recorded has.
    ///
    /// # Errors
    ///
    /// [`Error::Driver`] if earlier work of its stream failed.
    pub fn has_happened(&self) -> Result<bool, Error> {
        let _current = self.shared.enter()?;
        // SAFETY: the event lives.
        match unsafe { cuEventQuery(self.handle.0) } {
            NOT_READY => Ok(false),
            code => call("ask whether an event has happened", code).map(|()| true),
        }
    }

    /// Returns the time from another event to this one, by the device's clock.
    ///
    /// # Errors
    ///
    /// [`Error::Driver`] if one of them has not happened.
    pub fn since(&self, start: &Event) -> Result<Duration, Error> {
        let _current = self.shared.enter()?;
        let mut milliseconds = 0.0;
        // SAFETY: both events live, and the pointer is to a local variable for the number.
        let code = unsafe { cuEventElapsedTime(&mut milliseconds, start.handle.0, self.handle.0) };
        call("ask how long it took", code)?;
        Ok(Duration::from_secs_f32(milliseconds.max(0.0) / 1000.0))
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        if let Ok(_current) = self.shared.enter() {
            // SAFETY: no one has the event after this.
            unsafe { cuEventDestroy_v2(self.handle.0) };
        }
    }
}
