//! Devices whose memory is too small for the data to encode. This test has a process of its own,
//! because all devices of a process are alike.

#![cfg(all(target_os = "linux", feature = "driver"))]
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use df11::EncodeOptions;
use df11::frame::{self, ElementType};
use df11_gpu::{Emulation, Error, Gpu};

const MEMORY: usize = 1 << 20;

/// Runs `work` with more and more memory until it succeeds. Returns the result, and the number of
/// failures. After each failure, no memory is left allocated.
fn with_ever_more<T>(gpu: &Gpu, work: impl Fn() -> Result<T, Error>) -> (T, usize) {
    let steps = (0..MEMORY).step_by(1000);
    for (failures, free) in steps.enumerate() {
        let occupied = gpu.allocate(MEMORY - free).unwrap();
        let result = work();
        drop(occupied);
        drop(gpu.allocate(MEMORY).unwrap());
        match result {
            Ok(found) => return (found, failures),
            Err(Error::Driver(refusal)) => {
                assert_eq!(refusal.code, 2, "{refusal}");
                assert!(refusal.to_string().contains("free memory"), "{refusal}");
            }
            Err(other) => panic!("{other}"),
        }
    }
    panic!("a mebibyte is too little")
}

#[test]
fn what_does_not_fit_a_device_is_an_error_wherever_memory_ends_and_leaves_nothing_there() {
    let gpu = Gpu::emulated(Emulation { memory: MEMORY, ..Emulation::default() }).unwrap();
    let weights: Vec<u8> = (0..9000u16).flat_map(|i| (0x3c00 + i % 999).to_le_bytes()).collect();

    let (unit, failures) = with_ever_more(&gpu, || gpu.encode_unit(&[&weights], &EncodeOptions::default()));
    assert_eq!(unit, df11::encode(&weights).unwrap());
    // It fails at each allocation: the weights alone are 18 steps.
    assert!(failures > 30, "{failures}");

    let (found, failures) = with_ever_more(&gpu, || gpu.encode_frame(ElementType::Bf16, &[9000], &weights));
    assert_eq!(found, frame::encode(ElementType::Bf16, &[9000], &weights).unwrap());
    assert!(failures > 30, "{failures}");
}
