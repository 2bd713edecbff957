//! A driver whose devices are emulated.
//!
//! It behaves as badly as a real driver may. A stream does nothing before a call waits for it. A
//! copy from pageable memory, made by a function without a stream, is done when the legacy stream
//! is waited for, and "non-blocking" streams do not wait for that stream. Each address belongs to
//! one device. A kernel with an invalid access kills its context. While a stream is captured, any
//! call that could wait is an error that ends the capture.

mod capture;
mod codes;
mod context;
mod memory;
mod module;
mod state;
mod stream;

use std::cell::RefCell;
use std::ffi::{c_int, c_uint, c_void};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use df11_emulator::{Finding, Options};

use codes::{INVALID_CONTEXT, INVALID_DEVICE, INVALID_VALUE, SUCCESS};
use state::{Job, State};

/// The largest number of threads in a thread block.
const MOST_THREADS: c_uint = 1024;

/// The properties of the emulated devices.
#[derive(Clone, Debug)]
pub struct Emulation {
    /// The options that kernels run with.
    pub options: Options,
    /// Whether streams work only when a call waits for them. A program that forgets to wait then
    /// finds nothing done.
    pub lazy: bool,
    /// Bytes of memory of each device.
    pub memory: usize,
    /// Compute capability: 90 for 9.0.
    pub capability: i32,
    /// The number of devices.
    pub devices: usize,
    /// Functions of the driver that do nothing but return a code, by name.
    pub refusals: Vec<(&'static str, c_int)>,
}

impl Default for Emulation {
    fn default() -> Self {
        Emulation {
            options: Options::default(),
            lazy: true,
            memory: 8 << 30,
            capability: 90,
            devices: 1,
            refusals: Vec::new(),
        }
    }
}

thread_local! {
    /// The stack of contexts of this thread. The last one is current.
    static CURRENT: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

/// The emulated driver.
pub(crate) struct Driver {
    emulation: Emulation,
    state: Mutex<State>,
}

fn pointer(handle: usize) -> *mut c_void {
    std::ptr::without_provenance_mut(handle)
}

/// Writes through a pointer of the caller, who promised that it is writable.
fn give<T>(to: *mut T, value: T) -> Result<(), c_int> {
    if to.is_null() {
        return Err(INVALID_VALUE);
    }
    // SAFETY: the pointer is not null, and the caller promises that the driver's outputs are
    // writable.
    unsafe { to.write(value) };
    Ok(())
}

/// Converts a number to the driver's type.
fn number(value: usize) -> c_int {
    c_int::try_from(value).unwrap_or(c_int::MAX)
}

/// Converts a result to a code of the driver.
fn code(result: Result<(), c_int>) -> c_int {
    result.err().unwrap_or(SUCCESS)
}

impl Driver {
    pub(crate) fn new(emulation: Emulation) -> Self {
        let state = Mutex::new(State::new(emulation.devices));
        Driver { emulation, state }
    }

    pub(crate) fn findings(&self) -> Vec<Finding> {
        std::mem::take(&mut self.state().findings)
    }

    /// Returns the code of a function that is set to do nothing else.
    pub(crate) fn refusal(&self, function: &str) -> Option<c_int> {
        let mut refusals = self.emulation.refusals.iter();
        refusals.find(|(name, _)| *name == function).map(|(_, code)| *code)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `work` in the current context, with its card, if the context is alive.
    fn here(&self, work: impl FnOnce(&mut State, usize) -> Result<(), c_int>) -> c_int {
        let mut state = self.state();
        let context = CURRENT.with_borrow(|current| current.last().copied().ok_or(INVALID_CONTEXT));
        let result = context.and_then(|context| {
            let card = state.card_of(context)?;
            state.alive(card)?;
            work(&mut state, card)
        });
        code(result)
    }

    /// Runs `work` as [`here`](Self::here) does, for a call that no capture allows.
    fn waiting(&self, work: impl FnOnce(&mut State, usize) -> Result<(), c_int>) -> c_int {
        self.here(|state, card| {
            state.refuse_unsafe(thread::current().id())?;
            work(state, card)
        })
    }

    /// Runs `work` with a device.
    fn device(&self, device: c_int, work: impl FnOnce(&mut State, usize) -> Result<(), c_int>) -> c_int {
        let mut state = self.state();
        match usize::try_from(device) {
            Ok(device) if device < state.cards.len() => code(work(&mut state, device)),
            _ => INVALID_DEVICE,
        }
    }

    /// Submits a job to a stream.
    fn submit(&self, stream: *mut c_void, job: impl FnOnce(&State, bool) -> Job) -> c_int {
        self.here(|state, card| {
            let stream = state.stream(card, stream.addr())?;
            let job = job(state, state.is_captured(stream));
            state.submit(&self.emulation, stream, job)
        })
    }

    /// Submits a job to the legacy stream, for a function that takes no stream. The job is done
    /// when a call waits for it.
    fn later(&self, job: Job) -> c_int {
        self.waiting(|state, card| {
            state.expect_memory(&job)?;
            state.refuse_implicit(card)?;
            let stream = state.stream(card, 0)?;
            state.push(stream, job);
            Ok(())
        })
    }

    /// Does a job as [`later`](Self::later), and waits until it is done.
    fn at_once(&self, job: Job) -> c_int {
        match self.later(job) {
            SUCCESS => self.here(|state, card| {
                let stream = state.stream(card, 0)?;
                state.finish(&self.emulation, stream)
            }),
            code => code,
        }
    }
}
