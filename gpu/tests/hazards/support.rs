//! Devices, and the units and frames on them.

use std::ffi::{c_uint, c_void};
use std::ptr::null_mut;

use df11::frame::{self, Codec, ElementType, EncodeOptions};
use df11::{EncodedUnit, encode};
use df11_cuda_driver::*;
use df11_gpu::{Emulation, Gpu, Memory, RawUnit, Unit};

/// `CU_STREAM_NON_BLOCKING`
const NON_BLOCKING: c_uint = 1;

/// `CU_STREAM_CAPTURE_MODE_THREAD_LOCAL`: calls of this thread that could wait end a capture, those
/// of the tests beside it do not. The strictest mode is tested in a program of its own,
/// `gpu/tests/capture.rs`.
const THREAD_LOCAL: c_uint = 1;

/// Calls a function of the driver, as an engine does.
macro_rules! call {
    ($function:ident($($argument:expr),* $(,)?)) => {{
        // SAFETY: pointers are to variables of the test, or null. The emulated driver checks
        // handles and addresses.
        assert_eq!(unsafe { $function($($argument),*) }, 0, stringify!($function))
    }};
}
pub(crate) use call;

/// Makes several devices, so that tests that run at the same time do not share one.
pub(crate) fn emulation() -> Emulation {
    Emulation { devices: 32, ..Emulation::default() }
}

pub(crate) fn open(device: u32) -> Gpu {
    assert!(emulate(emulation()));
    Gpu::open(device).unwrap()
}

pub(crate) fn weights(n: u32) -> Vec<u8> {
    (0..n).flat_map(|i| ((0x3c00 + i.wrapping_mul(i) % 999) as u16).to_le_bytes()).collect()
}

pub(crate) fn encoded(weights: &[u8]) -> EncodedUnit {
    encode(weights).unwrap()
}

pub(crate) fn upload(gpu: &Gpu, weights: &[u8]) -> Unit {
    gpu.upload(&encoded(weights).as_slices()).unwrap()
}

pub(crate) fn bf16_frame(weights: &[u8]) -> Vec<u8> {
    frame::encode(ElementType::Bf16, &[weights.len() as u64 / 2], weights).unwrap()
}

pub(crate) fn dictionary_frame(weights: &[u8]) -> Vec<u8> {
    let options = EncodeOptions::new().codec(Codec::Dictionary);
    options.encode(ElementType::Bf16, &[weights.len() as u64 / 2], weights).unwrap()
}

/// Makes a stream as an engine does, in the current context.
pub(crate) fn engine_stream() -> *mut c_void {
    let mut stream = null_mut();
    call!(cuStreamCreate(&mut stream, NON_BLOCKING));
    stream
}

pub(crate) fn current() -> *mut c_void {
    let mut context = null_mut();
    call!(cuCtxGetCurrent(&mut context));
    context
}

/// Reads the bytes from an address on, on an engine's stream, after the work of that stream.
pub(crate) fn read(stream: *mut c_void, address: u64, bytes: usize) -> Vec<u8> {
    let mut found = vec![0; bytes];
    call!(cuMemcpyDtoHAsync_v2(found.as_mut_ptr().cast(), address, bytes, stream));
    call!(cuStreamSynchronize(stream));
    found
}

/// Uploads bytes to memory of the device, this many bytes after an aligned address.
pub(crate) fn place(gpu: &Gpu, bytes: &[u8], skipped: usize) -> (Memory, u64) {
    let memory = gpu.copy(&[&vec![0xaa; skipped], bytes].concat()).unwrap();
    let address = memory.address() + skipped as u64;
    (memory, address)
}

/// Adopts a unit whose parts each begin some bytes after an aligned address.
pub(crate) fn adopt(gpu: &Gpu, unit: &EncodedUnit, skipped: [usize; 5]) -> (Vec<Memory>, Unit) {
    let tensors = unit.as_slices();
    let parts = [
        tensors.luts,
        tensors.encoded_exponent,
        tensors.sign_mantissa,
        tensors.output_positions,
        tensors.gaps,
    ];
    let placed = parts.iter().zip(skipped).map(|(part, skipped)| place(gpu, part, skipped));
    let (memory, addresses): (Vec<_>, Vec<u64>) = placed.unzip();
    let raw = RawUnit {
        luts: addresses[0],
        codes: addresses[1],
        sign_mantissa: addresses[2],
        output_positions: addresses[3],
        gaps: addresses[4],
        tables: tensors.luts.len() / 256,
        code_bytes: tensors.encoded_exponent.len(),
        elements: tensors.sign_mantissa.len(),
    };
    // SAFETY: the addresses have the parts of the unit, and the caller keeps the memory.
    let unit = unsafe { gpu.adopt(raw) }.unwrap();
    (memory, unit)
}

/// Captures the work that `work` submits to a stream, as a graph that can be launched.
pub(crate) fn capture(stream: *mut c_void, work: impl FnOnce()) -> *mut c_void {
    let (mut graph, mut executable) = (null_mut(), null_mut());
    call!(cuStreamBeginCapture_v2(stream, THREAD_LOCAL));
    work();
    call!(cuStreamEndCapture(stream, &mut graph));
    call!(cuGraphInstantiateWithFlags(&mut executable, graph, 0));
    call!(cuGraphDestroy(graph));
    executable
}
