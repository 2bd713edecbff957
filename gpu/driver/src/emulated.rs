//! A driver whose only device is the emulator.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use df11_emulator::{Device, Finding, Launch, Module, Options};

/// Codes of the driver, from cuda.h.
const SUCCESS: c_int = 0;
const INVALID_VALUE: c_int = 1;
const OUT_OF_MEMORY: c_int = 2;
const INVALID_DEVICE: c_int = 101;
const INVALID_PTX: c_int = 218;
const INVALID_HANDLE: c_int = 400;
const NOT_FOUND: c_int = 500;
const NOT_READY: c_int = 600;
const ILLEGAL_ADDRESS: c_int = 700;
const OUT_OF_RESOURCES: c_int = 701;
const LAUNCH_FAILED: c_int = 719;

/// `CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES`
const MOST_DYNAMIC_SHARED: c_uint = 8;

/// Shared memory that a launch may ask for without having said so before.
const SHARED_WITHOUT_ASKING: usize = 48 << 10;

/// What the emulated device is like.
#[derive(Clone, Debug)]
pub struct Emulation {
    /// How kernels are run.
    pub options: Options,
    /// Whether streams work only when they are waited for, so that whoever forgets to wait finds nothing done.
    pub lazy: bool,
    /// Bytes of memory.
    pub memory: usize,
    /// Compute capability: 90 for 9.0.
    pub capability: i32,
}

impl Default for Emulation {
    fn default() -> Self {
        Emulation { options: Options::default(), lazy: true, memory: 8 << 30, capability: 90 }
    }
}

/// Addresses on the host that somebody has promised to leave alone until the stream is done.
struct Host(*mut u8);

// SAFETY: the pointer is used under the lock of the driver alone; that the memory stays is the promise of whoever gave it.
unsafe impl Send for Host {}

/// What a stream has to do.
enum Job {
    Write { to: u64, bytes: Vec<u8> },
    Read { to: Host, from: u64, bytes: usize },
    Copy { to: u64, from: u64, bytes: usize },
    Launch { function: usize, grid: [u32; 3], block: [u32; 3], shared_bytes: usize, arguments: Vec<u64> },
    Record { event: usize },
}

struct Function {
    module: usize,
    name: String,
    parameters: Vec<usize>,
    shared_bytes: usize,
    dynamic_shared: usize,
}

#[derive(Default)]
struct State {
    device: Device,
    allocated: BTreeMap<u64, usize>,
    /// By handle; handles are numbers from 1 on.
    modules: BTreeMap<usize, Module>,
    functions: BTreeMap<usize, Function>,
    streams: BTreeMap<usize, VecDeque<Job>>,
    /// When each event happened.
    events: BTreeMap<usize, Option<Instant>>,
    next: usize,
    findings: Vec<Finding>,
    /// What went wrong first; everything after it fails as well, as with a driver.
    failed: c_int,
    current: usize,
}

/// The driver.
pub(crate) struct Driver {
    emulation: Emulation,
    state: Mutex<State>,
}

fn pointer(handle: usize) -> *mut c_void {
    std::ptr::without_provenance_mut(handle)
}

impl State {
    fn handle(&mut self) -> usize {
        self.next += 1;
        self.next
    }

    /// Whether these bytes are in one buffer.
    fn has(&self, address: u64, bytes: usize) -> bool {
        let before = self.allocated.range(..=address).next_back();
        before.is_some_and(|(start, len)| {
            (address - start).checked_add(bytes as u64).is_some_and(|end| end <= *len as u64)
        })
    }

    fn run(&mut self, emulation: &Emulation, job: Job) -> c_int {
        match job {
            Job::Write { to, bytes } if self.has(to, bytes.len()) => self.device.write(to, &bytes),
            Job::Read { to, from, bytes } if self.has(from, bytes) => {
                let found = self.device.read(from, bytes);
                // SAFETY: whoever asked for it promised so many bytes until the stream is done, which is now; they are none of
                // the device's.
                unsafe { to.0.copy_from_nonoverlapping(found.as_ptr(), bytes) };
            }
            Job::Copy { to, from, bytes } if self.has(to, bytes) && self.has(from, bytes) => {
                let found = self.device.read(from, bytes).to_vec();
                self.device.write(to, &found);
            }
            Job::Write { .. } | Job::Read { .. } | Job::Copy { .. } => return ILLEGAL_ADDRESS,
            Job::Launch { function, grid, block, shared_bytes, arguments } => {
                let Some(function) = self.functions.get(&function) else { return INVALID_HANDLE };
                let Some(module) = self.modules.get(&function.module) else { return INVALID_HANDLE };
                let launch = Launch { grid, block, shared_bytes, arguments: &arguments };
                match module.launch(&function.name, &mut self.device, &launch, &emulation.options) {
                    Ok(report) if report.findings.is_empty() => {}
                    Ok(report) => {
                        self.findings.extend(report.findings);
                        return LAUNCH_FAILED;
                    }
                    Err(_) => return OUT_OF_RESOURCES,
                }
            }
            Job::Record { event } => {
                if let Some(event) = self.events.get_mut(&event) {
                    *event = Some(Instant::now());
                }
            }
        }
        SUCCESS
    }

    /// Does what a stream has to do; all streams with 0.
    fn finish(&mut self, emulation: &Emulation, stream: usize) -> c_int {
        let streams: Vec<usize> =
            if stream == 0 { self.streams.keys().copied().collect() } else { vec![stream] };
        for stream in streams {
            let Some(jobs) = self.streams.get_mut(&stream) else { return INVALID_HANDLE };
            for job in std::mem::take(jobs) {
                if self.failed == SUCCESS {
                    self.failed = self.run(emulation, job);
                }
            }
        }
        self.failed
    }
}

/// Writes through a pointer of the caller's, who promised that it can be written to.
macro_rules! give {
    ($to:expr, $value:expr) => {{
        if $to.is_null() {
            return INVALID_VALUE;
        }
        // SAFETY: it is not null, and the caller promises that what the driver is to fill can be written to.
        unsafe { $to.write($value) };
        SUCCESS
    }};
}

#[expect(clippy::unused_self, reason = "all functions of the driver are called alike")]
impl Driver {
    pub(crate) fn new(emulation: Emulation) -> Self {
        Driver { emulation, state: Mutex::default() }
    }

    pub(crate) fn findings(&self) -> Vec<Finding> {
        std::mem::take(&mut self.state().findings)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a stream something to do.
    fn submit(&self, stream: *mut c_void, job: Job) -> c_int {
        let mut state = self.state();
        if state.failed != SUCCESS {
            return state.failed;
        }
        match state.streams.get_mut(&stream.addr()) {
            Some(jobs) if self.emulation.lazy => {
                jobs.push_back(job);
                SUCCESS
            }
            None if !stream.is_null() => INVALID_HANDLE,
            _ => {
                state.failed = state.run(&self.emulation, job);
                state.failed
            }
        }
    }

    /// Something that is done at once, on no stream. Streams that do not wait for others are not waited for.
    fn at_once(&self, job: Job) -> c_int {
        self.submit(std::ptr::null_mut(), job)
    }

    fn host_bytes(from: *const c_void, bytes: usize) -> Vec<u8> {
        let mut copy = vec![0u8; bytes];
        if bytes > 0 {
            // SAFETY: the caller of the driver promises so many bytes to read.
            unsafe { copy.as_mut_ptr().copy_from_nonoverlapping(from.cast(), bytes) };
        }
        copy
    }

    pub(crate) unsafe fn cuInit(&self, _: c_uint) -> c_int {
        SUCCESS
    }

    pub(crate) unsafe fn cuDriverGetVersion(&self, version: *mut c_int) -> c_int {
        // 12.8: what PTX 8.6 came with.
        give!(version, 12080)
    }

    pub(crate) unsafe fn cuDeviceGetCount(&self, count: *mut c_int) -> c_int {
        give!(count, 1)
    }

    pub(crate) unsafe fn cuDeviceGet(&self, device: *mut c_int, ordinal: c_int) -> c_int {
        if ordinal != 0 {
            return INVALID_DEVICE;
        }
        give!(device, 0)
    }

    pub(crate) unsafe fn cuDeviceGetName(&self, name: *mut c_char, len: c_int, _: c_int) -> c_int {
        let text = b"df11 emulator\0";
        if usize::try_from(len).is_ok_and(|len| len < text.len()) {
            return INVALID_VALUE;
        }
        // SAFETY: the caller promises `len` bytes, which is enough.
        unsafe { name.cast::<u8>().copy_from_nonoverlapping(text.as_ptr(), text.len()) };
        SUCCESS
    }

    pub(crate) unsafe fn cuDeviceGetAttribute(
        &self,
        value: *mut c_int,
        attribute: c_uint,
        _: c_int,
    ) -> c_int {
        // From cuda.h: threads of a thread block, warp size, multiprocessors, compute capability, shared memory on demand.
        let found = match attribute {
            1 => 1024,
            10 => 32,
            16 => 4,
            75 => self.emulation.capability / 10,
            76 => self.emulation.capability % 10,
            97 => c_int::try_from(self.emulation.options.most_shared).unwrap_or(c_int::MAX),
            _ => return INVALID_VALUE,
        };
        give!(value, found)
    }

    pub(crate) unsafe fn cuDeviceTotalMem_v2(&self, bytes: *mut usize, _: c_int) -> c_int {
        give!(bytes, self.emulation.memory)
    }

    pub(crate) unsafe fn cuDevicePrimaryCtxRetain(&self, context: *mut *mut c_void, _: c_int) -> c_int {
        give!(context, pointer(1))
    }

    pub(crate) unsafe fn cuDevicePrimaryCtxRelease_v2(&self, _: c_int) -> c_int {
        SUCCESS
    }

    pub(crate) unsafe fn cuDevicePrimaryCtxReset_v2(&self, _: c_int) -> c_int {
        SUCCESS
    }

    pub(crate) unsafe fn cuDevicePrimaryCtxSetFlags_v2(&self, _: c_int, _: c_uint) -> c_int {
        SUCCESS
    }

    pub(crate) unsafe fn cuCtxSetCurrent(&self, context: *mut c_void) -> c_int {
        self.state().current = context.addr();
        SUCCESS
    }

    pub(crate) unsafe fn cuCtxGetCurrent(&self, context: *mut *mut c_void) -> c_int {
        give!(context, pointer(self.state().current))
    }

    pub(crate) unsafe fn cuCtxGetApiVersion(&self, _: *mut c_void, version: *mut c_uint) -> c_int {
        give!(version, 12080)
    }

    pub(crate) unsafe fn cuCtxGetDevice(&self, device: *mut c_int) -> c_int {
        give!(device, 0)
    }

    pub(crate) unsafe fn cuCtxSynchronize(&self) -> c_int {
        self.state().finish(&self.emulation, 0)
    }

    pub(crate) unsafe fn cuModuleLoadData(&self, module: *mut *mut c_void, image: *const c_void) -> c_int {
        // SAFETY: the image is PTX that ends in a zero: the caller promises an image, and cust gives no other to this function.
        let Ok(text) = unsafe { CStr::from_ptr(image.cast()) }.to_str() else { return INVALID_PTX };
        let Ok(parsed) = Module::parse(text) else { return INVALID_PTX };
        let mut state = self.state();
        let handle = state.handle();
        state.modules.insert(handle, parsed);
        give!(module, pointer(handle))
    }

    pub(crate) unsafe fn cuModuleLoadDataEx(
        &self,
        module: *mut *mut c_void,
        image: *const c_void,
        _: c_uint,
        _: *mut c_uint,
        _: *mut *mut c_void,
    ) -> c_int {
        // SAFETY: the caller's promises are passed on.
        unsafe { self.cuModuleLoadData(module, image) }
    }

    pub(crate) unsafe fn cuModuleUnload(&self, module: *mut c_void) -> c_int {
        if self.state().modules.remove(&module.addr()).is_some() { SUCCESS } else { INVALID_HANDLE }
    }

    pub(crate) unsafe fn cuModuleGetFunction(
        &self,
        function: *mut *mut c_void,
        module: *mut c_void,
        name: *const c_char,
    ) -> c_int {
        // SAFETY: the caller promises a text that ends in a zero.
        let Ok(name) = unsafe { CStr::from_ptr(name) }.to_str() else { return NOT_FOUND };
        let mut state = self.state();
        let Some(found) = state.modules.get(&module.addr()) else { return INVALID_HANDLE };
        let Some(kernel) = found.kernels().iter().find(|kernel| kernel.name() == name) else {
            return NOT_FOUND;
        };
        let found = Function {
            module: module.addr(),
            name: name.to_owned(),
            parameters: kernel.parameters().to_vec(),
            shared_bytes: kernel.shared_bytes(),
            dynamic_shared: SHARED_WITHOUT_ASKING.saturating_sub(kernel.shared_bytes()),
        };
        let handle = state.handle();
        state.functions.insert(handle, found);
        give!(function, pointer(handle))
    }

    pub(crate) unsafe fn cuFuncGetAttribute(
        &self,
        value: *mut c_int,
        attribute: c_uint,
        function: *mut c_void,
    ) -> c_int {
        let state = self.state();
        let Some(function) = state.functions.get(&function.addr()) else { return INVALID_HANDLE };
        // Threads of a thread block at most, and shared memory that the kernel states.
        match attribute {
            0 => give!(value, 1024),
            1 => give!(value, c_int::try_from(function.shared_bytes).unwrap_or(c_int::MAX)),
            _ => INVALID_VALUE,
        }
    }

    pub(crate) unsafe fn cuFuncSetAttribute(
        &self,
        function: *mut c_void,
        attribute: c_uint,
        value: c_int,
    ) -> c_int {
        let most = self.emulation.options.most_shared;
        let mut state = self.state();
        let Some(function) = state.functions.get_mut(&function.addr()) else { return INVALID_HANDLE };
        match usize::try_from(value) {
            Ok(value) if attribute == MOST_DYNAMIC_SHARED && value + function.shared_bytes <= most => {
                function.dynamic_shared = value;
                SUCCESS
            }
            _ => INVALID_VALUE,
        }
    }

    pub(crate) unsafe fn cuMemAlloc_v2(&self, address: *mut u64, bytes: usize) -> c_int {
        if bytes == 0 {
            return INVALID_VALUE;
        }
        let mut state = self.state();
        let used: usize = state.allocated.values().sum();
        if bytes > self.emulation.memory.saturating_sub(used) {
            return OUT_OF_MEMORY;
        }
        let found = state.device.allocate(bytes);
        state.allocated.insert(found, bytes);
        give!(address, found)
    }

    pub(crate) unsafe fn cuMemFree_v2(&self, address: u64) -> c_int {
        let mut state = self.state();
        // It waits for everything.
        let result = state.finish(&self.emulation, 0);
        if state.allocated.remove(&address).is_none() {
            return INVALID_VALUE;
        }
        state.device.free(address);
        result
    }

    pub(crate) unsafe fn cuMemGetInfo_v2(&self, free: *mut usize, total: *mut usize) -> c_int {
        let used: usize = self.state().allocated.values().sum();
        let _ = give!(free, self.emulation.memory.saturating_sub(used));
        give!(total, self.emulation.memory)
    }

    pub(crate) unsafe fn cuMemcpyHtoD_v2(&self, to: u64, from: *const c_void, bytes: usize) -> c_int {
        self.at_once(Job::Write { to, bytes: Self::host_bytes(from, bytes) })
    }

    pub(crate) unsafe fn cuMemcpyDtoH_v2(&self, to: *mut c_void, from: u64, bytes: usize) -> c_int {
        self.at_once(Job::Read { to: Host(to.cast()), from, bytes })
    }

    pub(crate) unsafe fn cuMemcpyDtoD_v2(&self, to: u64, from: u64, bytes: usize) -> c_int {
        self.at_once(Job::Copy { to, from, bytes })
    }

    pub(crate) unsafe fn cuMemcpyHtoDAsync_v2(
        &self,
        to: u64,
        from: *const c_void,
        bytes: usize,
        stream: *mut c_void,
    ) -> c_int {
        self.submit(stream, Job::Write { to, bytes: Self::host_bytes(from, bytes) })
    }

    pub(crate) unsafe fn cuMemcpyDtoHAsync_v2(
        &self,
        to: *mut c_void,
        from: u64,
        bytes: usize,
        stream: *mut c_void,
    ) -> c_int {
        self.submit(stream, Job::Read { to: Host(to.cast()), from, bytes })
    }

    pub(crate) unsafe fn cuMemcpyDtoDAsync_v2(
        &self,
        to: u64,
        from: u64,
        bytes: usize,
        stream: *mut c_void,
    ) -> c_int {
        self.submit(stream, Job::Copy { to, from, bytes })
    }

    pub(crate) unsafe fn cuMemsetD8_v2(&self, to: u64, value: u8, bytes: usize) -> c_int {
        self.at_once(Job::Write { to, bytes: vec![value; bytes] })
    }

    pub(crate) unsafe fn cuMemsetD8Async(
        &self,
        to: u64,
        value: u8,
        bytes: usize,
        stream: *mut c_void,
    ) -> c_int {
        self.submit(stream, Job::Write { to, bytes: vec![value; bytes] })
    }

    pub(crate) unsafe fn cuStreamCreateWithPriority(
        &self,
        stream: *mut *mut c_void,
        _: c_uint,
        _: c_int,
    ) -> c_int {
        let mut state = self.state();
        let handle = state.handle();
        state.streams.insert(handle, VecDeque::new());
        give!(stream, pointer(handle))
    }

    pub(crate) unsafe fn cuStreamDestroy_v2(&self, stream: *mut c_void) -> c_int {
        let mut state = self.state();
        // What it has to do is still done.
        let result = state.finish(&self.emulation, stream.addr());
        state.streams.remove(&stream.addr());
        result
    }

    pub(crate) unsafe fn cuStreamSynchronize(&self, stream: *mut c_void) -> c_int {
        self.state().finish(&self.emulation, stream.addr())
    }

    pub(crate) unsafe fn cuEventCreate(&self, event: *mut *mut c_void, _: c_uint) -> c_int {
        let mut state = self.state();
        let handle = state.handle();
        state.events.insert(handle, None);
        give!(event, pointer(handle))
    }

    pub(crate) unsafe fn cuEventDestroy_v2(&self, event: *mut c_void) -> c_int {
        if self.state().events.remove(&event.addr()).is_some() { SUCCESS } else { INVALID_HANDLE }
    }

    pub(crate) unsafe fn cuEventRecord(&self, event: *mut c_void, stream: *mut c_void) -> c_int {
        self.submit(stream, Job::Record { event: event.addr() })
    }

    pub(crate) unsafe fn cuEventQuery(&self, event: *mut c_void) -> c_int {
        match self.state().events.get(&event.addr()) {
            Some(Some(_)) => SUCCESS,
            Some(None) => NOT_READY,
            None => INVALID_HANDLE,
        }
    }

    pub(crate) unsafe fn cuEventSynchronize(&self, event: *mut c_void) -> c_int {
        let mut state = self.state();
        let holds = |jobs: &VecDeque<Job>| {
            jobs.iter().any(|job| matches!(job, Job::Record { event: found } if *found == event.addr()))
        };
        match state.streams.iter().find(|(_, jobs)| holds(jobs)).map(|(stream, _)| *stream) {
            Some(stream) => state.finish(&self.emulation, stream),
            None => state.failed,
        }
    }

    pub(crate) unsafe fn cuEventElapsedTime(
        &self,
        milliseconds: *mut f32,
        start: *mut c_void,
        end: *mut c_void,
    ) -> c_int {
        let state = self.state();
        let when = |event: *mut c_void| state.events.get(&event.addr()).copied().flatten();
        let (Some(start), Some(end)) = (when(start), when(end)) else { return NOT_READY };
        let elapsed: Duration = end.saturating_duration_since(start);
        give!(milliseconds, elapsed.as_secs_f32() * 1000.0)
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
        let mut arguments = Vec::new();
        {
            let state = self.state();
            let Some(found) = state.functions.get(&function.addr()) else { return INVALID_HANDLE };
            if shared_bytes as usize > found.dynamic_shared {
                return INVALID_VALUE;
            }
            for (i, bytes) in found.parameters.iter().enumerate() {
                let mut value = [0u8; 8];
                if *bytes > value.len() {
                    return INVALID_VALUE;
                }
                // SAFETY: the caller promises a pointer for each parameter, to as many bytes as it has.
                unsafe {
                    let from = parameters.add(i).read().cast::<u8>();
                    value.as_mut_ptr().copy_from_nonoverlapping(from, *bytes);
                }
                arguments.push(u64::from_le_bytes(value));
            }
        }
        let job = Job::Launch {
            function: function.addr(),
            grid: [grid_x, grid_y, grid_z],
            block: [block_x, block_y, block_z],
            shared_bytes: shared_bytes as usize,
            arguments,
        };
        self.submit(stream, job)
    }

    pub(crate) unsafe fn cuGetErrorString(&self, error: c_uint, text: *mut *const c_char) -> c_int {
        let found = match c_int::try_from(error).unwrap_or(c_int::MAX) {
            SUCCESS => c"no error",
            INVALID_VALUE => c"invalid argument",
            OUT_OF_MEMORY => c"out of memory",
            crate::NO_DRIVER => c"no CUDA-capable device is detected",
            INVALID_PTX => c"a PTX JIT compilation failed",
            ILLEGAL_ADDRESS => c"an illegal memory access was encountered",
            OUT_OF_RESOURCES => c"too many resources requested for launch",
            LAUNCH_FAILED => c"unspecified launch failure",
            _ => c"another error",
        };
        give!(text, found.as_ptr())
    }
}
