//! A driver whose devices are emulated.
//!
//! It is as unkind as a real one may be. Streams do nothing before somebody waits for them; copies
//! from pageable memory that a function without a stream makes are done when the legacy stream is
//! waited for, which streams that are "non-blocking" do not do; addresses belong to one device; a
//! kernel that accesses what it must not kills its context; while a stream is captured, whatever
//! might wait is an error that ends the capture.

mod capture;
mod codes;
mod state;

use std::cell::RefCell;
use std::ffi::{CStr, c_char, c_int, c_uint, c_ulonglong, c_void};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use df11_emulator::{Finding, Module, Options};

use codes::{
    INVALID_CONTEXT, INVALID_DEVICE, INVALID_HANDLE, INVALID_PTX, INVALID_VALUE, NO_BINARY_FOR_GPU,
    NOT_FOUND, NOT_READY, OUT_OF_MEMORY, OUT_OF_RESOURCES, SUCCESS,
};
use state::{Event, Function, Host, Job, Source, State, When};

/// `CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES`
const MOST_DYNAMIC_SHARED: c_uint = 8;
/// `CU_JIT_ERROR_LOG_BUFFER` and `CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES`
const ERROR_LOG: [c_uint; 2] = [5, 6];
/// `CU_STREAM_NON_BLOCKING`
const NON_BLOCKING: c_uint = 1;
/// How many thread blocks a grid may have in its second and third dimension.
const MOST_BLOCKS: c_uint = 65_535;
/// Threads of a thread block, at most.
const MOST_THREADS: c_uint = 1024;
/// Shared memory that a launch may ask for without having said so before.
const SHARED_WITHOUT_ASKING: usize = 48 << 10;
/// How a cubin begins: it is an ELF file.
const ELF: [u8; 4] = *b"\x7fELF";

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

/// A copy of the caller's bytes, which must be there.
fn host_bytes(from: *const c_void, bytes: usize) -> Vec<u8> {
    let mut copy = vec![0u8; bytes];
    if bytes > 0 {
        // SAFETY: the caller of the driver promises this many bytes to read.
        unsafe { copy.as_mut_ptr().copy_from_nonoverlapping(from.cast(), bytes) };
    }
    copy
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

/// What can be in a multiprocessor: bytes of shared memory, of which each thread block takes some
/// for itself, threads, and thread blocks. From the table of compute capabilities in NVIDIA's
/// programming guide.
const fn multiprocessor(capability: i32) -> (usize, usize, usize, usize) {
    match capability {
        ..80 => (64 << 10, 0, 1024, 16),
        80 => (164 << 10, 1 << 10, 2048, 32),
        81..90 => (100 << 10, 1 << 10, 1536, 24),
        90..120 => (228 << 10, 1 << 10, 2048, 32),
        _ => (100 << 10, 1 << 10, 1536, 24),
    }
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

    pub(crate) unsafe fn cuInit(&self, _: c_uint) -> c_int {
        SUCCESS
    }

    pub(crate) unsafe fn cuDriverGetVersion(&self, version: *mut c_int) -> c_int {
        // 12.8: what PTX 8.6 came with.
        code(give(version, 12080))
    }

    pub(crate) unsafe fn cuDeviceGetCount(&self, count: *mut c_int) -> c_int {
        code(give(count, number(self.emulation.devices)))
    }

    pub(crate) unsafe fn cuDeviceGet(&self, device: *mut c_int, ordinal: c_int) -> c_int {
        self.device(ordinal, |_, _| give(device, ordinal))
    }

    pub(crate) unsafe fn cuDeviceGetName(&self, name: *mut c_char, len: c_int, device: c_int) -> c_int {
        self.device(device, |_, _| {
            let text = b"df11 emulator\0";
            if usize::try_from(len).is_ok_and(|len| len < text.len()) {
                return Err(INVALID_VALUE);
            }
            // SAFETY: the caller promises `len` bytes, which is enough.
            unsafe { name.cast::<u8>().copy_from_nonoverlapping(text.as_ptr(), text.len()) };
            Ok(())
        })
    }

    pub(crate) unsafe fn cuDeviceGetAttribute(
        &self,
        value: *mut c_int,
        attribute: c_uint,
        device: c_int,
    ) -> c_int {
        // From cuda.h: threads of a thread block, warp size, multiprocessors, compute capability,
        // shared memory on demand.
        let found = match attribute {
            1 => number(MOST_THREADS as usize),
            10 => 32,
            16 => 4,
            75 => self.emulation.capability / 10,
            76 => self.emulation.capability % 10,
            97 => number(self.emulation.options.most_shared),
            _ => return INVALID_VALUE,
        };
        self.device(device, |_, _| give(value, found))
    }

    pub(crate) unsafe fn cuDeviceTotalMem_v2(&self, bytes: *mut usize, device: c_int) -> c_int {
        self.device(device, |_, _| give(bytes, self.emulation.memory))
    }

    pub(crate) unsafe fn cuDevicePrimaryCtxRetain(&self, context: *mut *mut c_void, device: c_int) -> c_int {
        self.device(device, |state, card| {
            if state.cards[card].retained == 0 {
                state.begin(card);
            }
            state.cards[card].retained += 1;
            give(context, pointer(state.cards[card].context))
        })
    }

    pub(crate) unsafe fn cuDevicePrimaryCtxRelease_v2(&self, device: c_int) -> c_int {
        self.device(device, |state, card| {
            match state.cards[card].retained {
                0 => return Err(INVALID_CONTEXT),
                1 => state.end(card),
                _ => state.cards[card].retained -= 1,
            }
            Ok(())
        })
    }

    pub(crate) unsafe fn cuDevicePrimaryCtxReset_v2(&self, device: c_int) -> c_int {
        self.device(device, |state, card| {
            state.end(card);
            Ok(())
        })
    }

    pub(crate) unsafe fn cuDevicePrimaryCtxSetFlags_v2(&self, device: c_int, _: c_uint) -> c_int {
        self.device(device, |_, _| Ok(()))
    }

    pub(crate) unsafe fn cuCtxPushCurrent_v2(&self, context: *mut c_void) -> c_int {
        if let Err(code) = self.state().card_of(context.addr()) {
            return code;
        }
        CURRENT.with_borrow_mut(|current| current.push(context.addr()));
        SUCCESS
    }

    pub(crate) unsafe fn cuCtxPopCurrent_v2(&self, context: *mut *mut c_void) -> c_int {
        match CURRENT.with_borrow_mut(Vec::pop) {
            None => INVALID_CONTEXT,
            Some(_) if context.is_null() => SUCCESS,
            Some(found) => code(give(context, pointer(found))),
        }
    }

    pub(crate) unsafe fn cuCtxSetCurrent(&self, context: *mut c_void) -> c_int {
        if !context.is_null()
            && let Err(code) = self.state().card_of(context.addr())
        {
            return code;
        }
        CURRENT.with_borrow_mut(|current| {
            current.pop();
            if !context.is_null() {
                current.push(context.addr());
            }
        });
        SUCCESS
    }

    pub(crate) unsafe fn cuCtxGetCurrent(&self, context: *mut *mut c_void) -> c_int {
        let found = CURRENT.with_borrow(|current| current.last().copied().unwrap_or(0));
        code(give(context, pointer(found)))
    }

    pub(crate) unsafe fn cuCtxGetApiVersion(&self, _: *mut c_void, version: *mut c_uint) -> c_int {
        code(give(version, 12080))
    }

    pub(crate) unsafe fn cuCtxGetDevice(&self, device: *mut c_int) -> c_int {
        self.here(|_, card| give(device, number(card)))
    }

    pub(crate) unsafe fn cuCtxSynchronize(&self) -> c_int {
        self.waiting(|state, card| state.finish_card(&self.emulation, card))
    }

    pub(crate) unsafe fn cuModuleLoadData(&self, module: *mut *mut c_void, image: *const c_void) -> c_int {
        // SAFETY: the caller's promises are passed on; there are no options.
        unsafe { self.cuModuleLoadDataEx(module, image, 0, std::ptr::null_mut(), std::ptr::null_mut()) }
    }

    pub(crate) unsafe fn cuModuleLoadDataEx(
        &self,
        module: *mut *mut c_void,
        image: *const c_void,
        count: c_uint,
        options: *mut c_uint,
        values: *mut *mut c_void,
    ) -> c_int {
        // SAFETY: the caller promises a cubin, which is longer, or text that ends in a zero, after
        // which nothing is read.
        let byte = |at: usize| unsafe { image.cast::<u8>().add(at).read() };
        if (0..ELF.len()).all(|at| byte(at) == ELF[at]) {
            return NO_BINARY_FOR_GPU;
        }
        // SAFETY: the image is no cubin, and so text that ends in a zero: the caller promises one
        // or the other.
        let text = unsafe { CStr::from_ptr(image.cast()) }.to_str();
        let parsed = text.map_err(|error| error.to_string()).and_then(|text| {
            let module = Module::parse(text).map_err(|error| error.to_string())?;
            let target = module.target().trim_start_matches("sm_").parse::<i32>();
            if target.is_ok_and(|target| target <= self.emulation.capability) {
                Ok(module)
            } else {
                Err(format!("the target {} is newer than the device", module.target()))
            }
        });
        let parsed = match parsed {
            Ok(parsed) => parsed,
            Err(problem) => {
                // SAFETY: the caller promises `count` options, and as many values.
                let of = |wanted| unsafe {
                    let mut options =
                        (0..count as usize).map(|at| (options.add(at).read(), values.add(at).read()));
                    options.find(|(option, _)| *option == wanted).map(|(_, value)| value)
                };
                if let [Some(buffer), Some(bytes)] = ERROR_LOG.map(of)
                    && let Some(most) = bytes.addr().checked_sub(1)
                {
                    let len = problem.len().min(most);
                    // SAFETY: the caller promises that the buffer has this many bytes, the last of
                    // which is for a zero.
                    unsafe {
                        buffer.cast::<u8>().copy_from_nonoverlapping(problem.as_ptr(), len);
                        buffer.cast::<u8>().add(len).write(0);
                    }
                }
                return INVALID_PTX;
            }
        };
        self.waiting(|state, card| {
            let handle = state.handle();
            state.modules.insert(handle, (card, parsed));
            give(module, pointer(handle))
        })
    }

    pub(crate) unsafe fn cuModuleUnload(&self, module: *mut c_void) -> c_int {
        self.here(|state, card| {
            state.finish_card(&self.emulation, card)?;
            state.modules.remove(&module.addr()).map(|_| ()).ok_or(INVALID_HANDLE)
        })
    }

    pub(crate) unsafe fn cuModuleGetFunction(
        &self,
        function: *mut *mut c_void,
        module: *mut c_void,
        name: *const c_char,
    ) -> c_int {
        // SAFETY: the caller promises a text that ends in a zero.
        let Ok(name) = unsafe { CStr::from_ptr(name) }.to_str() else { return NOT_FOUND };
        // It may load the function, now that drivers do so as late as they can.
        self.waiting(|state, _| {
            let (card, found) = state.modules.get(&module.addr()).ok_or(INVALID_HANDLE)?;
            let kernel = found.kernels().iter().find(|kernel| kernel.name() == name).ok_or(NOT_FOUND)?;
            let found = Function {
                card: *card,
                module: module.addr(),
                name: name.to_owned(),
                parameters: kernel.parameters().to_vec(),
                shared_bytes: kernel.shared_bytes(),
                dynamic_shared: SHARED_WITHOUT_ASKING.saturating_sub(kernel.shared_bytes()),
            };
            let handle = state.handle();
            state.functions.insert(handle, found);
            give(function, pointer(handle))
        })
    }

    pub(crate) unsafe fn cuFuncGetAttribute(
        &self,
        value: *mut c_int,
        attribute: c_uint,
        function: *mut c_void,
    ) -> c_int {
        self.here(|state, _| {
            let function = state.functions.get(&function.addr()).ok_or(INVALID_HANDLE)?;
            // Threads of a thread block at most, and shared memory that the kernel states.
            match attribute {
                0 => give(value, number(MOST_THREADS as usize)),
                1 => give(value, number(function.shared_bytes)),
                _ => Err(INVALID_VALUE),
            }
        })
    }

    pub(crate) unsafe fn cuFuncSetAttribute(
        &self,
        function: *mut c_void,
        attribute: c_uint,
        value: c_int,
    ) -> c_int {
        let most = self.emulation.options.most_shared;
        self.here(|state, _| {
            let function = state.functions.get_mut(&function.addr()).ok_or(INVALID_HANDLE)?;
            match usize::try_from(value) {
                Ok(value) if attribute == MOST_DYNAMIC_SHARED && value + function.shared_bytes <= most => {
                    function.dynamic_shared = value;
                    Ok(())
                }
                _ => Err(INVALID_VALUE),
            }
        })
    }

    pub(crate) unsafe fn cuOccupancyMaxActiveBlocksPerMultiprocessor(
        &self,
        blocks: *mut c_int,
        function: *mut c_void,
        threads: c_int,
        shared_bytes: usize,
    ) -> c_int {
        self.here(|state, _| {
            let function = state.functions.get(&function.addr()).ok_or(INVALID_HANDLE)?;
            let threads =
                usize::try_from(threads).ok().filter(|threads| *threads > 0).ok_or(INVALID_VALUE)?;
            // Registers are not counted: PTX does not say how many a kernel takes.
            let (shared, reserved, most_threads, most) = multiprocessor(self.emulation.capability);
            let by_shared = shared / (function.shared_bytes + shared_bytes + reserved).max(1);
            give(blocks, number(by_shared.min(most_threads / threads).min(most)))
        })
    }

    pub(crate) unsafe fn cuMemAlloc_v2(&self, address: *mut u64, bytes: usize) -> c_int {
        if bytes == 0 {
            return INVALID_VALUE;
        }
        self.waiting(|state, card| {
            let card = &mut state.cards[card];
            let used: usize = card.allocated.values().sum();
            if bytes > self.emulation.memory.saturating_sub(used) {
                return Err(OUT_OF_MEMORY);
            }
            let found = card.device.allocate(bytes);
            card.allocated.insert(found, bytes);
            give(address, found)
        })
    }

    pub(crate) unsafe fn cuMemFree_v2(&self, address: u64) -> c_int {
        self.waiting(|state, _| {
            let owner = state.cards.iter().position(|card| card.allocated.contains_key(&address));
            let owner = owner.ok_or(INVALID_VALUE)?;
            // It waits for everything.
            let result = state.finish_card(&self.emulation, owner);
            let owner = &mut state.cards[owner];
            owner.allocated.remove(&address);
            owner.device.free(address);
            result
        })
    }

    pub(crate) unsafe fn cuMemGetInfo_v2(&self, free: *mut usize, total: *mut usize) -> c_int {
        self.here(|state, card| {
            let used: usize = state.cards[card].allocated.values().sum();
            give(free, self.emulation.memory.saturating_sub(used))?;
            give(total, self.emulation.memory)
        })
    }

    pub(crate) unsafe fn cuMemAllocHost_v2(&self, memory: *mut *mut c_void, bytes: usize) -> c_int {
        // SAFETY: the caller's promises are passed on.
        unsafe { self.cuMemHostAlloc(memory, bytes, 0) }
    }

    pub(crate) unsafe fn cuMemHostAlloc(&self, memory: *mut *mut c_void, bytes: usize, _: c_uint) -> c_int {
        if bytes == 0 {
            return INVALID_VALUE;
        }
        self.waiting(|state, _| {
            let mut found = vec![0u8; bytes].into_boxed_slice();
            let address = found.as_mut_ptr();
            // The address stays what it is, wherever the box goes.
            state.pinned.insert(address.addr(), found);
            give(memory, address.cast())
        })
    }

    pub(crate) unsafe fn cuMemFreeHost(&self, memory: *mut c_void) -> c_int {
        self.waiting(|state, card| {
            let result = state.finish_card(&self.emulation, card);
            state.pinned.remove(&memory.addr()).ok_or(INVALID_VALUE)?;
            result
        })
    }

    pub(crate) unsafe fn cuPointerGetAttribute(
        &self,
        value: *mut c_void,
        attribute: c_uint,
        address: u64,
    ) -> c_int {
        let state = self.state();
        let Ok(owner) = state.owner(address, 1) else { return INVALID_VALUE };
        // The context, the kind of memory (2 is a device's), the number of the device.
        code(match attribute {
            1 => give(value.cast(), pointer(state.cards[owner].context)),
            2 => give(value.cast(), 2 as c_uint),
            9 => give(value.cast(), number(owner)),
            _ => Err(INVALID_VALUE),
        })
    }

    pub(crate) unsafe fn cuMemcpyHtoD_v2(&self, to: u64, from: *const c_void, bytes: usize) -> c_int {
        let job = Job::Write { to, from: Source::Staged(host_bytes(from, bytes)) };
        // From pageable memory, it returns when the bytes are staged.
        let is_pinned = self.state().is_pinned(from.addr(), bytes);
        if is_pinned { self.at_once(job) } else { self.later(job) }
    }

    pub(crate) unsafe fn cuMemcpyDtoH_v2(&self, to: *mut c_void, from: u64, bytes: usize) -> c_int {
        self.at_once(Job::Read { to: Host(to.cast()), from, bytes })
    }

    pub(crate) unsafe fn cuMemcpyDtoD_v2(&self, to: u64, from: u64, bytes: usize) -> c_int {
        self.later(Job::Copy { to, from, bytes })
    }

    pub(crate) unsafe fn cuMemcpyHtoDAsync_v2(
        &self,
        to: u64,
        from: *const c_void,
        bytes: usize,
        stream: *mut c_void,
    ) -> c_int {
        self.submit(stream, |state, is_captured| {
            let from = if is_captured || state.is_pinned(from.addr(), bytes) {
                Source::Later(Host(from.cast_mut().cast()), bytes)
            } else {
                Source::Staged(host_bytes(from, bytes))
            };
            Job::Write { to, from }
        })
    }

    pub(crate) unsafe fn cuMemcpyDtoHAsync_v2(
        &self,
        to: *mut c_void,
        from: u64,
        bytes: usize,
        stream: *mut c_void,
    ) -> c_int {
        self.submit(stream, |_, _| Job::Read { to: Host(to.cast()), from, bytes })
    }

    pub(crate) unsafe fn cuMemcpyDtoDAsync_v2(
        &self,
        to: u64,
        from: u64,
        bytes: usize,
        stream: *mut c_void,
    ) -> c_int {
        self.submit(stream, |_, _| Job::Copy { to, from, bytes })
    }

    pub(crate) unsafe fn cuMemsetD8_v2(&self, to: u64, value: u8, bytes: usize) -> c_int {
        self.later(Job::Set { to, value, bytes })
    }

    pub(crate) unsafe fn cuMemsetD8Async(
        &self,
        to: u64,
        value: u8,
        bytes: usize,
        stream: *mut c_void,
    ) -> c_int {
        self.submit(stream, |_, _| Job::Set { to, value, bytes })
    }

    pub(crate) unsafe fn cuStreamCreate(&self, stream: *mut *mut c_void, flags: c_uint) -> c_int {
        // SAFETY: the caller's promises are passed on.
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
            // What it has to do is still done.
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
                    // So that whoever asks again and again sees it happen.
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

    #[expect(clippy::too_many_arguments, reason = "as many as the driver's function has")]
    pub(crate) unsafe fn cuLaunchKernel(
        &self,
        function: *mut c_void,
        grid_x: c_uint,
        grid_y: c_uint,
        grid_z: c_uint,
        block_x: c_uint,
        block_y: c_uint,
        block_z: c_uint,
        shared_bytes: c_uint,
        stream: *mut c_void,
        parameters: *mut *mut c_void,
        _: *mut *mut c_void,
    ) -> c_int {
        let (grid, block) = ([grid_x, grid_y, grid_z], [block_x, block_y, block_z]);
        let threads = block.iter().try_fold(1, |threads: c_uint, by| threads.checked_mul(*by));
        if grid.contains(&0)
            || grid_x > c_uint::MAX / 2
            || grid[1..].iter().any(|blocks| *blocks > MOST_BLOCKS)
            || threads.is_none_or(|threads| threads == 0 || threads > MOST_THREADS)
        {
            return INVALID_VALUE;
        }
        self.here(|state, card| {
            let handle = state.stream(card, stream.addr())?;
            let found = state.functions.get(&function.addr()).ok_or(INVALID_HANDLE)?;
            // The current context, the function's and the stream's are one.
            if found.card != card || state.streams.get(&handle).is_none_or(|stream| stream.card != card) {
                return Err(INVALID_HANDLE);
            }
            if shared_bytes as usize > found.dynamic_shared {
                return Err(INVALID_VALUE);
            }
            let mut arguments = Vec::new();
            for (i, bytes) in found.parameters.iter().enumerate() {
                let mut value = [0u8; 8];
                if *bytes > value.len() {
                    return Err(OUT_OF_RESOURCES);
                }
                // SAFETY: the caller promises a pointer for each parameter, to as many bytes as it
                // has.
                unsafe {
                    let from = parameters.add(i).read().cast::<u8>();
                    value.as_mut_ptr().copy_from_nonoverlapping(from, *bytes);
                }
                arguments.push(u64::from_le_bytes(value));
            }
            let shared_bytes = shared_bytes as usize;
            let job = Job::Launch { function: function.addr(), grid, block, shared_bytes, arguments };
            state.submit(&self.emulation, handle, job)
        })
    }

    pub(crate) unsafe fn cuGetErrorString(&self, error: c_uint, text: *mut *const c_char) -> c_int {
        let found = codes::describe(c_int::try_from(error).unwrap_or(c_int::MAX));
        code(give(text, found.as_ptr()))
    }
}
