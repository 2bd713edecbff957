//! The work of the kernels.

use df11::encode;
use df11::frame::Frame;
use df11_emulator::{Counters, Options, Report};
use df11_gpu_lab::emulate::DictionaryFrame;
use df11_gpu_lab::gemv;
use df11_tests::weights::{Random, bytes};

use crate::support::{DF11, FAST, Linear, PLAIN};

/// Divides the counts by the number of weights: instructions, sectors read and written, wavefronts
/// of shared memory, and those due to conflicts.
fn per_weight(report: &Report, weights: usize) -> [String; 5] {
    let Counters {
        warp_instructions, load_sectors, store_sectors, shared_wavefronts, shared_conflicts, ..
    } = report.counters;
    [warp_instructions, load_sectors, store_sectors, shared_wavefronts, shared_conflicts]
        .map(|count| format!("{:.4}", count as f64 / weights as f64))
}

#[test]
fn the_kernels_do_as_much_as_they_did() {
    let with_one = [
        ["0.2728", "0.1336", "0.0010", "0.0000", "0.0000"],
        ["0.6098", "0.1391", "0.0010", "0.0974", "0.0504"],
        ["0.9887", "0.1132", "0.0010", "0.1549", "0.0593"],
    ];
    let with_eight = [
        ["1.1624", "0.5996", "0.0015", "0.0000", "0.0000"],
        ["1.5240", "0.6051", "0.0015", "0.0974", "0.0504"],
        ["1.8471", "0.5515", "0.0016", "0.2102", "0.0593"],
    ];
    for (vectors, expected) in [(1, with_one), (8, with_eight)] {
        let linear = Linear::new(96, 4096, vectors, &mut Random(1));
        let n = linear.weights.len();
        let options = Options::default();
        let frame = linear.frame();
        let frame = DictionaryFrame::new(&Frame::new(&frame).unwrap()).unwrap().unwrap();
        let unit = encode(&bytes(&linear.weights)).unwrap();
        let operands = linear.operands();
        let (_, _, plain) =
            gemv::plain(&PLAIN[2].1, &[(&linear.weights, operands)], vectors, 2, 0, &options).unwrap();
        let (_, _, fast) = gemv::fast(&FAST[2].1, &[(frame, operands)], vectors, 2, 0, &options).unwrap();
        let (_, _, units) =
            gemv::units(&DF11[2].1, &[(unit.as_slices(), 0, operands)], vectors, 2, 0, &options).unwrap();
        let found = [&plain, &fast, &units].map(|report| per_weight(report, n));
        // After a change to a kernel, check whether the figures improved, and record the new ones.
        assert_eq!(found, expected, "{vectors} vectors");
    }
}
