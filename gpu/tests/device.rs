//! The host's side, over whatever device there is: `DF11_DEVICE=cuda:0` for a card, otherwise the emulator, whose streams do
//! nothing before somebody waits for them.

#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "helpers of tests, which say what they ran"
)]

use df11_core::df11::{EncodedUnit, Options, encode};
use df11_core::frame::{self, ElementType, Frame};
use df11_gpu::{Emulation, Error, Gpu, Target};

fn gpu() -> Gpu {
    let target = std::env::var("DF11_DEVICE").map_or(Ok(Target::Emulated), |text| text.parse()).unwrap();
    let gpu = match target {
        Target::Cuda(number) => Gpu::open(number).unwrap(),
        Target::Emulated => Gpu::emulated(Emulation::default()).unwrap(),
        Target::Cpu => panic!("these tests are about devices; DF11_DEVICE says cpu"),
    };
    println!("on {target}: {:?}", gpu.info());
    gpu
}

/// Weights whose exponents are like those of trained ones, if they are many.
fn weights(n: u32, seed: u32) -> Vec<u8> {
    let weight = |i: u32| {
        let random = (i ^ seed).wrapping_mul(0x9e37_79b9) >> 7;
        let exponent = 120 - (random & 0xffff | 1 << 12).trailing_zeros();
        (exponent << 7 | random >> 9 & 0x7f | (random & 1) << 15) as u16
    };
    (0..n).flat_map(|i| weight(i).to_le_bytes()).collect()
}

fn unit(weights: &[u8]) -> EncodedUnit {
    encode(&[weights], &Options::default()).unwrap()
}

#[test]
fn units_come_back() {
    let gpu = gpu();
    for n in [1, 77, 20_000, 60_001] {
        let weights = weights(n, n);
        let uploaded = gpu.upload(&unit(&weights).tensors()).unwrap();
        assert_eq!(uploaded.len(), n as usize);
        assert!(gpu.decode_to_host(&uploaded).unwrap() == weights, "{n}");
    }
}

#[test]
fn units_of_a_transformer_block_come_back_from_one_launch() {
    let gpu = gpu();
    let all: Vec<Vec<u8>> = [5000, 1, 30_000].into_iter().map(|n| weights(n, n)).collect();
    let uploaded: Vec<_> = all.iter().map(|weights| gpu.upload(&unit(weights).tensors()).unwrap()).collect();
    let mut outputs: Vec<_> = all.iter().map(|weights| gpu.allocate(weights.len()).unwrap()).collect();
    let mut jobs: Vec<_> = uploaded.iter().zip(outputs.iter_mut().map(|output| &mut **output)).collect();
    let mut table = None;
    let elapsed = gpu.time(gpu.stream(), || gpu.decode_batch(gpu.stream(), &mut jobs, &mut table)).unwrap();
    assert!(elapsed.as_secs() < 100);
    for (output, weights) in outputs.iter().zip(&all) {
        assert!(gpu.download(gpu.stream(), output).unwrap() == *weights);
    }
    gpu.decode_batch(gpu.stream(), &mut [], &mut table).unwrap();
}

#[test]
fn frames_of_every_element_type_come_back() {
    let gpu = gpu();
    for element_type in [ElementType::Bf16, ElementType::F16, ElementType::F32, ElementType::F8E4M3] {
        let mut elements = weights(80_000, 5);
        elements.truncate(elements.len() / element_type.bytes() * element_type.bytes());
        let n = (elements.len() / element_type.bytes()) as u64;
        let bytes = frame::encode(element_type, &[n], &elements).unwrap();
        let frame = Frame::new(&bytes).unwrap();
        let uploaded = gpu.upload_frame(&frame).unwrap();
        assert!(gpu.decode_frame_to_host(&uploaded).unwrap() == elements, "{element_type:?}");
    }
    let raw = frame::encode(ElementType::U8, &[3], &[1, 2, 3]).unwrap();
    assert!(matches!(gpu.upload_frame(&Frame::new(&raw).unwrap()), Err(Error::RawFrame)));
}

#[test]
fn what_is_not_valid_is_refused_before_it_is_launched() {
    let gpu = gpu();
    let mut encoded = unit(&weights(5000, 1));
    let uploaded = gpu.upload(&encoded.tensors()).unwrap();
    let mut short = gpu.allocate(9999).unwrap();
    let error = gpu.decode(gpu.stream(), &uploaded, &mut short).unwrap_err();
    assert_eq!(error.to_string(), "the buffer on the device must have 10000 bytes, but has 9999");
    encoded.gaps.pop();
    assert!(matches!(gpu.upload(&encoded.tensors()), Err(Error::Invalid(_))));
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
