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
    for vectors in [1, 8] {
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
        println!("{vectors}: {found:?}");
        if let Ok(to) = std::env::var("DF11_BY_LINE") {
            for (name, report) in [("plain", &plain), ("fast", &fast), ("df11", &units)] {
                let lines: Vec<String> = report.counters.by_line.iter().map(u64::to_string).collect();
                std::fs::write(format!("{to}/{name}-{vectors}.txt"), lines.join("\n")).unwrap();
            }
        }
    }
}
