//! Tests the host's side on any device: `DF11_DEVICE=cuda:0` for a card, otherwise the emulator,
//! whose streams do nothing before a call waits for them.

#![cfg(all(target_os = "linux", feature = "driver"))]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "helpers of tests, which say what they ran"
)]

mod common;

use std::collections::BTreeSet;

use common::gpu;
use df11::frame::{Codec, ElementType, EncodeOptions, Frame};
use df11::{EncodedUnit, encode};
use df11_gpu::bench::{Options, delta_rows, rows};
use df11_gpu::{Batch, Error, Gpu, Item};

/// Makes weights whose exponents are distributed like those of trained ones.
fn weights(n: u32, seed: u32) -> Vec<u8> {
    let weight = |i: u32| {
        let random = (i ^ seed).wrapping_mul(0x9e37_79b9) >> 7;
        let exponent = 120 - (random & 0xffff | 1 << 12).trailing_zeros();
        (exponent << 7 | random >> 9 & 0x7f | (random & 1) << 15) as u16
    };
    (0..n).flat_map(|i| weight(i).to_le_bytes()).collect()
}

fn unit(weights: &[u8]) -> EncodedUnit {
    encode(weights).unwrap()
}

#[test]
fn units_come_back() {
    let gpu = gpu();
    for n in [1, 77, 20_000, 60_001] {
        let weights = weights(n, n);
        let uploaded = gpu.upload(&unit(&weights).as_slices()).unwrap();
        assert_eq!(uploaded.len(), n as usize);
        assert!(gpu.decode_to_host(Item::Unit(&uploaded)).unwrap() == weights, "{n}");
    }
}

fn frame(codec: Codec, element_type: ElementType, elements: &[u8]) -> Vec<u8> {
    let n = (elements.len() / element_type.bytes()) as u64;
    EncodeOptions::new().codec(codec).encode(element_type, &[n], elements).unwrap()
}

fn upload(gpu: &Gpu, bytes: &[u8]) -> df11_gpu::Frame {
    gpu.upload_frame(&Frame::new(bytes).unwrap()).unwrap()
}

#[test]
fn frames_of_every_codec_and_element_type_come_back() {
    let gpu = gpu();
    for codec in [Codec::Rans, Codec::Dictionary] {
        for element_type in [ElementType::Bf16, ElementType::F16, ElementType::F32, ElementType::F8E4M3] {
            let mut elements = weights(80_000, 5);
            elements.truncate(elements.len() / element_type.bytes() * element_type.bytes());
            let bytes = frame(codec, element_type, &elements);
            assert_eq!(Frame::new(&bytes).unwrap().header().codec(), codec);
            let found = gpu.decode_to_host(Item::Frame(&upload(&gpu, &bytes)));
            assert!(found.unwrap() == elements, "{codec:?} {element_type:?}");
        }
    }
    let raw = frame(Codec::Raw, ElementType::U8, &[1, 2, 3]);
    assert!(matches!(gpu.upload_frame(&Frame::new(&raw).unwrap()), Err(Error::RawFrame)));
}

#[test]
fn items_of_all_kinds_and_of_unequal_sizes_come_back_from_one_batch_each_time() {
    let gpu = gpu();
    let all: Vec<Vec<u8>> =
        [5000, 1, 90_000, 70_000, 4_100, 30_000].into_iter().map(|n| weights(n, n)).collect();
    let units: Vec<_> =
        all[..3].iter().map(|weights| gpu.upload(&unit(weights).as_slices()).unwrap()).collect();
    let codecs = [Codec::Rans, Codec::Dictionary, Codec::Rans];
    let frames = all[3..].iter().zip(codecs).map(|(weights, codec)| frame(codec, ElementType::Bf16, weights));
    let frames: Vec<_> = frames.map(|bytes| upload(&gpu, &bytes)).collect();
    // The kinds alternate, and outputs follow the order of the items.
    let items = [
        Item::Frame(&frames[0]),
        Item::Unit(&units[0]),
        Item::Frame(&frames[1]),
        Item::Unit(&units[1]),
        Item::Frame(&frames[2]),
        Item::Unit(&units[2]),
    ];
    let expected = [3, 0, 4, 1, 5, 2].map(|at| &all[at]);
    let batch = Batch::packed(&gpu, &items).unwrap();
    assert_eq!((batch.len(), batch.is_empty()), (6, false));
    let mut outputs = gpu.allocate(batch.output_bytes() as usize).unwrap();
    for _ in 0..2 {
        batch.decode(&mut outputs).unwrap();
        let found = outputs.to_host().unwrap();
        for (item, expected) in expected.iter().enumerate() {
            let at = batch.offset(item).unwrap() as usize;
            assert!(found[at..at + expected.len()] == ***expected, "item {item}");
        }
    }
    let empty = Batch::packed(&gpu, &[]).unwrap();
    empty.decode(&mut outputs).unwrap();
    assert!(empty.is_empty());
}

#[test]
fn what_is_not_valid_is_refused_before_it_is_launched() {
    let gpu = gpu();
    let mut encoded = unit(&weights(5000, 1));
    let uploaded = gpu.upload(&encoded.as_slices()).unwrap();
    let mut short = gpu.allocate(9999).unwrap();
    let error = Batch::packed(&gpu, &[Item::Unit(&uploaded)]).unwrap().decode(&mut short).unwrap_err();
    assert_eq!(error.to_string(), "the memory on the device must have 10000 bytes, but has 9999");
    encoded.gaps.pop();
    assert!(matches!(gpu.upload(&encoded.as_slices()), Err(Error::Invalid(_))));
    let more = usize::MAX >> 8;
    let error = gpu.allocate(more).unwrap_err().to_string();
    assert!(error.contains("cannot allocate memory") && error.contains("free memory"), "{error}");
}

#[test]
fn devices_are_listed_and_others_are_refused() {
    let gpu = gpu();
    let devices = df11_gpu::devices().unwrap();
    assert!(devices.contains(gpu.info()));
    let error = Gpu::open(devices.len() as u32).unwrap_err().to_string();
    assert!(error.contains("there is no device cuda:"), "{error}");
}

#[test]
fn the_bench_compares_what_every_kernel_decodes_and_counts_all_repetitions() {
    let gpu = gpu();
    let weights = weights(70_000, 9);
    let mut options = Options::default();
    options.at_least = 2 * weights.len();
    options.repetitions = 3;
    let usual = rows(&gpu, &weights, &options).unwrap();
    assert_eq!(usual.len(), 7, "{usual:?}");
    options.thorough = true;
    options.unit_weights = &[1000, 100_000];
    let all = rows(&gpu, &weights, &options).unwrap();
    let names: BTreeSet<&str> = all.iter().map(|row| row.name.as_str()).collect();
    // Four grids each for units and dictionaries, two addresses, two units.
    assert!(names.len() == 19 && all.len() == 19, "{names:?}");
    assert!(names.contains("df11_decode_batch, parts 1 bytes off"), "{names:?}");
    assert!(all.iter().all(|row| row.seconds.len() == 3 && row.bytes >= 2 * weights.len() as u64));
    assert!(usual[2..].iter().all(|row| row.size < 0.8), "{usual:?}");
    options.published = Some("no kernel");
    assert!(matches!(rows(&gpu, &weights, &options), Err(Error::OtherKernel)));
}

#[test]
fn the_bench_of_updates_compares_every_tensor_and_begins_each_repetition_with_the_base() {
    let gpu = gpu();
    let bases = [weights(70_000, 9), weights(1000, 3)];
    let news = bases.clone().map(|mut new| {
        new.chunks_mut(20).for_each(|ten| ten[0] ^= 1);
        new
    });
    let pairs: Vec<(&[u8], &[u8])> = news.iter().zip(&bases).map(|(new, base)| (&**new, &**base)).collect();
    let mut options = Options::default();
    options.at_least = 200_000;
    options.repetitions = 3;
    // An update that began with its own result would be refused: that is another base.
    let found = delta_rows(&gpu, &pairs, &options).unwrap();
    let [copy, updates @ ..] = &found[..] else { panic!("{found:?}") };
    assert!(copy.name.starts_with("copy") && updates.len() == 3, "{found:?}");
    for update in updates {
        assert!(update.name.contains("4 deltas"), "{found:?}");
        assert_eq!((update.bytes, update.seconds.len(), copy.seconds.len()), (2 * 142_000, 3, 3));
        assert!(update.size > 0.0 && update.size < 0.2, "{found:?}");
    }
}

#[test]
fn a_card_takes_what_was_assembled_and_the_emulator_what_it_can_read() {
    let gpu = gpu();
    assert!(gpu.compiled().is_empty());
    gpu.load().unwrap();
    let expected: &[&str] =
        if gpu.is_emulated() { &["df11_decode", "fast_decode", "rans_decode"] } else { &[] };
    assert_eq!(gpu.compiled(), expected);
}

#[test]
fn a_batch_may_leave_room_beside_it() {
    let gpu = gpu();
    let weights = weights(70_000, 9);
    let unit = gpu.upload(&df11::encode(&weights).unwrap().as_slices()).unwrap();
    let mut batch = Batch::packed(&gpu, &[Item::Unit(&unit)]).unwrap();
    for most in [0, 1, 2, u32::MAX] {
        batch.limit_resident(most);
        let mut outputs = gpu.allocate(weights.len()).unwrap();
        batch.decode(&mut outputs).unwrap();
        assert_eq!(outputs.to_host().unwrap(), weights);
    }
}
