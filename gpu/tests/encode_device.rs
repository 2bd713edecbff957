//! Tests encoding on any device: `DF11_DEVICE=cuda:0` for a card, otherwise the emulator. The
//! output of a device is that of core, byte for byte, and a device refuses the same input as core.

#![cfg(all(target_os = "linux", feature = "driver"))]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    unsafe_code,
    reason = "helpers of tests, which say what they ran; elements at addresses"
)]

mod common;

use common::gpu;
use df11::Error as CoreError;
use df11::frame::{self, Codec, ElementType, Frame};
use df11::{EncodeOptions, EncodedUnit};
use df11_gpu::encode::Tensor;
use df11_gpu::{Error, Gpu, Item};
use df11_tests::weights::{Random, bytes, fibonacci_exponents, like_trained, with_exponents};
use df11_tests::{cases, corpus, fixtures};

/// Numbers of weights around the ends of vectors, tiles and blocks.
const SIZES: [usize; 12] = [1, 2, 15, 17, 255, 1000, 4095, 4096, 4097, 9001, 20_000, 60_001];

/// Compares two units, and reports the first part that differs, and from where on.
#[track_caller]
fn is_same(found: &EncodedUnit, expected: &EncodedUnit, what: &str) {
    for ((name, _), (found, expected)) in df11::PARTS
        .iter()
        .zip(found.as_slices().into_array().into_iter().zip(expected.as_slices().into_array()))
    {
        is_same_part(found, expected, &format!("{what}: {name}"));
    }
}

/// Reports from where on bytes differ.
#[track_caller]
fn is_same_part(found: &[u8], expected: &[u8], what: &str) {
    let differs = found.iter().zip(expected).position(|(found, expected)| found != expected);
    assert_eq!((found.len(), differs), (expected.len(), None), "{what}");
}

/// Makes weights of some kind: trained, flat, of a single exponent, with codewords of up to 23
/// bits.
fn weights(random: &mut Random, n: usize) -> Vec<u8> {
    let seed = random.next();
    let weights = match random.below(4) {
        0 => like_trained(n, seed),
        1 => with_exponents((0..n).map(|_| random.below(240) as u8), seed),
        2 => with_exponents((0..n).map(|i| 90 + u8::from(i % 977 == 976)), seed),
        _ => with_exponents(fibonacci_exponents(100, 24, seed).into_iter().cycle().take(n), seed),
    };
    bytes(&weights)
}

/// Cuts weights into tensors at random places; some tensors are empty.
fn cut<'a>(random: &mut Random, weights: &'a [u8]) -> Vec<&'a [u8]> {
    let n = weights.len() as u64 / 2;
    let mut cuts: Vec<usize> = (0..random.below(4)).map(|_| 2 * random.below(n + 1) as usize).collect();
    cuts.extend([0, weights.len()]);
    cuts.sort_unstable();
    cuts.windows(2).map(|cut| &weights[cut[0]..cut[1]]).collect()
}

#[test]
fn units_are_those_of_core_whatever_their_weights_and_tensors() {
    let (gpu, mut random) = (gpu(), Random(1));
    for round in 0..cases(36) as usize {
        let n = SIZES[round % SIZES.len()];
        let weights = weights(&mut random, n);
        let tensors = cut(&mut random, &weights);
        let least = 1 + random.below(8) as u8;
        let options = EncodeOptions::new().least_code_length(least);
        let expected = options.encode(&tensors).unwrap();
        let found = gpu.encode_unit(&tensors, &options).unwrap();
        is_same(&found, &expected, &format!("round {round}: {n} weights"));
    }
}

#[test]
fn units_of_weights_that_are_on_the_device_are_those_of_core_wherever_they_are() {
    let (gpu, mut random) = (gpu(), Random(2));
    for skipped in [0, 1, 2, 6, 8, 13, 16] {
        let weights = [weights(&mut random, 5001), weights(&mut random, 4096)];
        // The second tensor begins at an unaligned address, too.
        let all = [&[0xee; 16][..skipped], &weights[0], &weights[1]].concat();
        let memory = gpu.copy(&all).unwrap();
        let address = memory.address() + skipped as u64;
        let placed = [
            Tensor { address, elements: 5001 },
            Tensor { address: address + 10_002, elements: 4096 },
            Tensor { address: 0, elements: 0 },
        ];
        // SAFETY: the weights are in memory that stays until the call returns.
        let found = unsafe { gpu.encode_unit_at(&placed, &EncodeOptions::default()) }.unwrap();
        let expected = EncodeOptions::new().encode(&[&weights[0], &weights[1], &[]]).unwrap();
        is_same(&found, &expected, &format!("{skipped} bytes skipped"));
        assert!(memory.to_host().unwrap() == all, "the weights were changed");
    }
}

/// Makes bytes of elements that compress, or do not.
fn elements(random: &mut Random, element_type: ElementType, n: usize, codec: Codec) -> Vec<u8> {
    let size = element_type.bytes();
    if codec == Codec::Raw {
        return (0..n * size).map(|_| random.next() as u8).collect();
    }
    let element = |exponent: u8| {
        let (other, exponent) = (random.next() as u32, u32::from(exponent));
        let element = match element_type {
            ElementType::Bf16 => exponent << 7 | other & 0x807f,
            ElementType::F16 => exponent << 8 | other & 0xff,
            ElementType::F32 => exponent << 23 | other & 0x807f_ffff,
            _ => exponent,
        };
        element.to_le_bytes().into_iter().take(size)
    };
    fibonacci_exponents(100, 20, 7).into_iter().cycle().take(n).flat_map(element).collect()
}

#[test]
fn frames_are_those_of_core_whatever_their_elements_and_lengths() {
    let (gpu, mut random) = (gpu(), Random(3));
    for element_type in ElementType::ALL {
        for (n, codec) in
            [(0, Codec::Raw), (1, Codec::Raw), (4097, Codec::Raw), (5003, Codec::Rans), (70_001, Codec::Rans)]
        {
            let elements = elements(&mut random, element_type, n, codec);
            let expected = frame::encode(element_type, &[n as u64], &elements).unwrap();
            let what = format!("{n} of {element_type:?}");
            assert_eq!(Frame::new(&expected).unwrap().header().codec(), codec, "{what}");
            let found = gpu.encode_frame(element_type, &[n as u64], &elements).unwrap();
            is_same_part(&found, &expected, &what);
        }
    }
    let shape = [3, 1, 2000];
    let elements = elements(&mut random, ElementType::F16, 6000, Codec::Rans);
    let expected = frame::encode(ElementType::F16, &shape, &elements).unwrap();
    is_same_part(&gpu.encode_frame(ElementType::F16, &shape, &elements).unwrap(), &expected, "a shape");
}

#[test]
fn frames_of_elements_that_are_on_the_device_are_those_of_core_wherever_they_are() {
    let (gpu, mut random) = (gpu(), Random(4));
    for (element_type, skipped) in ElementType::ALL.into_iter().zip([2, 1, 4, 3, 13, 8].into_iter().cycle()) {
        let elements = elements(&mut random, element_type, 9001, Codec::Rans);
        let all = [&[0xee; 16][..skipped], &elements].concat();
        let memory = gpu.copy(&all).unwrap();
        let address = memory.address() + skipped as u64;
        // SAFETY: the elements are in memory that stays until the call returns.
        let found = unsafe { gpu.encode_frame_at(element_type, &[9001], address) }.unwrap();
        let expected = frame::encode(element_type, &[9001], &elements).unwrap();
        is_same_part(&found, &expected, &format!("{element_type:?}, {skipped} bytes skipped"));
        assert!(memory.to_host().unwrap() == all, "the elements were changed");
    }
}

#[track_caller]
fn is_refused<T>(found: Result<T, Error>, expected: &CoreError) {
    match found {
        Err(Error::Invalid(found)) => assert_eq!(found, *expected),
        Err(other) => panic!("{other} in place of {expected}"),
        Ok(_) => panic!("nothing is refused: {expected}"),
    }
}

#[test]
fn units_that_the_layout_cannot_hold_are_refused_as_core_does() {
    let (gpu, mut random) = (gpu(), Random(5));
    let refused = |tensors: &[&[u8]], options: &EncodeOptions| {
        let expected = options.encode(tensors).unwrap_err();
        is_refused(gpu.encode_unit(tensors, options), &expected);
        expected
    };
    for n in [1, 300, 9001] {
        let mut weights = bytes(&like_trained(n, 1));
        for at in [random.below(n as u64) as usize, n - 1] {
            let exponent = 240 + random.below(16) as u16;
            weights[2 * at..2 * at + 2].copy_from_slice(&(exponent << 7 | 0x8001).to_le_bytes());
        }
        let error = refused(&cut(&mut random, &weights), &EncodeOptions::default());
        assert!(matches!(error, CoreError::UnrepresentableExponent { element: Some(_), .. }), "{error}");
    }
    for tensors in [&[][..], &[&[][..]], &[&[], &[]]] {
        assert_eq!(refused(tensors, &EncodeOptions::default()), CoreError::EmptyUnit);
    }
    let odd = refused(&[&[0x80, 0x3f], &[0x80, 0x3f, 0x80], &[0x80]], &EncodeOptions::default());
    assert_eq!(odd, CoreError::OddBytes { bytes: 3 });
    // There is no code of at most one bit for three exponents.
    let weights = bytes(&with_exponents([1, 2, 3], 1));
    refused(&[&weights], &EncodeOptions::new().least_code_length(1).max_code_length(1));
    // The device still works.
    let weights = bytes(&like_trained(100, 1));
    let expected = df11::encode(&weights).unwrap();
    is_same(&gpu.encode_unit(&[&weights], &EncodeOptions::default()).unwrap(), &expected, "afterwards");
}

#[test]
fn elements_that_are_not_those_of_a_shape_are_refused_as_core_does() {
    let gpu = gpu();
    for (element_type, shape, bytes) in [
        (ElementType::Bf16, &[3][..], 5),
        (ElementType::F32, &[3], 13),
        (ElementType::F32, &[3], 16),
        (ElementType::U8, &[], 0),
        (ElementType::U8, &[4, 0], 1),
        (ElementType::F16, &[2, 3], 10),
        (ElementType::U8, &[1; 33], 1),
        (ElementType::U8, &[u64::MAX, 2], 1),
        (ElementType::F32, &[u64::MAX / 4], 4),
        (ElementType::U8, &[1 << 40], 4),
    ] {
        let elements = vec![1; bytes];
        let expected = frame::encode(element_type, shape, &elements).unwrap_err();
        is_refused(gpu.encode_frame(element_type, shape, &elements), &expected);
    }
}

#[test]
fn threads_that_encode_and_decode_on_one_device_do_not_disturb_each_other() {
    let gpu = gpu();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let gpu = gpu.clone();
            scope.spawn(move || {
                let mut random = Random(thread);
                for _ in 0..3 {
                    let weights = weights(&mut random, 7001);
                    let unit = gpu.encode_unit(&[&weights], &EncodeOptions::default()).unwrap();
                    is_same(&unit, &df11::encode(&weights).unwrap(), "a unit");
                    comes_back(&gpu, &unit, &weights);
                    let found = gpu.encode_frame(ElementType::Bf16, &[7001], &weights).unwrap();
                    let expected = frame::encode(ElementType::Bf16, &[7001], &weights).unwrap();
                    is_same_part(&found, &expected, "a frame");
                }
            });
        }
    });
}

#[track_caller]
fn comes_back(gpu: &Gpu, unit: &EncodedUnit, weights: &[u8]) {
    let uploaded = gpu.upload(&unit.as_slices()).unwrap();
    assert!(gpu.decode_to_host(Item::Unit(&uploaded)).unwrap() == weights, "other weights come back");
}

#[test]
fn trained_weights_become_the_units_and_frames_of_core_and_come_back() {
    let gpu = gpu();
    let file = corpus::read(&fixtures::original("real_two_tensors"));
    let tensors: Vec<&[u8]> = file.values().map(|tensor| &tensor.bytes[..]).collect();
    assert_eq!(tensors.len(), 2);
    let unit = gpu.encode_unit(&tensors, &EncodeOptions::default()).unwrap();
    is_same(&unit, &EncodeOptions::new().encode(&tensors).unwrap(), "a unit");
    comes_back(&gpu, &unit, &tensors.concat());
    for tensor in file.values() {
        let shape: Vec<u64> = tensor.shape.iter().map(|size| *size as u64).collect();
        let found = gpu.encode_frame(ElementType::Bf16, &shape, &tensor.bytes).unwrap();
        is_same_part(&found, &frame::encode(ElementType::Bf16, &shape, &tensor.bytes).unwrap(), "a frame");
    }
}

#[test]
fn units_and_frames_that_fill_a_device_are_those_of_core() {
    let (gpu, mut random) = (gpu(), Random(6));
    // On a card, the sizes lie on both sides of the size from which on tiles are larger. The
    // emulator is like a small card, so fewer weights give its thread blocks several rounds.
    let on_card = [3_000_001, (1 << 23) - 1, (1 << 23) + 1, 30_000_007];
    for n in if gpu.is_emulated() { &[150_001][..] } else { &on_card } {
        let n = *n;
        let weights = bytes(&like_trained(n, n as u64));
        let tensors = cut(&mut random, &weights);
        let found = gpu.encode_unit(&tensors, &EncodeOptions::default()).unwrap();
        is_same(&found, &EncodeOptions::new().encode(&tensors).unwrap(), &format!("{n} weights"));
        for element_type in [ElementType::Bf16, ElementType::F16, ElementType::U8] {
            let shape = [(weights.len() / element_type.bytes()) as u64];
            let found = gpu.encode_frame(element_type, &shape, &weights).unwrap();
            let expected = frame::encode(element_type, &shape, &weights).unwrap();
            is_same_part(&found, &expected, &format!("{shape:?} of {element_type:?}"));
        }
    }
}
