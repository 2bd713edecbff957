//! Streams, events, and graphs captured from streams.

use std::ffi::{c_int, c_uint, c_ulonglong, c_void};
use std::thread;
use std::time::{Duration, Instant};

use super::codes::{INVALID_HANDLE, INVALID_VALUE, NOT_READY, SUCCESS};
use super::state::{Event, Job, When};
use super::{Driver, code, give, pointer};

/// `CU_STREAM_NON_BLOCKING`
const NON_BLOCKING: c_uint = 1;

impl Driver {
    pub(crate) unsafe fn cuStreamCreate(&self, stream: *mut *mut c_void, flags: c_uint) -> c_int {
        // SAFETY: `cuStreamCreateWithPriority` has the same contract, and the caller promises to
        // keep it.
        unsafe { self.cuStreamCreateWithPriority(stream, flags, 0) }
    }

    pub(crate) unsafe fn cuStreamCreateWithPriority(
        &self,
        stream: *mut *mut c_void,
        flags: c_uint,
        _: c_int,
    ) -> c_int {
        self.here(|state, card| {
            let handle = state.handle();
            state.add_stream(handle, card, flags & NON_BLOCKING == 0);
            give(stream, pointer(handle))
        })
    }

    pub(crate) unsafe fn cuStreamDestroy_v2(&self, stream: *mut c_void) -> c_int {
        self.here(|state, card| {
            if stream.is_null() {
                return Err(INVALID_HANDLE);
            }
            let handle = state.stream(card, stream.addr())?;
            // Pending jobs are still done.
            let result = state.finish(&self.emulation, handle);
            state.streams.remove(&handle);
            result
        })
    }

    pub(crate) unsafe fn cuStreamSynchronize(&self, stream: *mut c_void) -> c_int {
        self.here(|state, card| {
            let stream = state.stream(card, stream.addr())?;
            state.refuse_captured(stream)?;
            state.refuse_unsafe(thread::current().id())?;
            state.finish(&self.emulation, stream)
        })
    }

    pub(crate) unsafe fn cuStreamWaitEvent(
        &self,
        stream: *mut c_void,
        event: *mut c_void,
        _: c_uint,
    ) -> c_int {
        self.here(|state, card| {
            let (is_legacy, handle) = (stream.addr() <= 2, state.stream(card, stream.addr())?);
            if state.capture_wait(handle, event.addr(), is_legacy)? {
                return Ok(());
            }
            match state.events.get(&event.addr()).ok_or(INVALID_HANDLE)?.when {
                When::Pending { stream, sequence } => {
                    state.submit(&self.emulation, handle, Job::Wait { stream, sequence })
                }
                _ => Ok(()),
            }
        })
    }

    pub(crate) unsafe fn cuStreamIsCapturing(&self, stream: *mut c_void, status: *mut c_uint) -> c_int {
        self.here(|state, card| {
            let stream = state.stream(card, stream.addr())?;
            give(status, c_uint::from(state.is_captured(stream)))
        })
    }

    pub(crate) unsafe fn cuThreadExchangeStreamCaptureMode(&self, mode: *mut c_uint) -> c_int {
        // SAFETY: the caller passes a pointer to a mode, as the driver's function needs it.
        match unsafe { mode.as_mut() } {
            Some(mode) => code(self.state().exchange_mode(thread::current().id(), mode)),
            None => INVALID_VALUE,
        }
    }

    pub(crate) unsafe fn cuStreamBeginCapture_v2(&self, stream: *mut c_void, mode: c_uint) -> c_int {
        self.here(|state, card| {
            let (is_legacy, handle) = (stream.addr() <= 2, state.stream(card, stream.addr())?);
            state.begin_capture(thread::current().id(), handle, mode, is_legacy)
        })
    }

    pub(crate) unsafe fn cuStreamEndCapture(&self, stream: *mut c_void, graph: *mut *mut c_void) -> c_int {
        self.here(|state, card| {
            give(graph, std::ptr::null_mut())?;
            let stream = state.stream(card, stream.addr())?;
            let found = state.end_capture(thread::current().id(), stream)?;
            let handle = state.handle();
            state.graphs.insert(handle, found);
            give(graph, pointer(handle))
        })
    }

    pub(crate) unsafe fn cuGraphInstantiateWithFlags(
        &self,
        executable: *mut *mut c_void,
        graph: *mut c_void,
        _: c_ulonglong,
    ) -> c_int {
        self.waiting(|state, _| {
            let graph = state.graphs.get(&graph.addr()).ok_or(INVALID_HANDLE)?.clone();
            let handle = state.handle();
            state.executables.insert(handle, graph);
            give(executable, pointer(handle))
        })
    }

    pub(crate) unsafe fn cuGraphLaunch(&self, executable: *mut c_void, stream: *mut c_void) -> c_int {
        self.here(|state, card| {
            let graph = state.executables.get(&executable.addr()).ok_or(INVALID_HANDLE)?.clone();
            let stream = state.stream(card, stream.addr())?;
            state.submit(&self.emulation, stream, Job::Graph(graph))
        })
    }

    pub(crate) unsafe fn cuGraphExecDestroy(&self, executable: *mut c_void) -> c_int {
        if self.state().executables.remove(&executable.addr()).is_some() { SUCCESS } else { INVALID_HANDLE }
    }

    pub(crate) unsafe fn cuGraphDestroy(&self, graph: *mut c_void) -> c_int {
        if self.state().graphs.remove(&graph.addr()).is_some() { SUCCESS } else { INVALID_HANDLE }
    }

    pub(crate) unsafe fn cuEventCreate(&self, event: *mut *mut c_void, _: c_uint) -> c_int {
        self.here(|state, card| {
            let handle = state.handle();
            state.events.insert(handle, Event { card, when: When::Never });
            give(event, pointer(handle))
        })
    }

    pub(crate) unsafe fn cuEventDestroy_v2(&self, event: *mut c_void) -> c_int {
        if self.state().events.remove(&event.addr()).is_some() { SUCCESS } else { INVALID_HANDLE }
    }

    pub(crate) unsafe fn cuEventRecord(&self, event: *mut c_void, stream: *mut c_void) -> c_int {
        self.here(|state, card| {
            let handle = state.stream(card, stream.addr())?;
            let of = state.events.get(&event.addr()).ok_or(INVALID_HANDLE)?.card;
            if state.streams.get(&handle).is_none_or(|stream| stream.card != of) {
                return Err(INVALID_HANDLE);
            }
            state.submit(&self.emulation, handle, Job::Record { event: event.addr() })
        })
    }

    pub(crate) unsafe fn cuEventQuery(&self, event: *mut c_void) -> c_int {
        self.waiting(|state, _| {
            match state.events.get(&event.addr()).ok_or(INVALID_HANDLE)?.when {
                When::Pending { stream, sequence } => {
                    // A caller that polls the event then sees it happen.
                    state.finish_until(&self.emulation, stream, sequence);
                    Err(NOT_READY)
                }
                When::Captured { .. } => Err(INVALID_VALUE),
                When::Never | When::Done(_) => Ok(()),
            }
        })
    }

    pub(crate) unsafe fn cuEventSynchronize(&self, event: *mut c_void) -> c_int {
        self.waiting(|state, _| {
            let found = state.events.get(&event.addr()).ok_or(INVALID_HANDLE)?;
            let card = found.card;
            match found.when {
                When::Pending { stream, sequence } => state.finish_until(&self.emulation, stream, sequence),
                When::Captured { .. } => return Err(INVALID_VALUE),
                When::Never | When::Done(_) => {}
            }
            state.alive(card)
        })
    }

    pub(crate) unsafe fn cuEventElapsedTime(
        &self,
        milliseconds: *mut f32,
        start: *mut c_void,
        end: *mut c_void,
    ) -> c_int {
        self.here(|state, _| {
            let when = |event: *mut c_void| -> Result<Instant, c_int> {
                match &state.events.get(&event.addr()).ok_or(INVALID_HANDLE)?.when {
                    When::Done(when) => Ok(*when),
                    When::Pending { .. } => Err(NOT_READY),
                    When::Never | When::Captured { .. } => Err(INVALID_HANDLE),
                }
            };
            let elapsed: Duration = when(end)?.saturating_duration_since(when(start)?);
            give(milliseconds, elapsed.as_secs_f32() * 1000.0)
        })
    }
}
