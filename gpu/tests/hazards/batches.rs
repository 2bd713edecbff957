//! Batches: captured in graphs, their statuses, their checksums, their sizes.

use df11::frame::{self, Codec, ElementType, EncodeOptions};
use df11_cuda_driver::*;
use df11_gpu::{Batch, Error, Event, Item, Stream};
use df11_tests::corpus;

use crate::support::{
    adopt, bf16_frame, call, capture, dictionary_frame, encoded, engine_stream, open, place, read, upload,
    weights,
};

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
        // SAFETY: all memory stays until the graph is no longer launched.
        unsafe {
            batch.enqueue(stream, outputs.address()).unwrap();
            // A call that waits is refused now, and the capture continues.
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
    // SAFETY: all memory stays until the graph is no longer launched.
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
    // The whole corpus takes a minute.
    let is_whole = std::env::var_os("DF11_WHOLE_CORPUS").is_some();
    let weights = if is_whole { &all[..] } else { &all[20_000_000..20_400_000] };
    let gpu = open(19);
    call!(cuCtxSetCurrent(gpu.context()));
    let stream = engine_stream();
    // From one weight to more than half of all weights.
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
        // SAFETY: the address has the bytes of the frame, in memory that stays.
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
        // SAFETY: all memory stays until the graph is no longer launched.
        let graph = capture(stream, || unsafe { batch.enqueue(stream, base) }.unwrap());
        call!(cuMemsetD8Async(outputs.address(), 0, outputs.len(), stream));
        call!(cuGraphLaunch(graph, stream));
        for (item, part) in parts.iter().enumerate() {
            let found = read(stream, base + batch.offset(item).unwrap(), part.len());
            assert!(found == *part, "item {item} of {} weights", part.len() / 2);
        }
        // SAFETY: the stream is of the same context, and no other stream decodes the batch.
        unsafe { batch.check(stream).unwrap() };
        call!(cuGraphExecDestroy(graph));
    }
}

#[test]
fn statuses_name_the_item_and_its_block_and_begin_anew_when_they_were_read() {
    let gpu = open(12);
    let stream = gpu.stream().as_raw();
    // The frequencies of exponents halve, so that there are long codewords.
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
    // SAFETY: the addresses have bytes of this length, in memory that stays. Two of them differ
    // from the host's copy.
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
    // SAFETY: the memory has room for all outputs, which stay until the stream has been waited for.
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
fn statuses_that_nobody_waits_for_are_there_when_an_event_after_them_has_happened() {
    let gpu = open(25);
    let stream = gpu.stream();
    // The frequencies of exponents halve, so that a block of the longest codewords is short.
    let weights: Vec<u8> =
        (1..=20_000u32).flat_map(|i| ((120 - i.trailing_zeros() as u16) << 7).to_le_bytes()).collect();
    let mut short = encoded(&weights);
    short.encoded_exponent.fill(0xff);
    let (_memory, short) = adopt(&gpu, &short, [0; 5]);
    let batch = Batch::packed(&gpu, &[Item::Unit(&short)]).unwrap();
    let outputs = gpu.allocate(batch.output_bytes() as usize).unwrap();
    let event = Event::new(&gpu).unwrap();
    assert!(event.has_happened().unwrap(), "it was never recorded");
    // SAFETY: the memory has room for all outputs. It and the batch stay until the event, which
    // comes after their work, has happened.
    unsafe {
        batch.enqueue(stream.as_raw(), outputs.address()).unwrap();
        batch.enqueue_statuses(stream.as_raw()).unwrap();
        event.record(stream).unwrap();
        assert!(!event.has_happened().unwrap());
        while !event.has_happened().unwrap() {}
        assert_eq!(batch.arrived_statuses()[0].map(|fault| fault.clause), Some("D-8.6"));
        assert_eq!(batch.statuses(stream.as_raw()).unwrap(), [None]);
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
        // SAFETY: the address is memory of this device that holds all elements.
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
    // SAFETY: the memory is never freed. No call waits for the stream, which would take minutes
    // here.
    unsafe { batch.enqueue(stream.as_raw(), outputs.address()).unwrap() };
    std::mem::forget((gpu, unit, batch, outputs, stream));
}
