//! Streams, threads, devices and contexts.

use std::ptr::null_mut;

use df11::frame::{self, ElementType};
use df11_cuda_driver::*;
use df11_gpu::encode::Tensor;
use df11_gpu::{Batch, Cubin, Error, Event, Frame, Gpu, Item, Memory, Stream, Unit};

use crate::support::{
    bf16_frame, call, current, emulation, encoded, engine_stream, open, read, upload, weights,
};

#[test]
fn what_was_uploaded_is_there_for_a_stream_that_waits_for_no_other() {
    let gpu = open(0);
    call!(cuCtxSetCurrent(gpu.context()));
    let stream = engine_stream();
    let (weights, bytes) = (weights(20_000), bf16_frame(&weights(20_000)));
    let unit = upload(&gpu, &weights);
    let frame = gpu.upload_frame(&frame::Frame::new(&bytes).unwrap()).unwrap();
    let batch = Batch::packed(&gpu, &[Item::Unit(&unit), Item::Frame(&frame)]).unwrap();
    let outputs = gpu.allocate(batch.output_bytes() as usize).unwrap();
    // SAFETY: the stream is of the same context. All memory stays until `read` has waited for it.
    unsafe { batch.enqueue(stream, outputs.address()).unwrap() };
    for item in 0..2 {
        let at = outputs.address() + batch.offset(item).unwrap();
        assert!(read(stream, at, weights.len()) == weights, "item {item}");
    }
    // SAFETY: the stream is of the same context, and no other stream decodes the batch.
    assert_eq!(unsafe { batch.statuses(stream) }.unwrap(), [None, None]);
}

#[test]
fn two_devices_in_one_thread_keep_apart() {
    let (one, two) = (open(1), open(2));
    let weights = weights(5000);
    let (on_one, on_two) = (upload(&one, &weights), upload(&two, &weights));
    assert!(one.decode_to_host(Item::Unit(&on_one)).unwrap() == weights);
    assert!(two.decode_to_host(Item::Unit(&on_two)).unwrap() == weights);
    let error = Batch::packed(&one, &[Item::Unit(&on_one), Item::Unit(&on_two)]).unwrap_err();
    assert!(matches!(error, Error::OtherDevice { expected: 1, found: 2 }), "{error}");
    let mut elsewhere = two.allocate(weights.len()).unwrap();
    let batch = Batch::packed(&one, &[Item::Unit(&on_one)]).unwrap();
    assert!(matches!(batch.decode(&mut elsewhere), Err(Error::OtherDevice { expected: 1, found: 2 })));
    // Both still live.
    assert!(one.allocate(1).is_ok() && two.allocate(1).is_ok());
}

#[test]
fn everything_may_go_to_other_threads() {
    const fn may_go<T: Send + Sync>() {}
    may_go::<(Gpu, Unit, Frame, Batch, Memory, Stream, Event)>();
}

#[test]
fn any_thread_may_use_a_device_and_drop_what_is_on_it() {
    let gpu = open(3);
    let free = || {
        let (mut free, mut all) = (0, 0);
        call!(cuCtxPushCurrent_v2(gpu.context()));
        call!(cuMemGetInfo_v2(&mut free, &mut all));
        call!(cuCtxPopCurrent_v2(null_mut()));
        free
    };
    let weights = weights(3000);
    let before = free();
    let unit = upload(&gpu, &weights);
    assert!(free() < before);
    std::thread::scope(|scope| {
        let gpu = &gpu;
        let thread = scope.spawn(move || {
            assert!(current().is_null());
            let found = gpu.decode_to_host(Item::Unit(&unit)).unwrap();
            drop(unit);
            assert!(current().is_null());
            found
        });
        assert!(thread.join().unwrap() == weights);
    });
    assert_eq!(free(), before);
}

#[test]
fn the_context_that_was_current_stays_so() {
    let engine = open(4);
    call!(cuCtxSetCurrent(engine.context()));
    let gpu = open(5);
    assert_eq!(current(), engine.context());
    let weights = weights(100);
    let unit = upload(&gpu, &weights);
    assert!(gpu.decode_to_host(Item::Unit(&unit)).unwrap() == weights);
    assert!(matches!(Gpu::open(99), Err(Error::NoDevice { .. })));
    drop((unit, gpu));
    assert_eq!(current(), engine.context());
}

#[test]
fn the_context_that_was_current_stays_so_while_another_encodes() {
    let (engine, gpu) = (open(20), open(21));
    call!(cuCtxSetCurrent(engine.context()));
    let weights = weights(5000);
    assert_eq!(gpu.encode_unit(&[&weights], &df11::EncodeOptions::default()).unwrap(), encoded(&weights));
    assert_eq!(current(), engine.context());
    let nan = 0x7fc0u16.to_le_bytes();
    assert!(matches!(gpu.encode_unit(&[&nan], &df11::EncodeOptions::default()), Err(Error::Invalid(_))));
    assert_eq!(gpu.encode_frame(ElementType::Bf16, &[5000], &weights).unwrap(), bf16_frame(&weights));
    assert_eq!(current(), engine.context());
}

#[test]
fn elements_of_another_device_are_not_encoded() {
    let (gpu, other) = (open(22), open(23));
    let memory = other.copy(&weights(100)).unwrap();
    let tensor = Tensor { address: memory.address(), elements: 100 };
    // SAFETY: the calls refuse them before they read anything.
    let found = unsafe {
        let unit = gpu.encode_unit_at(&[tensor], &df11::EncodeOptions::default()).map(drop);
        [unit, gpu.encode_frame_at(ElementType::Bf16, &[100], tensor.address).map(drop)]
    };
    for found in found {
        assert!(matches!(found, Err(Error::OtherDevice { expected: 22, found: 23 })), "{found:?}");
    }
    assert!(gpu.allocate(1).is_ok());
}

#[test]
fn an_engine_hands_in_its_context_and_its_stream() {
    assert!(emulate(emulation()));
    let (mut device, mut context) = (0, null_mut());
    call!(cuDeviceGet(&mut device, 6));
    call!(cuDevicePrimaryCtxRetain(&mut context, device));
    // SAFETY: the context stays until the end of the test.
    let gpu = unsafe { Gpu::from_context(context, &[]) }.unwrap();
    assert_eq!((gpu.info().number, gpu.context()), (6, context));
    assert!(current().is_null());
    call!(cuCtxSetCurrent(context));
    let (stream, weights) = (engine_stream(), weights(1000));
    let unit = upload(&gpu, &weights);
    let batch = Batch::packed(&gpu, &[Item::Unit(&unit)]).unwrap();
    let outputs = gpu.allocate(weights.len()).unwrap();
    // SAFETY: the stream is of the same context. All memory stays until `check` has waited for it.
    unsafe {
        batch.enqueue(stream, outputs.address()).unwrap();
        batch.check(stream).unwrap();
    }
    assert!(outputs.to_host().unwrap() == weights);
    drop((unit, batch, outputs, gpu));
    // The context is the engine's, and still exists.
    call!(cuCtxSynchronize());
    call!(cuDevicePrimaryCtxRelease_v2(device));
}

#[test]
fn a_second_stream_waits_for_an_event_and_for_nothing_else() {
    let gpu = open(15);
    let weights = weights(600);
    let unit = upload(&gpu, &weights);
    let batch = Batch::packed(&gpu, &[Item::Unit(&unit)]).unwrap();
    let (one, two) = (Stream::new(&gpu).unwrap(), Stream::new(&gpu).unwrap());
    let event = Event::new(&gpu).unwrap();
    for is_ordered in [false, true] {
        let outputs = gpu.copy(&vec![0; weights.len()]).unwrap();
        // SAFETY: all memory stays until both streams have been waited for.
        unsafe { batch.enqueue(one.as_raw(), outputs.address()).unwrap() };
        event.record(&one).unwrap();
        if is_ordered {
            two.wait_for(&event).unwrap();
        }
        call!(cuCtxPushCurrent_v2(gpu.context()));
        let found = read(two.as_raw(), outputs.address(), weights.len());
        call!(cuCtxPopCurrent_v2(null_mut()));
        assert_eq!(found == weights, is_ordered);
        one.wait().unwrap();
    }
}

#[test]
fn a_context_that_a_kernel_has_killed_says_so_and_others_live() {
    let (gpu, other) = (open(16), open(17));
    let unit = upload(&gpu, &weights(100));
    let batch = Batch::packed(&gpu, &[Item::Unit(&unit)]).unwrap();
    let stream = gpu.stream().as_raw();
    // SAFETY: there is no memory at this address, which the emulator detects.
    unsafe { batch.enqueue(stream, 0x1000).unwrap() };
    let error = gpu.stream().wait().unwrap_err().to_string();
    assert!(error.contains("700") && error.contains("the context is lost"), "{error}");
    assert!(error.contains("WriteOutOfBounds"), "{error}");
    assert!(matches!(gpu.allocate(1), Err(Error::Driver(refusal)) if refusal.code == 700));
    assert!(other.allocate(1).is_ok());
}

#[test]
fn a_kernel_that_encodes_what_is_not_there_kills_its_context_and_is_named() {
    let gpu = open(24);
    let nothing = Tensor { address: 0x1000, elements: 100 };
    // SAFETY: there is no memory at this address, which the emulator detects.
    let error =
        unsafe { gpu.encode_unit_at(&[nothing], &df11::EncodeOptions::default()) }.unwrap_err().to_string();
    assert!(error.contains("700") && error.contains("the context is lost"), "{error}");
    assert!(error.contains("ReadOutOfBounds: df11_encode_count"), "{error}");
    // SAFETY: there is no memory at this address, which the emulator detects.
    let error = unsafe { gpu.encode_frame_at(ElementType::U8, &[100], 0x1000) }.unwrap_err();
    assert!(matches!(error, Error::Driver(refusal) if refusal.code == 700));
}

#[test]
fn a_cubin_that_the_driver_does_not_take_leaves_the_way_of_ptx() {
    assert!(emulate(emulation()));
    let cubin = |name, capability| Cubin { name, capability, bytes: b"\x7fELF, and no more" };
    let cubins = [cubin("df11_decode", 90), cubin("rans_decode", 90), cubin("rans_decode", 80)];
    // SAFETY: the emulator refuses every cubin.
    let gpu = unsafe { Gpu::open_with(18, &cubins) }.unwrap();
    let weights = weights(10);
    let unit = upload(&gpu, &weights);
    let batch = Batch::packed(&gpu, &[Item::Unit(&unit)]).unwrap();
    // The driver's last failure shows that it was tried.
    assert_eq!(last_failure(), Some(Failure { function: "cuModuleLoadDataEx", code: 209 }));
    assert_eq!(batch.len(), 1);
    assert!(gpu.decode_to_host(Item::Unit(&unit)).unwrap() == weights);
}
