//! Kernels that are timed beside those of this crate: the merge of two plain planes, and the
//! published kernel.

use std::ffi::c_void;
use std::ptr;

use cust::module::Module;
use df11::bf16::BYTES;
use df11::hazmat::frame::crc;
use df11::hazmat::layout::BLOCK_BYTES;
use df11_cuda_driver::cuFuncSetAttribute;

use crate::context::{Shape, Source, launch};
use crate::error::call;
use crate::kernels::{MERGE, THREADS};
use crate::load::load_text;
use crate::{Error, Gpu, Memory, Unit};

/// The merge of two plain planes.
pub(super) const MERGE_PLANES: Source =
    Source { module: "merge", ptx: &MERGE, entry: "merge_planes", action: "launch merge_planes" };

/// The number of weights that a thread of `merge_planes` writes at a time.
pub(super) const GROUP: usize = 8;

/// Enqueues the merge of planes of exponents and of signs and mantissas to weights, on the device's
/// own stream. All are multiples of 8 weights long.
pub(super) fn merge(gpu: &Gpu, exponents: &Memory, raw: &Memory, weights: &Memory) -> Result<(), Error> {
    let kernel = gpu.shared().kernel(MERGE_PLANES)?;
    let groups = exponents.len().min(raw.len()).min(weights.len() / BYTES) / GROUP;
    let work = u32::try_from(groups.div_ceil(THREADS as usize)).unwrap_or(u32::MAX);
    let (mut exponents, mut raw, mut weights) = (exponents.address(), raw.address(), weights.address());
    let mut groups = groups as u64;
    let mut arguments: [*mut c_void; 4] = [
        ptr::from_mut(&mut exponents).cast(),
        ptr::from_mut(&mut raw).cast(),
        ptr::from_mut(&mut weights).cast(),
        ptr::from_mut(&mut groups).cast(),
    ];
    let _current = gpu.shared().enter()?;
    // SAFETY: the kernel has these four parameters. Each plane has 8 bytes for each group and the
    // weights have 16, in memory that the caller keeps until the device's own stream is done.
    unsafe { kernel.launch(gpu.shared().grid(&kernel, work), gpu.stream().as_raw(), &mut arguments) }
}

/// `CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES`
const MOST_DYNAMIC_SHARED: u32 = 8;

/// The kernel `decode` of the Python package `dfloat11`.
pub(super) struct Published<'a> {
    gpu: &'a Gpu,
    function: *mut c_void,
    _module: Module,
}

impl<'a> Published<'a> {
    /// The name of its entry.
    const ENTRY: &'static str = "decode";
    /// The number of threads that the package launches it with.
    const THREADS: u32 = 512;

    /// The length and the CRC-32 of decode.ptx in version 0.5.0 of the package.
    const TEXT: (usize, u32) = (23_711, 0xa031_3308);

    /// Loads it from the text of its PTX, and refuses any other text.
    pub(super) fn new(gpu: &'a Gpu, ptx: &str) -> Result<Self, Error> {
        if (ptx.len(), crc(0, ptx.as_bytes())) != Self::TEXT {
            return Err(Error::OtherKernel);
        }
        let _current = gpu.shared().enter()?;
        let module = load_text(ptx)?;
        let function = crate::error::driver("find a kernel", module.get_function(Self::ENTRY))?;
        let function = cust::function::Function::to_raw(&function).cast();
        Ok(Published { gpu, function, _module: module })
    }

    /// Enqueues the decoding of a unit, whose blocks need this many bytes of shared memory, to
    /// memory with room for its weights.
    ///
    /// # Safety
    ///
    /// The unit must be valid, since this kernel checks nothing, and on the device, with a byte
    /// after its gaps.
    pub(super) unsafe fn decode(&self, unit: &Unit, shared: u32, weights: u64) -> Result<(), Error> {
        let _current = self.gpu.shared().enter()?;
        // SAFETY: the function is loaded in the context that is current.
        let code = unsafe { cuFuncSetAttribute(self.function, MOST_DYNAMIC_SHARED, shared.cast_signed()) };
        call("give the published kernel its shared memory", code)?;
        let raw = unit.raw;
        let mut addresses = [raw.luts, raw.codes, raw.sign_mantissa, raw.output_positions, raw.gaps, weights];
        let mut numbers = [raw.tables, raw.code_bytes, raw.elements].map(|number| number as u32);
        let mut arguments: Vec<*mut c_void> = Vec::with_capacity(addresses.len() + numbers.len());
        arguments.extend(addresses.iter_mut().map(|address| ptr::from_mut(address).cast::<c_void>()));
        arguments.extend(numbers.iter_mut().map(|number| ptr::from_mut(number).cast::<c_void>()));
        let blocks = raw.code_bytes.div_ceil(BLOCK_BYTES) as u32;
        let shape = Shape { blocks, threads: Self::THREADS, shared_bytes: shared };
        let stream = self.gpu.stream().as_raw();
        // SAFETY: these are the parameters of the published kernel. The caller promises that the
        // unit is valid, so that the kernel stays within its parts and its weights.
        let code = unsafe { launch(self.function, shape, stream, &mut arguments) };
        call("launch the published kernel", code)
    }
}
