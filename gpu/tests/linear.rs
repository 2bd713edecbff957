//! Linear layers on any device: `DF11_DEVICE=cuda:0` for a card, otherwise the emulator, whose
//! streams do nothing before a call waits for them.

#![cfg(all(target_os = "linux", feature = "driver"))]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    unsafe_code,
    reason = "helpers of tests, which say what they ran; launches"
)]

mod common;

use common::gpu;
use df11::encode;
use df11::frame::{Codec, ElementType, EncodeOptions, Frame};
use df11_gpu::{Error, Gpu, Layer, Linear, Matrix};
use df11_tests::weights::{bytes, like_trained};

const ROWS: usize = 12;
const COLUMNS: usize = 2048;

/// Weights in every form, on a device.
struct Forms {
    plain: df11_gpu::Memory,
    unit: df11_gpu::Unit,
    frame: df11_gpu::Frame,
}

fn forms(gpu: &Gpu, weights: &[u16]) -> Forms {
    let all = bytes(weights);
    // The unit has other weights before these.
    let unit = encode(&[bytes(&like_trained(777, 1)), all.clone()].concat()).unwrap();
    let options = EncodeOptions::new().codec(Codec::Dictionary);
    let frame = options.encode(ElementType::Bf16, &[weights.len() as u64], &all).unwrap();
    Forms {
        plain: gpu.copy(&all).unwrap(),
        unit: gpu.upload(&unit.as_slices()).unwrap(),
        frame: gpu.upload_frame(&Frame::new(&frame).unwrap()).unwrap(),
    }
}

#[test]
fn layers_give_the_same_bits_however_their_weights_are_stored() {
    let gpu = gpu();
    let forms = forms(&gpu, &like_trained(ROWS * COLUMNS, 2));
    let matrices =
        [Matrix::Plain(forms.plain.address()), Matrix::Unit(&forms.unit, 777), Matrix::Frame(&forms.frame)];
    for vectors in [1, 3, 8] {
        let x = gpu.copy(&bytes(&like_trained(vectors * COLUMNS, 3))).unwrap();
        let bias = gpu.copy(&bytes(&like_trained(ROWS, 4))).unwrap();
        let of_each = 4 * vectors * ROWS;
        let y = gpu.allocate(of_each * matrices.len()).unwrap();
        let layers: Vec<Layer<'_>> = matrices
            .into_iter()
            .enumerate()
            .map(|(number, matrix)| Layer {
                y: (number * of_each) as u64,
                bias: Some(bias.address()),
                is_wide: true,
                ..Layer::new(matrix, ROWS, COLUMNS)
            })
            .collect();
        let linear = Linear::new(&gpu, &layers, vectors).unwrap();
        // Twice, since a launch must leave everything as it was.
        for _ in 0..2 {
            let stream = gpu.stream().as_raw();
            // SAFETY: the memory is this test's, and stays until the stream is done.
            unsafe {
                linear.enqueue(stream, x.address(), y.address()).unwrap();
                linear.check(stream).unwrap();
            }
            let results = y.to_host().unwrap();
            let (first, rest) = results.split_at(of_each);
            assert!(rest.chunks(of_each).all(|other| other == first), "{vectors} vectors");
            assert!(first.iter().any(|byte| *byte != 0));
        }
    }
}

#[test]
fn layers_that_do_not_fit_are_refused() {
    let gpu = gpu();
    let forms = forms(&gpu, &like_trained(ROWS * COLUMNS, 2));
    let refused = |layer: Layer<'_>, vectors: usize| match Linear::new(&gpu, &[layer], vectors) {
        Err(Error::Layer { problem, .. }) => problem,
        other => panic!("{other:?}"),
    };
    let unit = |first| Layer::new(Matrix::Unit(&forms.unit, first), ROWS, COLUMNS);
    assert!(refused(unit(778), 1).contains("fewer elements"));
    assert!(refused(unit(usize::MAX), 1).contains("fewer elements"));
    assert!(refused(unit(0), 0).contains("1 to 8 vectors"));
    assert!(refused(unit(0), 9).contains("1 to 8 vectors"));
    assert!(refused(Layer { x_stride: 3, ..unit(0) }, 1).contains("overlap"));
    assert!(refused(Layer::new(Matrix::Frame(&forms.frame), ROWS, 2), 1).contains("other elements"));
    assert!(refused(Layer::new(Matrix::Plain(1 << 45), 1 << 20, 1 << 20), 1).contains("2^31"));
    let rans = df11::frame::encode(ElementType::Bf16, &[9000], &bytes(&like_trained(9000, 5))).unwrap();
    let rans = gpu.upload_frame(&Frame::new(&rans).unwrap()).unwrap();
    assert!(refused(Layer::new(Matrix::Frame(&rans), 9, 1000), 1).contains("codec dictionary"));

    let linear = Linear::new(&gpu, &[unit(0)], 1).unwrap();
    // SAFETY: nothing is launched.
    let odd = unsafe { linear.enqueue(gpu.stream().as_raw(), 1, 2) };
    assert!(matches!(odd, Err(Error::Alignment { item: 0, address: 1, alignment: 2 })), "{odd:?}");
}
