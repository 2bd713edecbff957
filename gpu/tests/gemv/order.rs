//! How exact sums in the stated order are, and what damaged weights do.

use df11::encode;
use df11::frame::Frame;
use df11_emulator::{Kind, Report};
use df11_gpu_lab::emulate::{DictionaryFrame, NOTHING_WRONG};
use df11_gpu_lab::gemv;
use df11_tests::weights::{Random, bytes};
use df11_tests::{cases, corpus, part};

use crate::support::{DF11, FAST, Linear, is_clean, options, wide};

#[test]
fn errors_are_no_larger_than_those_of_sums_in_f32_one_product_after_the_other() {
    let mut random = Random(41);
    for columns in [384, 1024, 4096, 14336] {
        let linear = Linear { bias: None, residual: None, ..Linear::new(40, columns, 1, &mut random) };
        let sums = linear.sums();
        let (mut ours, mut plain) = (0f64, 0f64);
        for (row, sum) in linear.weights.chunks(columns).zip(sums) {
            let products = row.iter().zip(&linear.x).map(|(weight, x)| (wide(*weight), wide(*x)));
            let exact: f64 = products.clone().map(|(weight, x)| f64::from(weight) * f64::from(x)).sum();
            let in_turn = products.fold(0f32, |sum, (weight, x)| weight.mul_add(x, sum));
            ours += (f64::from(sum) - exact).powi(2);
            plain += (f64::from(in_turn) - exact).powi(2);
        }
        println!("{columns} columns: {:.2e}, in turn {:.2e}", ours.sqrt(), plain.sqrt());
        assert!(ours <= plain, "{columns} columns: {ours} and {plain}");
    }
}

#[test]
fn real_weights_give_the_same_bits_from_units_and_frames() {
    let Some(file) = corpus::fetched("bf16/model.safetensors") else { return };
    let all = df11_model::bf16_weights(&file).unwrap();
    // Of the layers, as a matrix of 384 columns, and as one that segments divide.
    for (target, columns) in [384, 2048].into_iter().enumerate() {
        let rows = 300 * 384 / columns;
        let weights = all[22_000_000..][..2 * rows * columns].as_chunks::<2>().0;
        let weights = weights.iter().map(|weight| u16::from_le_bytes(*weight)).collect();
        let linear = Linear::of(weights, rows, columns, 1, &mut Random(42));
        let expected = linear.results();
        let unit = encode(&bytes(&linear.weights)).unwrap();
        let items = [(unit.as_slices(), 0, linear.operands())];
        let (found, _, report) = gemv::units(&DF11[target].1, &items, 1, 5, 0, &options(1)).unwrap();
        is_clean(&report, "df11_gemv");
        assert!(found == [expected.clone()], "df11_gemv, {columns} columns");
        let frame = linear.frame();
        let frame = DictionaryFrame::new(&Frame::new(&frame).unwrap()).unwrap().unwrap();
        let items = [(frame, linear.operands())];
        let (found, _, report) = gemv::fast(&FAST[target].1, &items, 1, 5, 0, &options(1)).unwrap();
        is_clean(&report, "fast_gemv");
        assert!(found == [expected], "fast_gemv, {columns} columns");
    }
}

/// Checks that a kernel with arbitrary weights does nothing worse than read undefined bytes.
#[track_caller]
fn is_harmless(report: &Report, what: &str) {
    let bad: Vec<String> = report
        .findings
        .iter()
        .filter(|finding| finding.kind != Kind::UndefinedRead)
        .map(ToString::to_string)
        .collect();
    assert!(bad.is_empty(), "{what}: {bad:#?}");
}

#[test]
fn damaged_weights_lead_to_no_access_out_of_bounds_and_damaged_codes_are_told() {
    let mut random = Random(43);
    let mut told = 0;
    for round in 0..cases(24) as usize {
        let columns = [1024, 700][round % 2];
        let linear = Linear::new(30, columns, 1 + round % 2, &mut random);
        let (target, module) = &FAST[round % 4];
        let bytes_of_frame = linear.frame();
        let frame = DictionaryFrame::new(&Frame::new(&bytes_of_frame).unwrap()).unwrap().unwrap();
        let mut codes = frame.codes.to_vec();
        for _ in 0..1 + random.below(40) {
            let at = random.below(codes.len() as u64) as usize;
            codes[at] = random.next() as u8;
        }
        let items = [(DictionaryFrame { codes: &codes, ..frame }, linear.operands())];
        let (_, status, report) =
            gemv::fast(module, &items, linear.vectors, 2, 0, &options(round as u64)).unwrap();
        is_harmless(&report, &format!("round {round}: {target}"));
        told += usize::from(status != [NOTHING_WRONG]);

        let (target, module) = &DF11[round % 4];
        let mut unit = encode(&bytes(&linear.weights)).unwrap();
        // All parts but output positions, which the host checks, and which say who does what.
        let damaged = part(&mut unit, [0, 1, 2, 4][random.below(4) as usize]);
        for _ in 0..1 + random.below(4) {
            let at = random.below(damaged.len() as u64) as usize;
            damaged[at] = random.next() as u8;
        }
        let items = [(unit.as_slices(), 0, linear.operands())];
        let (_, _, report) =
            gemv::units(module, &items, linear.vectors, 2, 0, &options(round as u64)).unwrap();
        is_harmless(&report, &format!("round {round}: {target}"));
    }
    assert!(told > 0);
}
