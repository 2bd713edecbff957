//! The emulated driver behaves as badly as a real one may. Each test has its own device, since some
//! tests lose theirs.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    unsafe_code,
    reason = "helpers of tests, and calls of the driver"
)]

use std::ffi::{CString, c_int, c_uint, c_void};
use std::ptr::{from_mut, null_mut};

use df11_cuda_driver::*;

const INVALID_VALUE: c_int = 1;
const INVALID_CONTEXT: c_int = 201;
const NO_BINARY: c_int = 209;
const INVALID_PTX: c_int = 218;
const INVALID_HANDLE: c_int = 400;
const ILLEGAL_ADDRESS: c_int = 700;
const MISALIGNED: c_int = 716;
const CAPTURE_UNSUPPORTED: c_int = 900;
const CAPTURE_INVALIDATED: c_int = 901;
const CAPTURE_UNJOINED: c_int = 904;
const CAPTURE_ISOLATION: c_int = 905;
/// `CU_STREAM_NON_BLOCKING`
const NON_BLOCKING: c_uint = 1;
/// `CU_STREAM_CAPTURE_MODE_THREAD_LOCAL`
const THREAD_LOCAL: c_uint = 1;

/// Adds one to a number of 8 bytes.
const ADD_ONE: &str = ".version 7.0\n.target sm_80\n.address_size 64\n.visible .entry add(.param .u64 to) {\n\
    .reg .b64 %rd<4>;\nld.param.u64 %rd1, [to];\nld.global.u64 %rd2, [%rd1];\nadd.s64 %rd3, %rd2, 1;\n\
    st.global.u64 [%rd1], %rd3;\nret;\n}";

/// The code that a function of the driver returns.
macro_rules! code {
    ($function:ident($($argument:expr),* $(,)?)) => {{
        // SAFETY: pointers are to variables of the test, or NULL. The emulated driver checks
        // handles and addresses.
        unsafe { $function($($argument),*) }
    }};
}

/// Calls a function of the driver, which must not fail.
macro_rules! call {
    ($function:ident($($argument:expr),* $(,)?)) => {
        assert_eq!(code!($function($($argument),*)), 0, stringify!($function))
    };
}

/// Returns the object that a function of the driver makes.
macro_rules! made {
    ($function:ident($($argument:expr),*)) => {{
        let mut handle = null_mut();
        call!($function(&mut handle, $($argument),*));
        handle
    }};
}

/// Makes the context of a device current.
fn open(device: c_int) -> *mut c_void {
    assert!(emulate(Emulation {
        devices: 16,
        refusals: vec![("cuDeviceTotalMem_v2", 46)],
        ..Emulation::default()
    }));
    let context = made!(cuDevicePrimaryCtxRetain(device));
    call!(cuCtxSetCurrent(context));
    context
}

fn allocate(bytes: usize) -> u64 {
    let mut address = 0;
    call!(cuMemAlloc_v2(&mut address, bytes));
    address
}

fn kernel() -> *mut c_void {
    let text = CString::new(ADD_ONE).unwrap();
    let module = made!(cuModuleLoadData(text.as_ptr().cast()));
    made!(cuModuleGetFunction(module, c"add".as_ptr()))
}

fn launch_on(grid: [u32; 3], function: *mut c_void, stream: *mut c_void, mut address: u64) -> c_int {
    let mut parameters = [from_mut(&mut address).cast::<c_void>()];
    let [x, y, z] = grid;
    code!(cuLaunchKernel(function, x, y, z, 1, 1, 1, 0, stream, parameters.as_mut_ptr(), null_mut()))
}

fn launch(function: *mut c_void, stream: *mut c_void, address: u64) -> c_int {
    launch_on([1, 1, 1], function, stream, address)
}

/// Reads the number at an address on a stream.
fn number(stream: *mut c_void, address: u64) -> u64 {
    let mut number = 0u64;
    call!(cuMemcpyDtoHAsync_v2(from_mut(&mut number).cast(), address, 8, stream));
    call!(cuStreamSynchronize(stream));
    number
}

#[test]
fn copies_from_pageable_memory_stay_pending_for_streams_that_do_not_wait() {
    open(0);
    let (waits, does_not) = (made!(cuStreamCreate(0)), made!(cuStreamCreate(NON_BLOCKING)));
    let address = allocate(8);
    let copy = |mut number: u64| call!(cuMemcpyHtoD_v2(address, from_mut(&mut number).cast(), 8));
    copy(42);
    assert_eq!(number(does_not, address), 0);
    assert_eq!(number(waits, address), 42);
    copy(43);
    assert_eq!(number(does_not, address), 42);
    call!(cuStreamSynchronize(null_mut()));
    assert_eq!(number(does_not, address), 43);
    copy(44);
    call!(cuCtxSynchronize());
    assert_eq!(number(does_not, address), 44);

    // A copy on a stream keeps the stream's order, and its staged source may change.
    let mut source = 1u64;
    call!(cuMemcpyHtoDAsync_v2(address, from_mut(&mut source).cast(), 8, does_not));
    source += 1;
    assert_eq!(number(does_not, address), 1);
    // Pinned memory is not staged: the copy takes the bytes that are there when it is made.
    let pinned = made!(cuMemHostAlloc(8, 0)).cast::<u64>();
    // SAFETY: the allocation has 8 bytes, aligned like all memory that the driver returns.
    unsafe { pinned.write(source) };
    call!(cuMemcpyHtoDAsync_v2(address, pinned.cast(), 8, does_not));
    // SAFETY: the allocation has 8 bytes, aligned like all memory that the driver returns.
    unsafe { pinned.write(3) };
    assert_eq!(number(does_not, address), 3);
    // A function without a stream waits for it. SAFETY: the allocation has 8 aligned bytes.
    unsafe { pinned.write(4) };
    call!(cuMemcpyHtoD_v2(address, pinned.cast(), 8));
    assert_eq!(number(does_not, address), 4);
    call!(cuMemFreeHost(pinned.cast()));
    // A copy to invalid memory does not start, and the context lives on.
    assert_eq!(code!(cuMemcpyHtoD_v2(address + 1, from_mut(&mut source).cast(), 8)), INVALID_VALUE);
    assert_eq!(code!(cuMemsetD8Async(0, 0, 1, does_not)), INVALID_VALUE);
    call!(cuCtxSynchronize());
}

#[test]
fn addresses_streams_and_functions_belong_to_one_device() {
    let first = open(1);
    let (on_first, add, stream) = (allocate(8), kernel(), made!(cuStreamCreate(NON_BLOCKING)));
    let second = open(2);
    let (on_second, other) = (allocate(8), made!(cuStreamCreate(NON_BLOCKING)));
    assert_ne!(on_first, on_second);
    let mut device = -1;
    // `CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL`
    call!(cuPointerGetAttribute(from_mut(&mut device).cast(), 9, on_second));
    assert_eq!(device, 2);
    // The stream or the function is not of the current context.
    assert_eq!(launch(add, stream, on_first), INVALID_HANDLE);
    assert_eq!(launch(add, other, on_second), INVALID_HANDLE);
    call!(cuCtxSetCurrent(first));
    assert_eq!(launch(add, other, on_first), INVALID_HANDLE);
    call!(cuMemsetD8_v2(on_first, 0, 8));
    call!(cuCtxSynchronize());
    assert_eq!(launch(add, stream, on_first), 0);
    assert_eq!(number(stream, on_first), 1);
    // A kernel that gets the other device's address loses its context. The other device continues.
    assert_eq!(launch(add, stream, on_second), 0);
    assert_eq!(code!(cuStreamSynchronize(stream)), ILLEGAL_ADDRESS);
    call!(cuCtxSetCurrent(second));
    call!(cuCtxSynchronize());
}

#[test]
fn contexts_are_current_by_thread_on_a_stack() {
    let (second, first) = (open(4), open(3));
    let current = || made!(cuCtxGetCurrent());
    call!(cuCtxPushCurrent_v2(second));
    assert_eq!(current(), second);
    let elsewhere = std::thread::spawn(|| code!(cuMemAlloc_v2(&mut 0, 8)));
    assert_eq!(elsewhere.join().unwrap(), INVALID_CONTEXT);
    let mut popped = null_mut();
    call!(cuCtxPopCurrent_v2(&mut popped));
    assert_eq!((popped, current()), (second, first));
    call!(cuDevicePrimaryCtxRelease_v2(4));
    assert_eq!(code!(cuCtxPushCurrent_v2(second)), INVALID_CONTEXT);
}

#[test]
fn a_misaligned_access_kills_the_context_until_it_is_made_anew() {
    open(5);
    let (add, stream, address) = (kernel(), made!(cuStreamCreate(NON_BLOCKING)), allocate(16));
    call!(cuMemsetD8_v2(address, 0, 16));
    call!(cuCtxSynchronize());
    assert_eq!(launch(add, stream, address + 1), 0);
    assert_eq!(code!(cuStreamSynchronize(stream)), MISALIGNED);
    assert_eq!(code!(cuMemAlloc_v2(&mut 0, 8)), MISALIGNED);
    assert_eq!(code!(cuCtxSynchronize()), MISALIGNED);
    assert_eq!(launch(add, stream, address), MISALIGNED);
    call!(cuDevicePrimaryCtxReset_v2(5));
    open(5);
    allocate(8);
}

#[test]
fn codes_that_cust_does_not_know_come_as_unknown_and_can_be_asked_for() {
    open(6);
    assert_eq!(code!(cuDeviceTotalMem_v2(&mut 0, 6)), UNKNOWN);
    assert_eq!(last_failure(), Some(Failure { function: "cuDeviceTotalMem_v2", code: 46 }));
}

#[test]
fn what_might_wait_is_refused_in_a_capture_and_ends_it() {
    open(7);
    let (stream, address) = (made!(cuStreamCreate(NON_BLOCKING)), allocate(8));
    let refused: [(&str, &dyn Fn() -> c_int); 6] = [
        ("allocation", &|| code!(cuMemAlloc_v2(&mut 0, 8))),
        ("free", &|| code!(cuMemFree_v2(address))),
        ("copy", &|| code!(cuMemcpyDtoH_v2([0u64].as_mut_ptr().cast(), address, 8))),
        ("copy", &|| code!(cuMemcpyHtoD_v2(address, [0u64].as_ptr().cast(), 8))),
        ("stream", &|| code!(cuStreamSynchronize(stream))),
        ("context", &|| code!(cuCtxSynchronize())),
    ];
    for (what, refused) in refused {
        call!(cuStreamBeginCapture_v2(stream, THREAD_LOCAL));
        assert_eq!(refused(), CAPTURE_UNSUPPORTED, "{what}");
        let mut graph = null_mut();
        assert_eq!(code!(cuStreamEndCapture(stream, &mut graph)), CAPTURE_INVALIDATED, "{what}");
        assert!(graph.is_null());
    }
    // The legacy stream cannot be captured.
    assert_eq!(code!(cuStreamBeginCapture_v2(null_mut(), THREAD_LOCAL)), CAPTURE_UNSUPPORTED);
}

#[test]
fn a_captured_graph_does_nothing_until_it_is_launched_and_then_all_of_it_each_time() {
    open(8);
    let (add, stream, address) = (kernel(), made!(cuStreamCreate(NON_BLOCKING)), allocate(8));
    call!(cuStreamBeginCapture_v2(stream, THREAD_LOCAL));
    assert_eq!(launch(add, stream, address), 0);
    assert_eq!(launch(add, stream, address), 0);
    let mut status = 0;
    call!(cuStreamIsCapturing(stream, &mut status));
    assert_eq!(status, 1);
    let mut graph = null_mut();
    call!(cuStreamEndCapture(stream, &mut graph));
    let executable = made!(cuGraphInstantiateWithFlags(graph, 0));
    call!(cuGraphDestroy(graph));
    call!(cuMemsetD8Async(address, 0, 8, stream));
    assert_eq!(number(stream, address), 0);
    for _ in 0..3 {
        call!(cuGraphLaunch(executable, stream));
    }
    assert_eq!(number(stream, address), 6);
    call!(cuGraphExecDestroy(executable));
}

#[test]
fn streams_wait_for_events_also_in_a_capture_and_for_nothing_else() {
    open(9);
    let (add, address) = (kernel(), allocate(8));
    let (one, two) = (made!(cuStreamCreate(NON_BLOCKING)), made!(cuStreamCreate(NON_BLOCKING)));
    let event = made!(cuEventCreate(0));
    call!(cuMemsetD8Async(address, 7, 8, one));
    assert_eq!(number(two, address), 0, "nothing orders the two");
    call!(cuMemsetD8Async(address, 0, 8, one));
    call!(cuEventRecord(event, one));
    call!(cuStreamWaitEvent(two, event, 0));
    assert_eq!(launch(add, two, address), 0);
    assert_eq!(number(two, address), 1);

    // A fork and a join in a capture. Jobs without a defined order run in the least convenient one.
    let memory = |value: u8, stream| call!(cuMemsetD8Async(address, value, 1, stream));
    let capture = |is_ordered: bool, is_joined: bool| {
        call!(cuStreamBeginCapture_v2(one, THREAD_LOCAL));
        call!(cuEventRecord(event, one));
        call!(cuStreamWaitEvent(two, event, 0));
        memory(1, one);
        if is_ordered {
            call!(cuEventRecord(event, one));
            call!(cuStreamWaitEvent(two, event, 0));
        }
        memory(2, two);
        if is_joined {
            call!(cuEventRecord(event, two));
            call!(cuStreamWaitEvent(one, event, 0));
        }
        let mut graph = null_mut();
        (code!(cuStreamEndCapture(one, &mut graph)), graph)
    };
    for (is_ordered, last) in [(true, 2), (false, 1)] {
        let (code, graph) = capture(is_ordered, true);
        assert_eq!(code, 0);
        let executable = made!(cuGraphInstantiateWithFlags(graph, 0));
        call!(cuGraphLaunch(executable, one));
        assert_eq!(number(one, address), last);
    }
    assert_eq!(capture(true, false).0, CAPTURE_UNJOINED);

    // An event from outside the capture.
    call!(cuEventRecord(event, two));
    call!(cuStreamBeginCapture_v2(one, THREAD_LOCAL));
    assert_eq!(code!(cuStreamWaitEvent(one, event, 0)), CAPTURE_ISOLATION);
    assert_eq!(code!(cuStreamEndCapture(one, &mut null_mut())), CAPTURE_INVALIDATED);
}

#[test]
fn grids_have_the_limits_of_cards() {
    open(10);
    let (add, address) = (kernel(), allocate(8));
    for (grid, expected) in [
        ([1, 65_535, 1], 0),
        ([1, 65_536, 1], INVALID_VALUE),
        ([1, 1, 65_536], INVALID_VALUE),
        ([0, 1, 1], INVALID_VALUE),
        ([1 << 31, 1, 1], INVALID_VALUE),
    ] {
        // The launch is never waited for, so it never runs.
        assert_eq!(launch_on(grid, add, null_mut(), address), expected, "{grid:?}");
    }
}

#[test]
fn cubins_are_refused_and_the_log_says_what_is_wrong_with_ptx() {
    open(11);
    let mut module = null_mut();
    let cubin = b"\x7fELF and more";
    assert_eq!(code!(cuModuleLoadData(&mut module, cubin.as_ptr().cast())), NO_BINARY);
    let load = |text: &str, log: &mut [u8]| {
        let text = CString::new(text).unwrap();
        // `CU_JIT_ERROR_LOG_BUFFER` and `CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES`
        let mut options = [5, 6];
        let mut values = [log.as_mut_ptr().cast(), std::ptr::without_provenance_mut(log.len())];
        let (options, values) = (options.as_mut_ptr(), values.as_mut_ptr());
        code!(cuModuleLoadDataEx(&mut null_mut(), text.as_ptr().cast(), 2, options, values))
    };
    let mut log = [0; 30];
    assert_eq!(load(&ADD_ONE.replace("add.s64", "odd.s64"), &mut log), INVALID_PTX);
    let log = String::from_utf8_lossy(&log).into_owned();
    assert!(log.contains("PTX line 8") && log.ends_with('\0'), "{log}");
    assert_eq!(load(&ADD_ONE.replace("sm_80", "sm_120"), &mut [0; 30]), INVALID_PTX);
    assert_eq!(load(ADD_ONE, &mut []), 0);
}

#[test]
fn occupancy_is_what_shared_memory_and_threads_allow() {
    open(12);
    let (add, mut blocks) = (kernel(), 0);
    for (threads, shared_bytes, expected) in [(256, 0, 8), (1024, 0, 2), (32, 0, 32), (256, 40_000, 5)] {
        call!(cuOccupancyMaxActiveBlocksPerMultiprocessor(&mut blocks, add, threads, shared_bytes));
        assert_eq!(blocks, expected, "{threads} threads, {shared_bytes} bytes");
    }
}
