//! All shapes, one at a time and many in a launch.

use df11::encode;
use df11::frame::Frame;
use df11_gpu_lab::emulate::{DictionaryFrame, NOTHING_WRONG};
use df11_gpu_lab::gemv;
use df11_tests::cases;
use df11_tests::weights::{Random, bytes, like_trained};

use crate::support::{DF11, FAST, Linear, PLAIN, is_clean, options};

/// Rows and columns in the shapes of Llama-3.1-8B, Qwen3-0.6B and all-MiniLM-L6-v2: all columns,
/// and a part of the rows.
const SHAPES: [(usize, usize); 10] = [
    (24, 4096),
    (7, 4096),
    (9, 14336),
    (40, 1024),
    (16, 2048),
    (10, 3072),
    (96, 384),
    (30, 1536),
    (1, 4096),
    (1, 1),
];

/// Compares the kernels with each other and with the stated order.
fn compare(linears: &[Linear], round: usize) {
    let vectors = linears[0].vectors;
    let (grid, skipped) = ([1, 3, 2, 7, 40][round % 5], [0, 8, 0, 1][round % 4]);
    let expected: Vec<Vec<u8>> = linears.iter().map(Linear::results).collect();
    let what = |name: &str| {
        let shapes: Vec<_> = linears.iter().map(|linear| (linear.rows, linear.columns)).collect();
        format!("round {round}: {name}, {vectors} vectors, grid {grid}, {shapes:?}")
    };

    let (target, module) = &PLAIN[round % 4];
    let items: Vec<_> = linears.iter().map(|linear| (&linear.weights[..], linear.operands())).collect();
    let (found, _, report) =
        gemv::plain(module, &items, vectors, grid, skipped, &options(round as u64)).unwrap();
    is_clean(&report, &what(target));
    assert!(found == expected, "{}", what(&format!("plain_gemv of {target}")));

    // All of them follow each other in one unit, behind elements that nobody multiplies.
    let before = [0, 1, 5000][round % 3];
    let mut weights = like_trained(before, 1);
    linears.iter().for_each(|linear| weights.extend(&linear.weights));
    let unit = encode(&bytes(&weights)).unwrap();
    let mut first = before;
    let items: Vec<_> = linears
        .iter()
        .map(|linear| {
            let item = (unit.as_slices(), first, linear.operands());
            first += linear.weights.len();
            item
        })
        .collect();
    let (target, module) = &DF11[round % 4];
    let (found, status, report) =
        gemv::units(module, &items, vectors, grid, skipped, &options(round as u64)).unwrap();
    is_clean(&report, &what(target));
    assert!(status.iter().all(|status| *status == NOTHING_WRONG), "{}: {status:?}", what(target));
    assert!(found == expected, "{}", what(&format!("df11_gemv of {target}")));

    let frames: Vec<Vec<u8>> = linears.iter().map(Linear::frame).collect();
    // Frames of very few elements, or of elements that do not get smaller, have no dictionary.
    let items = frames.iter().zip(linears).zip(&expected).filter_map(|((frame, linear), expected)| {
        let frame = DictionaryFrame::new(&Frame::new(frame).unwrap()).unwrap()?;
        Some(((frame, linear.operands()), expected.clone()))
    });
    let (items, expected): (Vec<_>, Vec<_>) = items.unzip();
    if items.is_empty() {
        return;
    }
    let (target, module) = &FAST[round % 4];
    let (found, status, report) =
        gemv::fast(module, &items, vectors, grid, skipped, &options(round as u64)).unwrap();
    is_clean(&report, &what(target));
    assert!(status.iter().all(|status| *status == NOTHING_WRONG), "{}: {status:?}", what(target));
    assert!(found == expected, "{}", what(&format!("fast_gemv of {target}")));
}

#[test]
fn compressed_and_plain_weights_give_the_same_bits_in_every_shape_of_models() {
    let mut random = Random(31);
    for (round, (rows, columns)) in SHAPES.into_iter().enumerate() {
        for vectors in [1, 1 + round % 8] {
            compare(&[Linear::new(rows, columns, vectors, &mut random)], round + vectors);
        }
    }
}

#[test]
fn many_products_of_any_shape_are_multiplied_in_one_launch() {
    let mut random = Random(32);
    for round in 0..cases(16) as usize {
        let vectors = 1 + random.below(8) as usize;
        let linears: Vec<Linear> = (0..1 + random.below(4))
            .map(|_| {
                let columns = [1024, 1 + random.below(3000) as usize, 8 * (1 + random.below(200) as usize)];
                let columns = columns[random.below(3) as usize];
                let rows = 1 + random.below(40_000 / columns as u64) as usize;
                Linear::new(rows, columns, vectors, &mut random)
            })
            .collect();
        compare(&linears, round);
    }
}
