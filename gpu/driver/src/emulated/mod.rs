//! A driver whose devices are emulated.
//!
//! It is as unkind as a real one may be. Streams do nothing before somebody waits for them; copies
//! from pageable memory that a function without a stream makes are done when the legacy stream is
//! waited for, which streams that are "non-blocking" do not do; addresses belong to one device; a
//! kernel that accesses what it must not kills its context; while a stream is captured, whatever
//! might wait is an error that ends the capture.

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

/// Threads of a thread block, at most.
const MOST_THREADS: c_uint = 1024;

/// What the emulated devices are like.
#[derive(Clone, Debug)]
pub struct Emulation {
    /// How kernels are run.
    pub options: Options,
    /// Whether streams work only when they are waited for, so that whoever forgets to wait finds
    /// nothing done.
    pub lazy: bool,
    /// Bytes of memory.
    pub memory: usize,
    /// Compute capability: 90 for 9.0.
    pub capability: i32,
    /// How many devices there are.
    pub devices: usize,
    /// Functions of the driver, by name, that do nothing but return a code.
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
    /// The contexts that are current on this thread, the last of them really.
    static CURRENT: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

/// The driver.
pub(crate) struct Driver {
    emulation: Emulation,
    state: Mutex<State>,
}

fn pointer(handle: usize) -> *mut c_void {
    std::ptr::without_provenance_mut(handle)
}

/// Writes through a pointer of the caller's, who promised that it can be written to.
fn give<T>(to: *mut T, value: T) -> Result<(), c_int> {
    if to.is_null() {
        return Err(INVALID_VALUE);
    }
    // SAFETY: it is not null, and the caller promises that what the driver is to fill can be
    // written to.
    unsafe { to.write(value) };
    Ok(())
}

/// A number as a driver gives it.
fn number(value: usize) -> c_int {
    c_int::try_from(value).unwrap_or(c_int::MAX)
}

/// A code of the driver.
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

    /// What a function is to return and not to do anything.
    pub(crate) fn refusal(&self, function: &str) -> Option<c_int> {
        let mut refusals = self.emulation.refusals.iter();
        refusals.find(|(name, _)| *name == function).map(|(_, code)| *code)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something in the current context, given its card, if it is alive.
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

    /// The same for what must not be done while a stream is captured.
    fn waiting(&self, work: impl FnOnce(&mut State, usize) -> Result<(), c_int>) -> c_int {
        self.here(|state, card| {
            state.refuse_unsafe(thread::current().id())?;
            work(state, card)
        })
    }

    /// Does something with a device.
    fn device(&self, device: c_int, work: impl FnOnce(&mut State, usize) -> Result<(), c_int>) -> c_int {
        let mut state = self.state();
        match usize::try_from(device) {
            Ok(device) if device < state.cards.len() => code(work(&mut state, device)),
            _ => INVALID_DEVICE,
        }
    }

    /// Gives a stream something to do.
    fn submit(&self, stream: *mut c_void, job: impl FnOnce(&State, bool) -> Job) -> c_int {
        self.here(|state, card| {
            let stream = state.stream(card, stream.addr())?;
            let job = job(state, state.is_captured(stream));
            state.submit(&self.emulation, stream, job)
        })
    }

    /// Gives the legacy stream something to do, for a function that takes no stream. It is done
    /// when somebody waits for it.
    fn later(&self, job: Job) -> c_int {
        self.waiting(|state, card| {
            state.expect_memory(&job)?;
            state.refuse_implicit(card)?;
            let stream = state.stream(card, 0)?;
            state.push(stream, job);
            Ok(())
        })
    }

    /// The same for a function that waits until it is done.
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
