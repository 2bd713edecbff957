//! Captures in the strictest mode, which PyTorch takes: in it, a call that could wait, by any
//! thread of the process, ends the capture. So this test has a process of its own.

#![cfg(all(target_os = "linux", feature = "driver"))]
#![allow(unsafe_code, reason = "calls of the driver, as an engine makes them")]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::ffi::{c_uint, c_void};
use std::ptr::null_mut;

use df11_cuda_driver::*;
use df11_gpu::{Batch, Emulation, Error, Gpu, Item};

/// `CU_STREAM_NON_BLOCKING`
const NON_BLOCKING: c_uint = 1;

/// `CU_STREAM_CAPTURE_MODE_GLOBAL`
const GLOBAL: c_uint = 0;

/// `CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED` and `_INVALIDATED`.
const UNSUPPORTED: i32 = 900;
const INVALIDATED: i32 = 901;

/// Begins to capture a stream, lets `work` run, and returns how the capture ended, with its graph.
fn capture(stream: *mut c_void, work: impl FnOnce()) -> (i32, *mut c_void) {
    let mut graph = null_mut();
    // SAFETY: the stream is one of the current context; the pointer is to a local variable.
    unsafe {
        assert_eq!(cuStreamBeginCapture_v2(stream, GLOBAL), 0);
        work();
        (cuStreamEndCapture(stream, &mut graph), graph)
    }
}

#[test]
fn what_any_thread_drops_while_a_graph_is_captured_does_not_end_the_capture() {
    let gpu = Gpu::emulated(Emulation::default()).unwrap();
    let weights: Vec<u8> = (0..700u16).flat_map(|i| (0x3c00 + i % 99).to_le_bytes()).collect();
    let unit = gpu.upload(&df11::encode(&weights).unwrap().as_slices()).unwrap();
    let [batch, own, other] = [(); 3].map(|()| Batch::packed(&gpu, &[Item::Unit(&unit)]).unwrap());
    let outputs = gpu.allocate(batch.output_bytes() as usize).unwrap();
    let [dropped, elsewhere] = [1 << 10, 1 << 20].map(|bytes| gpu.allocate(bytes).unwrap());
    let mut stream = null_mut();
    // SAFETY: the context is the device's, and the pointer is to a local variable.
    unsafe {
        assert_eq!(cuCtxSetCurrent(gpu.context()), 0);
        assert_eq!(cuStreamCreate(&mut stream, NON_BLOCKING), 0);
    }

    // Those of another model, which nobody uses any more.
    let (code, graph) = capture(stream, || {
        drop((own, dropped));
        std::thread::scope(|scope| scope.spawn(move || drop((other, elsewhere))).join()).unwrap();
        // SAFETY: all memory stays until the graph is no longer launched.
        unsafe { batch.enqueue(stream, outputs.address()) }.unwrap();
    });
    assert_eq!(code, 0);
    let mut found = vec![0; weights.len()];
    // SAFETY: what the graph uses is still there, and `found` has room for the weights.
    unsafe {
        let mut executable = null_mut();
        assert_eq!(cuGraphInstantiateWithFlags(&mut executable, graph, 0), 0);
        assert_eq!(cuGraphLaunch(executable, stream), 0);
        let address = outputs.address() + batch.offset(0).unwrap();
        assert_eq!(cuMemcpyDtoHAsync_v2(found.as_mut_ptr().cast(), address, found.len(), stream), 0);
        assert_eq!(cuStreamSynchronize(stream), 0);
    }
    assert!(found == weights);

    // Memory that is asked for meanwhile is refused, and ends it.
    let (code, _) = capture(stream, || {
        let refused = std::thread::scope(|scope| scope.spawn(|| gpu.allocate(1)).join()).unwrap();
        assert!(matches!(refused, Err(Error::Driver(refusal)) if refusal.code == UNSUPPORTED));
    });
    assert_eq!(code, INVALIDATED);
    // The next capture is whole again.
    assert_eq!(capture(stream, || ()).0, 0);
}
