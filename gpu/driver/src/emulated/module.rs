//! Modules: loading, queries and launches.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};

use df11_emulator::Module;

use super::codes::{
    INVALID_HANDLE, INVALID_PTX, INVALID_VALUE, NO_BINARY_FOR_GPU, NOT_FOUND, OUT_OF_RESOURCES,
};
use super::state::{Function, Job};
use super::{Driver, MOST_THREADS, give, number, pointer};

/// `CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES`
const MOST_DYNAMIC_SHARED: c_uint = 8;
/// `CU_JIT_ERROR_LOG_BUFFER` and `CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES`
const ERROR_LOG: [c_uint; 2] = [5, 6];
/// The largest number of thread blocks in a grid's second and third dimension.
const MOST_BLOCKS: c_uint = 65_535;
/// Shared memory that a launch may use without raising the kernel's limit first.
const SHARED_WITHOUT_ASKING: usize = 48 << 10;
/// The first bytes of what is assembled: a cubin, which is an ELF file, and a fatbin.
const ASSEMBLED: [[u8; 4]; 2] = [*b"\x7fELF", [0x50, 0xed, 0x55, 0xba]];

/// Returns the resources of a multiprocessor: bytes of shared memory, bytes that each thread block
/// reserves, threads, and thread blocks. The figures are from the table of compute capabilities in
/// NVIDIA's programming guide.
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
    pub(crate) unsafe fn cuModuleLoadData(&self, module: *mut *mut c_void, image: *const c_void) -> c_int {
        // SAFETY: `cuModuleLoadDataEx` has the same contract, and the caller promises to keep it.
        // There are no options.
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
        // SAFETY: the caller promises a cubin or a fatbin, which are longer than this, or text that
        // ends in a zero. Nothing after the zero is read.
        let byte = |at: usize| unsafe { image.cast::<u8>().add(at).read() };
        if ASSEMBLED.iter().any(|magic| magic.iter().enumerate().all(|(at, wanted)| byte(at) == *wanted)) {
            return NO_BINARY_FOR_GPU;
        }
        // SAFETY: the caller promises a cubin, a fatbin, or text that ends in a zero, and the image
        // is neither of the first two.
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
                // SAFETY: the caller promises `count` options and the same number of values.
                let of = |wanted| unsafe {
                    let mut options =
                        (0..count as usize).map(|at| (options.add(at).read(), values.add(at).read()));
                    options.find(|(option, _)| *option == wanted).map(|(_, value)| value)
                };
                if let [Some(buffer), Some(bytes)] = ERROR_LOG.map(of)
                    && let Some(most) = bytes.addr().checked_sub(1)
                {
                    let len = problem.len().min(most);
                    // SAFETY: the caller promises that the buffer has this many bytes. The last one
                    // is for a zero.
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
        // This call may load the function, since drivers load functions as late as they can.
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
            // The largest number of threads in a thread block, and the shared memory that the
            // kernel declares.
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
            // Registers are not counted, because PTX does not state how many a kernel takes.
            let (shared, reserved, most_threads, most) = multiprocessor(self.emulation.capability);
            let by_shared = shared / (function.shared_bytes + shared_bytes + reserved).max(1);
            give(blocks, number(by_shared.min(most_threads / threads).min(most)))
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
            // The current context, the function's context and the stream's context must be the
            // same.
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
                // SAFETY: the caller promises a pointer for each parameter, to the number of bytes
                // that it has.
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
}
