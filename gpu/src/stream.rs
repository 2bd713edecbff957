//! Streams and events.

#![allow(unsafe_code, reason = "calls of the driver")]

use std::ffi::c_void;
use std::ptr;
use std::sync::Arc;
use std::time::Duration;

use df11_cuda_driver::{
    cuEventCreate, cuEventDestroy_v2, cuEventElapsedTime, cuEventRecord, cuEventSynchronize, cuStreamCreate,
    cuStreamDestroy_v2, cuStreamSynchronize, cuStreamWaitEvent,
};

use crate::context::{Current, Handle, Shared};
use crate::error::call;
use crate::{Error, Gpu};

/// `CU_STREAM_NON_BLOCKING`
const NON_BLOCKING: u32 = 1;

/// A stream of a context: what is given to it is done in order, and not in any order with what
/// other streams do.
///
/// It does not wait for the legacy stream, nor that for it. (Streams of `cust` 0.3.2 do wait: it
/// drops the flag.)
#[derive(Debug)]
pub struct Stream {
    handle: Handle,
    context: Handle,
    /// Nothing for the stream that `Shared` itself has.
    _shared: Option<Arc<Shared>>,
}

impl Stream {
    /// A new stream of a device.
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
        // SAFETY: the place for the handle is there.
        call("make a stream", unsafe { cuStreamCreate(&mut handle, NON_BLOCKING) })?;
        Ok(Stream { handle: Handle(handle), context, _shared: None })
    }

    /// Its handle, a `CUstream`.
    #[must_use]
    pub const fn as_raw(&self) -> *mut c_void {
        self.handle.0
    }

    /// Waits until it is done.
    ///
    /// # Errors
    ///
    /// [`Error::Driver`] if something that it had to do went wrong.
    pub fn wait(&self) -> Result<(), Error> {
        let _current = Current::enter(self.context)?;
        // SAFETY: the stream lives, and its context is current.
        call("finish what was asked for", unsafe { cuStreamSynchronize(self.handle.0) })
    }

    /// Makes what is given to this stream from now on wait for an event. The caller goes on at
    /// once.
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
            // SAFETY: nobody has the stream after this. The driver destroys it when it is done.
            unsafe { cuStreamDestroy_v2(self.handle.0) };
        }
    }
}

/// A point in what a stream has to do.
#[derive(Debug)]
pub struct Event {
    handle: Handle,
    shared: Arc<Shared>,
}

impl Event {
    /// A new event of a device, which has not been recorded.
    ///
    /// # Errors
    ///
    /// [`Error::Driver`].
    pub fn new(gpu: &Gpu) -> Result<Self, Error> {
        let shared = Arc::clone(gpu.shared());
        let mut handle = ptr::null_mut();
        let current = shared.enter()?;
        // SAFETY: the place for the handle is there.
        call("make an event", unsafe { cuEventCreate(&mut handle, 0) })?;
        drop(current);
        Ok(Event { handle: Handle(handle), shared })
    }

    /// Its handle, a `CUevent`.
    #[must_use]
    pub const fn as_raw(&self) -> *mut c_void {
        self.handle.0
    }

    /// Records it on a stream: it happens when the stream has done what it has been given so far.
    ///
    /// # Errors
    ///
    /// [`Error::Driver`].
    pub fn record(&self, stream: &Stream) -> Result<(), Error> {
        // SAFETY: the stream lives.
        unsafe { self.record_raw(stream.as_raw()) }
    }

    /// The same on any stream.
    ///
    /// # Safety
    ///
    /// `stream` is a stream (`CUstream`) of the event's context, or null for its legacy stream.
    ///
    /// # Errors
    ///
    /// [`Error::Driver`].
    pub unsafe fn record_raw(&self, stream: *mut c_void) -> Result<(), Error> {
        let _current = self.shared.enter()?;
        // SAFETY: the event lives; the caller's promise for the stream.
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

    /// How long after another it happened, by the clock of the device.
    ///
    /// # Errors
    ///
    /// [`Error::Driver`] if one of them has not happened.
    pub fn since(&self, start: &Event) -> Result<Duration, Error> {
        let _current = self.shared.enter()?;
        let mut milliseconds = 0.0;
        // SAFETY: both events live, and the place for the number is there.
        let code = unsafe { cuEventElapsedTime(&mut milliseconds, start.handle.0, self.handle.0) };
        call("ask how long it took", code)?;
        Ok(Duration::from_secs_f32(milliseconds.max(0.0) / 1000.0))
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        if let Ok(_current) = self.shared.enter() {
            // SAFETY: nobody has the event after this.
            unsafe { cuEventDestroy_v2(self.handle.0) };
        }
    }
}
