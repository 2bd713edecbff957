//! Tests updates on any device: `DF11_DEVICE=cuda:0` for a card, otherwise the emulator, whose
//! streams do nothing before a call waits for them.

#![cfg(all(target_os = "linux", feature = "driver"))]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    unsafe_code,
    reason = "helpers of tests, which say what they ran, and an engine's calls"
)]

mod common;

use std::ptr::null_mut;

use common::gpu;
use df11::delta;
use df11::frame::ElementType;
use df11_cuda_driver::*;
use df11_gpu::{Error, ErrorKind, Gpu, Update};

/// Makes weights, and the same after so many steps of training.
fn weights(n: u32, steps: u32) -> Vec<u8> {
    let weight = |i: u32| {
        let random = i.wrapping_mul(0x9e37_79b9) >> 7;
        let moved =
            (1..=steps).filter(|step| i.wrapping_mul(*step * 77 + 5).is_multiple_of(9)).count() as u16;
        (0x3c00u16 + (random & 0x1ff) as u16).wrapping_add(moved) ^ ((random & 1) << 15) as u16
    };
    (0..n).flat_map(|i| weight(i).to_le_bytes()).collect()
}

fn step(n: u32, step: u32) -> Vec<u8> {
    delta::encode(ElementType::Bf16, &weights(n, step + 1), &weights(n, step)).unwrap()
}

/// Uploads tensors, each from a multiple of 256 bytes on; returns where they begin.
fn place(gpu: &Gpu, tensors: &[Vec<u8>], room: usize) -> (df11_gpu::Memory, Vec<u64>) {
    let (mut bytes, mut offsets) = (Vec::new(), Vec::new());
    for tensor in tensors {
        offsets.push(bytes.len() as u64);
        bytes.extend_from_slice(tensor);
        bytes.resize(bytes.len().next_multiple_of(256), 0);
    }
    bytes.resize(bytes.len() + room, 0xaa);
    (gpu.copy(&bytes).unwrap(), offsets)
}

const SIZES: [u32; 3] = [70_000, 1, 5_000];

#[test]
fn weights_follow_the_steps_of_training_in_place() {
    let gpu = gpu();
    let (mut memory, offsets) = place(&gpu, &SIZES.map(|n| weights(n, 0)), 0);
    for number in 0..3 {
        let deltas = SIZES.map(|n| gpu.upload_delta(&step(n, number)).unwrap());
        let items: Vec<_> = deltas.iter().zip(offsets.iter().copied()).collect();
        let update = Update::new(&gpu, &items).unwrap();
        assert_eq!((update.len(), update.is_empty()), (3, false));
        assert_eq!(update.bytes(), offsets[2] + 10_000);
        update.apply(&mut memory).unwrap();
        let found = memory.to_host().unwrap();
        for (n, at) in SIZES.into_iter().zip(&offsets) {
            let at = *at as usize;
            assert!(found[at..at + 2 * n as usize] == weights(n, number + 1), "{n} weights, step {number}");
        }
        assert!(deltas[0].device_bytes() < 2 * 70_000 / 2, "{}", deltas[0].device_bytes());
    }
}

#[test]
fn a_wrong_base_is_named_and_nothing_is_changed() {
    let gpu = gpu();
    let (mut memory, offsets) = place(&gpu, &SIZES.map(|n| weights(n, 1)), 0);
    // The first two are of this step, and the last of the one after.
    let deltas =
        [(70_000, 1), (1, 1), (5_000, 2)].map(|(n, number)| gpu.upload_delta(&step(n, number)).unwrap());
    let items: Vec<_> = deltas.iter().zip(offsets).collect();
    let update = Update::new(&gpu, &items).unwrap();
    let before = memory.to_host().unwrap();
    let error = update.apply(&mut memory).unwrap_err();
    assert!(matches!(error, Error::Base { item: 2, block: 0, .. }), "{error:?}");
    assert_eq!(error.kind(), ErrorKind::Data);
    let text = error.to_string();
    assert!(text.contains("tensor 2") && text.contains("nothing was changed"), "{text}");
    assert!(memory.to_host().unwrap() == before);
    // The same update is of use once the base is there.
    let right = weights(5_000, 2);
    let target = memory.address() + items[2].1;
    let copy = gpu.copy(&right).unwrap();
    // SAFETY: both addresses have this many bytes, until the stream is done.
    unsafe { gpu.enqueue_copy(gpu.stream().as_raw(), copy.address(), target, right.len()).unwrap() };
    update.apply(&mut memory).unwrap();
}

#[test]
fn an_update_is_captured_in_a_graph() {
    let gpu = gpu();
    let mut stream = null_mut();
    // SAFETY: pointers are to variables of the test, or null; all memory stays until the graph is
    // no longer launched.
    unsafe {
        assert_eq!(cuCtxSetCurrent(gpu.context()), 0);
        assert_eq!(cuStreamCreate(&mut stream, 1), 0);
    }
    let base = weights(20_000, 0);
    let delta = gpu.upload_delta(&step(20_000, 0)).unwrap();
    let update = Update::new(&gpu, &[(&delta, 0)]).unwrap();
    let memory = gpu.copy(&base).unwrap();
    let (mut graph, mut executable) = (null_mut(), null_mut());
    // SAFETY: as above.
    unsafe {
        assert_eq!(cuStreamBeginCapture_v2(stream, 1), 0);
        update.enqueue(stream, memory.address()).unwrap();
        assert!(matches!(update.statuses(stream), Err(Error::Capturing)));
        assert_eq!(cuStreamEndCapture(stream, &mut graph), 0);
        assert_eq!(cuGraphInstantiateWithFlags(&mut executable, graph, 0), 0);
        assert_eq!(cuGraphLaunch(executable, stream), 0);
        update.check(stream).unwrap();
        assert!(memory.to_host().unwrap() == weights(20_000, 1));
        // Again: these weights are another base.
        assert_eq!(cuGraphLaunch(executable, stream), 0);
        assert!(matches!(update.check(stream), Err(Error::Base { .. })));
        assert!(memory.to_host().unwrap() == weights(20_000, 1));
        assert_eq!(cuGraphExecDestroy(executable), 0);
        assert_eq!(cuGraphDestroy(graph), 0);
    }
}

#[test]
fn what_does_not_fit_is_refused_before_it_is_launched() {
    let gpu = gpu();
    let (old, new) = (weights(5_000, 0), weights(9_000, 1));
    let bytes = delta::encode(ElementType::Bf16, &new, &old).unwrap();
    let delta = gpu.upload_delta(&bytes).unwrap();
    assert_eq!((delta.len(), delta.common(), delta.bytes()), (9_000, 5_000, 18_000));
    let mut short = gpu.copy(&old).unwrap();
    let update = Update::new(&gpu, &[(&delta, 0)]).unwrap();
    let error = update.apply(&mut short).unwrap_err().to_string();
    assert_eq!(error, "the memory on the device must have 18000 bytes, but has 10000");
    let mut long = gpu.copy(&[&old[..], &[0xaa; 8_001]].concat()).unwrap();
    let odd = Update::new(&gpu, &[(&delta, 1)]).unwrap();
    assert!(matches!(odd.apply(&mut long), Err(Error::Alignment { item: 0, alignment: 2, .. })));
    update.apply(&mut long).unwrap();
    assert!(long.to_host().unwrap()[..18_000] == new && long.to_host().unwrap()[18_000] == 0xaa);
    let damaged = [&bytes[..bytes.len() - 1], &[bytes[bytes.len() - 1] ^ 1]].concat();
    assert!(matches!(gpu.upload_delta(&damaged), Err(Error::Invalid(_))));
    let empty = Update::new(&gpu, &[]).unwrap();
    empty.apply(&mut long).unwrap();
}
