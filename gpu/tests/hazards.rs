//! What goes wrong on a card and not in an emulator that is kind: each hazard with the emulated
//! driver that shows it, and a device of its own, since whoever falls into one loses it.

#![cfg(all(target_os = "linux", feature = "driver"))]
#![allow(clippy::unwrap_used, clippy::panic, unsafe_code, reason = "helpers of tests, and an engine's calls")]

use std::ffi::{c_uint, c_void};
use std::ptr::null_mut;

use df11::frame::{self, Codec, ElementType, EncodeOptions};
use df11::{EncodedUnit, encode};
use df11_cuda_driver::*;
use df11_gpu::encode::Tensor;
use df11_gpu::{Batch, Cubin, Emulation, Error, Event, Frame, Gpu, Item, Memory, RawUnit, Stream, Unit};
use df11_tests::corpus;

/// `CU_STREAM_NON_BLOCKING`
const NON_BLOCKING: c_uint = 1;
/// `CU_STREAM_CAPTURE_MODE_THREAD_LOCAL`
const THREAD_LOCAL: c_uint = 1;

/// Calls a function of the driver, as an engine does.
macro_rules! call {
    ($function:ident($($argument:expr),* $(,)?)) => {{
        // SAFETY: pointers are to variables of the test, or null; handles and addresses are what
        // the emulated driver checks.
        assert_eq!(unsafe { $function($($argument),*) }, 0, stringify!($function))
    }};
}

/// Devices, so that tests that run at once do not share one.
fn emulation() -> Emulation {
    Emulation { devices: 32, ..Emulation::default() }
}

fn open(device: u32) -> Gpu {
    assert!(emulate(emulation()));
    Gpu::open(device).unwrap()
}

fn weights(n: u32) -> Vec<u8> {
    (0..n).flat_map(|i| ((0x3c00 + i.wrapping_mul(i) % 999) as u16).to_le_bytes()).collect()
}

fn encoded(weights: &[u8]) -> EncodedUnit {
    encode(weights).unwrap()
}

fn upload(gpu: &Gpu, weights: &[u8]) -> Unit {
    gpu.upload(&encoded(weights).as_slices()).unwrap()
}

fn bf16_frame(weights: &[u8]) -> Vec<u8> {
    frame::encode(ElementType::Bf16, &[weights.len() as u64 / 2], weights).unwrap()
}

fn dictionary_frame(weights: &[u8]) -> Vec<u8> {
    let options = EncodeOptions::new().codec(Codec::Dictionary);
    options.encode(ElementType::Bf16, &[weights.len() as u64 / 2], weights).unwrap()
}

/// A stream that an engine makes, in the context that is current.
fn engine_stream() -> *mut c_void {
    let mut stream = null_mut();
    call!(cuStreamCreate(&mut stream, NON_BLOCKING));
    stream
}

fn current() -> *mut c_void {
    let mut context = null_mut();
    call!(cuCtxGetCurrent(&mut context));
    context
}

/// The bytes from an address on, copied on an engine's stream after what that has to do.
fn read(stream: *mut c_void, address: u64, bytes: usize) -> Vec<u8> {
    let mut found = vec![0; bytes];
    call!(cuMemcpyDtoHAsync_v2(found.as_mut_ptr().cast(), address, bytes, stream));
    call!(cuStreamSynchronize(stream));
    found
}

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
    // SAFETY: the stream is of the same context; everything stays until `read` has waited for it.
    unsafe { batch.enqueue(stream, outputs.address()).unwrap() };
    for item in 0..2 {
        let at = outputs.address() + batch.offset(item).unwrap();
        assert!(read(stream, at, weights.len()) == weights, "item {item}");
    }
    // SAFETY: as above.
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
    // SAFETY: they are refused before anything is read.
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
    // SAFETY: the stream is of the same context; everything stays until `check` has waited for it.
    unsafe {
        batch.enqueue(stream, outputs.address()).unwrap();
        batch.check(stream).unwrap();
    }
    assert!(outputs.to_host().unwrap() == weights);
    drop((unit, batch, outputs, gpu));
    // The context is the engine's, and still there.
    call!(cuCtxSynchronize());
    call!(cuDevicePrimaryCtxRelease_v2(device));
}

/// Places bytes in memory of the device, this many bytes after an address that is aligned.
fn place(gpu: &Gpu, bytes: &[u8], skipped: usize) -> (Memory, u64) {
    let memory = gpu.copy(&[&vec![0xaa; skipped], bytes].concat()).unwrap();
    let address = memory.address() + skipped as u64;
    (memory, address)
}

/// Adopts a unit whose parts each begin some bytes after an aligned address.
fn adopt(gpu: &Gpu, unit: &EncodedUnit, skipped: [usize; 5]) -> (Vec<Memory>, Unit) {
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
    // SAFETY: the parts are there, and the caller keeps the memory.
    let unit = unsafe { gpu.adopt(raw) }.unwrap();
    (memory, unit)
}

#[test]
fn parts_are_adopted_at_any_address() {
    let gpu = open(7);
    let weights = weights(9000);
    let (rans, dictionary) = (bf16_frame(&weights), dictionary_frame(&weights));
    for skipped in [[0; 5], [8, 5, 15, 3, 1], [1, 2, 3, 4, 5], [7, 9, 11, 13, 15]] {
        let (_memory, unit) = adopt(&gpu, &encoded(&weights), skipped);
        let found = gpu.decode_to_host(Item::Unit(&unit));
        assert!(found.unwrap() == weights, "{skipped:?}");
        for bytes in [&rans, &dictionary] {
            let (_memory, address) = place(&gpu, bytes, skipped[1]);
            // SAFETY: the bytes are there, in memory that stays.
            let adopted = unsafe { gpu.adopt_frame(&frame::Frame::new(bytes).unwrap(), address) }.unwrap();
            let found = gpu.decode_to_host(Item::Frame(&adopted));
            assert!(found.unwrap() == weights, "{skipped:?}");
        }
    }
}

#[test]
fn addresses_of_another_device_and_sizes_that_cannot_be_are_refused() {
    let (gpu, other) = (open(8), open(9));
    let address = other.copy(&[0; 64]).unwrap();
    let raw = RawUnit {
        luts: address.address(),
        codes: address.address(),
        sign_mantissa: address.address(),
        output_positions: address.address(),
        gaps: address.address(),
        tables: 2,
        code_bytes: 10,
        elements: 10,
    };
    let refused = |raw: RawUnit| {
        // SAFETY: it is refused before anything is read.
        unsafe { gpu.adopt(raw) }.unwrap_err()
    };
    assert!(matches!(refused(raw), Error::OtherDevice { expected: 8, found: 9 }));
    for raw in [
        RawUnit { elements: 0, ..raw },
        RawUnit { elements: usize::MAX, ..raw },
        RawUnit { code_bytes: usize::MAX, ..raw },
        RawUnit { code_bytes: 1, ..raw },
    ] {
        assert!(matches!(refused(raw), Error::Invalid(_)), "{raw:?}");
    }
    assert!(gpu.allocate(1).is_ok());
}

#[test]
fn outputs_that_a_card_cannot_write_to_are_refused_and_the_device_lives_on() {
    let gpu = open(10);
    let weights = weights(4000);
    let floats = frame::encode(ElementType::F32, &[2000], &weights).unwrap();
    let bytes = frame::encode(ElementType::U8, &[8000], &weights).unwrap();
    let unit = upload(&gpu, &weights);
    let [floats, bytes] =
        [&floats, &bytes].map(|bytes| gpu.upload_frame(&frame::Frame::new(bytes).unwrap()).unwrap());
    let outputs = gpu.allocate(weights.len() + 16).unwrap();
    for (item, alignment) in [(Item::Unit(&unit), 2), (Item::Frame(&floats), 4), (Item::Frame(&bytes), 1)] {
        for skipped in [0u64, 1, 2, 3, 4, 6] {
            // Through the offset, or through the address.
            for (offset, base) in [(skipped, outputs.address()), (0, outputs.address() + skipped)] {
                let batch = Batch::new(&gpu, &[(item, offset)]).unwrap();
                // SAFETY: there is room for the outputs, and the stream is waited for.
                let enqueued = unsafe { batch.enqueue(gpu.stream().as_raw(), base) };
                if skipped % alignment != 0 {
                    let Err(Error::Alignment { item: 0, alignment: found, .. }) = enqueued else {
                        panic!("{skipped}: {enqueued:?}");
                    };
                    assert_eq!(found, alignment);
                    continue;
                }
                enqueued.unwrap();
                // SAFETY: it is the device's own stream.
                unsafe { batch.check(gpu.stream().as_raw()).unwrap() };
                let found = outputs.to_host().unwrap();
                assert!(found[skipped as usize..][..weights.len()] == weights, "{skipped}");
            }
        }
    }
}

/// Captures what `work` gives a stream to do, as a graph that can be launched.
fn capture(stream: *mut c_void, work: impl FnOnce()) -> *mut c_void {
    let (mut graph, mut executable) = (null_mut(), null_mut());
    call!(cuStreamBeginCapture_v2(stream, THREAD_LOCAL));
    work();
    call!(cuStreamEndCapture(stream, &mut graph));
    call!(cuGraphInstantiateWithFlags(&mut executable, graph, 0));
    call!(cuGraphDestroy(graph));
    executable
}

#[test]
fn a_batch_is_captured_in_a_graph_that_gives_the_same_bits_a_hundred_times() {
    let gpu = open(11);
    call!(cuCtxSetCurrent(gpu.context()));
    let stream = engine_stream();
    let weights = weights(700);
    let bytes = bf16_frame(&weights);
    let (_memory, unit) = adopt(&gpu, &encoded(&weights), [8, 5, 15, 3, 1]);
    let frame = gpu.upload_frame(&frame::Frame::new(&bytes).unwrap()).unwrap();
    let batch = Batch::packed(&gpu, &[Item::Frame(&frame), Item::Unit(&unit)]).unwrap();
    let outputs = gpu.allocate(batch.output_bytes() as usize).unwrap();
    let graph = capture(stream, || {
        // SAFETY: everything stays until the graph is launched no more.
        unsafe {
            batch.enqueue(stream, outputs.address()).unwrap();
            // Whoever asks now is refused, and the capture goes on.
            assert!(matches!(batch.statuses(stream), Err(Error::Capturing)));
            let checked = batch.compare_checksums(stream, outputs.address());
            assert!(matches!(checked, Err(Error::Capturing)));
        }
    });
    for _ in 0..100 {
        call!(cuMemsetD8Async(outputs.address(), 0, outputs.len(), stream));
        call!(cuGraphLaunch(graph, stream));
        for item in 0..2 {
            let at = outputs.address() + batch.offset(item).unwrap();
            assert!(read(stream, at, weights.len()) == weights, "item {item}");
        }
    }
    // SAFETY: as above.
    unsafe {
        batch.check(stream).unwrap();
        batch.compare_checksums(stream, outputs.address()).unwrap();
    }
    call!(cuGraphExecDestroy(graph));
}

#[test]
fn real_weights_at_odd_addresses_in_unequal_items_of_all_kinds_come_back_from_a_captured_batch() {
    let Some(file) = corpus::fetched("bf16/model.safetensors") else { return };
    let all = df11_model::bf16_weights(&file).unwrap();
    // All of them take a minute.
    let is_whole = std::env::var_os("DF11_WHOLE_CORPUS").is_some();
    let weights = if is_whole { &all[..] } else { &all[20_000_000..20_400_000] };
    let gpu = open(19);
    call!(cuCtxSetCurrent(gpu.context()));
    let stream = engine_stream();
    // From one weight to more than half of all.
    let (mut parts, mut rest) = (Vec::new(), weights);
    for i in 0..12 {
        let (part, after) = rest.split_at(2 * (1 + ((rest.len() / 4) >> (11 - i))));
        (parts, rest) = ([parts, vec![part]].concat(), after);
    }
    parts.push(rest);
    let (mut units, mut frames, mut memory) = (Vec::new(), Vec::new(), Vec::new());
    for (i, part) in parts.iter().enumerate() {
        let skipped = 2 * i + 1;
        // Frames of few weights are not compressed.
        if i % 3 == 0 || part.len() < 8000 {
            let (placed, unit) = adopt(&gpu, &encoded(part), [skipped; 5]);
            memory.extend(placed);
            units.push((i, unit));
            continue;
        }
        let codec = [Codec::Rans, Codec::Dictionary][i % 3 - 1];
        let options = EncodeOptions::new().codec(codec);
        let bytes = options.encode(ElementType::Bf16, &[part.len() as u64 / 2], part).unwrap();
        let (placed, address) = place(&gpu, &bytes, skipped);
        memory.push(placed);
        // SAFETY: the bytes are there, in memory that stays.
        let frame = unsafe { gpu.adopt_frame(&frame::Frame::new(&bytes).unwrap(), address) }.unwrap();
        frames.push((i, frame));
    }
    let mut items: Vec<_> = units.iter().map(|(i, unit)| (*i, Item::Unit(unit))).collect();
    items.extend(frames.iter().map(|(i, frame)| (*i, Item::Frame(frame))));
    items.sort_by_key(|(i, _)| *i);
    let items: Vec<_> = items.into_iter().map(|(_, item)| item).collect();
    let batch = Batch::packed(&gpu, &items).unwrap();
    let outputs = gpu.allocate(batch.output_bytes() as usize + 2).unwrap();
    for skipped in [0, 2] {
        let base = outputs.address() + skipped;
        // SAFETY: everything stays until the graph is launched no more.
        let graph = capture(stream, || unsafe { batch.enqueue(stream, base) }.unwrap());
        call!(cuMemsetD8Async(outputs.address(), 0, outputs.len(), stream));
        call!(cuGraphLaunch(graph, stream));
        for (item, part) in parts.iter().enumerate() {
            let found = read(stream, base + batch.offset(item).unwrap(), part.len());
            assert!(found == *part, "item {item} of {} weights", part.len() / 2);
        }
        // SAFETY: as above.
        unsafe { batch.check(stream).unwrap() };
        call!(cuGraphExecDestroy(graph));
    }
}

#[test]
fn statuses_name_the_item_and_its_block_and_begin_anew_when_they_were_read() {
    let gpu = open(12);
    let stream = gpu.stream().as_raw();
    // Exponents that halve in frequency, so that there are long codewords.
    let weights: Vec<u8> =
        (1..=150_000u32).flat_map(|i| ((120 - i.trailing_zeros() as u16) << 7).to_le_bytes()).collect();
    let bytes = bf16_frame(&weights);
    let frame = frame::Frame::new(&bytes).unwrap();
    let layout = frame.block_layout(1).unwrap();
    let mut damaged = bytes.clone();
    damaged[layout.states + 3] |= 0x80;
    let mut short = encoded(&weights);
    short.encoded_exponent[4096 * 2..4096 * 3].fill(0xff);
    let dictionary = dictionary_frame(&weights);
    let chunks = frame::Frame::new(&dictionary).unwrap().chunks_layout().unwrap();
    let mut broken = dictionary.clone();
    // Strings that are too long for the last chunk.
    let last = chunks.codes.end - 12..chunks.codes.end;
    broken[last].fill(0xff);
    let (_one, sound) = place(&gpu, &bytes, 0);
    let (_two, damaged) = place(&gpu, &damaged, 0);
    let (_four, broken) = place(&gpu, &broken, 0);
    let (frame, of_dictionary) = (&frame, &frame::Frame::new(&dictionary).unwrap());
    // SAFETY: the bytes are there, in memory that stays; those of two are not what the host's copy
    // has.
    let [sound, damaged, broken] = [(frame, sound), (frame, damaged), (of_dictionary, broken)]
        .map(|(frame, at)| unsafe { gpu.adopt_frame(frame, at) }.unwrap());
    let (_three, short) = adopt(&gpu, &short, [0; 5]);
    let unit = upload(&gpu, &weights);
    let items = [
        Item::Frame(&broken),
        Item::Frame(&sound),
        Item::Unit(&unit),
        Item::Frame(&damaged),
        Item::Unit(&short),
        Item::Unit(&unit),
    ];
    let batch = Batch::packed(&gpu, &items).unwrap();
    let outputs = gpu.allocate(batch.output_bytes() as usize).unwrap();
    // SAFETY: there is room for all outputs, which stay until the stream was waited for.
    unsafe {
        batch.enqueue(stream, outputs.address()).unwrap();
        let faults = batch.statuses(stream).unwrap();
        let told: Vec<_> =
            faults.iter().map(|fault| fault.map(|fault| (fault.block, fault.clause))).collect();
        let last = Some((150_000 / 4096, "V-3.3"));
        assert_eq!(told, [last, None, None, Some((1, "R-5.3")), Some((2, "D-8.6")), None]);
        assert_eq!(batch.statuses(stream).unwrap(), [None; 6]);
        batch.enqueue(stream, outputs.address()).unwrap();
        let error = batch.check(stream).unwrap_err();
        assert!(matches!(error, Error::Block { item: 0, block: 36, clause: "V-3.3" }), "{error}");
    }
}

#[test]
fn checksums_of_coded_bytes_are_compared_when_asked_for() {
    let gpu = open(13);
    let stream = gpu.stream().as_raw();
    for (element_type, coded) in
        [(ElementType::Bf16, 1), (ElementType::F16, 1), (ElementType::F32, 3), (ElementType::U8, 0)]
    {
        let elements = weights(100_000);
        let n = (elements.len() / element_type.bytes()) as u64;
        let bytes = frame::encode(element_type, &[n], &elements).unwrap();
        let frame = gpu.upload_frame(&frame::Frame::new(&bytes).unwrap()).unwrap();
        let batch = Batch::packed(&gpu, &[Item::Frame(&frame)]).unwrap();
        let mut outputs = gpu.allocate(elements.len()).unwrap();
        batch.decode(&mut outputs).unwrap();
        // An exponent of the last element.
        let at = outputs.len() - element_type.bytes() + coded;
        let changed =
            gpu.copy(&[&elements[..at], &[elements[at] ^ 1], &elements[at + 1..]].concat()).unwrap();
        // SAFETY: it is memory of this device, with all elements.
        let error = unsafe { batch.compare_checksums(stream, changed.address()) }.unwrap_err();
        let last = (n as usize - 1) / frame::BLOCK;
        assert!(matches!(error, Error::Checksum { item: 0, block } if block == last), "{error}");
    }
}

#[test]
fn more_units_than_a_grid_has_rows_are_one_launch() {
    let gpu = open(14);
    let weights = weights(1);
    let unit = upload(&gpu, &weights);
    let items = vec![(Item::Unit(&unit), 0); 70_000];
    let batch = Batch::new(&gpu, &items).unwrap();
    let outputs = gpu.allocate(2).unwrap();
    let stream = Stream::new(&gpu).unwrap();
    // SAFETY: all that is used is never freed, and nobody waits for the stream: that would take
    // minutes here.
    unsafe { batch.enqueue(stream.as_raw(), outputs.address()).unwrap() };
    std::mem::forget((gpu, unit, batch, outputs, stream));
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
        // SAFETY: everything stays until both streams have been waited for.
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
    // SAFETY: nothing is at this address, which the emulator notices.
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
    // SAFETY: nothing is at this address, which the emulator notices.
    let error =
        unsafe { gpu.encode_unit_at(&[nothing], &df11::EncodeOptions::default()) }.unwrap_err().to_string();
    assert!(error.contains("700") && error.contains("the context is lost"), "{error}");
    assert!(error.contains("ReadOutOfBounds: df11_encode_count"), "{error}");
    // SAFETY: as above.
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
    // So it was asked.
    assert_eq!(last_failure(), Some(Failure { function: "cuModuleLoadDataEx", code: 209 }));
    assert_eq!(batch.len(), 1);
    assert!(gpu.decode_to_host(Item::Unit(&unit)).unwrap() == weights);
}
