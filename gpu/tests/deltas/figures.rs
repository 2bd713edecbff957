//! The work of the kernels, and real weights.

use std::collections::BTreeMap;
use std::path::Path;

use df11::delta::{EncodeOptions, Method};
use df11::frame::ElementType;
use df11_emulator::{Counters, Options};
use df11_gpu_lab::delta::apply;
use df11_tests::corpus;
use df11_tests::weights::Random;
use half::bf16;

use crate::support::{Change, DELTA, Sample, base, changed, come_out};

/// The work of the kernels per element: instructions, sectors read and written, wavefronts of
/// shared memory, and those due to conflicts.
const WORK: &str = "
    delta_apply_2 near 3.0560 0.0865 0.0625 0.3916 0.1575
    delta_check near 0.9215 0.1281 0.0001 0.3895 0.2637
    delta_compare near 0.0012 0.0001 0.0000 0.0000 0.0000
    delta_apply_2 rows 0.5356 0.0132 0.0094 0.0493 0.0122
    delta_check rows 0.9215 0.1281 0.0001 0.3896 0.2638
    delta_compare rows 0.0012 0.0001 0.0000 0.0000 0.0000
    delta_apply_2 far 3.2353 0.1670 0.0625 0.3745 0.1407
    delta_check far 0.9215 0.1281 0.0001 0.3898 0.2641
    delta_compare far 0.0012 0.0001 0.0000 0.0000 0.0000
";

/// The weights of the corpus, or of the demonstration, where the corpus is not there.
fn real_weights() -> Vec<u8> {
    if let Some(file) = corpus::fetched("bf16/model.safetensors") {
        let all = df11_model::bf16_weights(&file).unwrap();
        // The whole corpus takes some minutes.
        let is_whole = std::env::var_os("DF11_WHOLE_CORPUS").is_some();
        return if is_whole { all } else { all[20_000_000..20_400_000].to_vec() };
    }
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../cli/demo");
    df11_model::bf16_weights(&demo).unwrap()
}

/// What a step of training makes of weights: most move by less than their last place.
fn step(weights: &[u8], size: f32, seed: u64) -> Vec<u8> {
    let mut random = Random(seed);
    let mut moved = |bits: &[u8; 2]| {
        let uniform = random.below(1 << 20) as f32 / (1 << 19) as f32 - 1.0;
        bf16::from_f32(bf16::from_le_bytes(*bits).to_f32() + size * uniform).to_le_bytes()
    };
    weights.as_chunks().0.iter().flat_map(&mut moved).collect()
}

#[test]
fn real_weights_follow_steps_of_any_size_for_every_target() {
    let base = real_weights();
    let samples: Vec<Sample> = [1e-6, 1e-5, 1e-3]
        .into_iter()
        .map(|size| Sample::new(EncodeOptions::new(), ElementType::Bf16, &step(&base, size, 3), &base))
        .collect();
    let sizes: Vec<usize> = samples.iter().map(|sample| 1000 * sample.bytes.len() / base.len()).collect();
    println!("{} weights; the deltas take {sizes:?} thousandths", base.len() / 2);
    assert!(sizes.is_sorted() && sizes[0] < sizes[2]);
    for target in 0..4 {
        come_out(target, &samples, 264, 0, target as u64);
    }
}

#[test]
fn the_kernels_do_as_much_as_they_did() {
    let n = 300_000;
    let mut found = String::from("\n");
    let bf16 = base(ElementType::Bf16, n, 1);
    for (name, change, way) in [
        ("near", Change::Near, EncodeOptions::new().map(false).escapes(false)),
        ("rows", Change::Rows, EncodeOptions::new().map(true).escapes(false)),
        ("far", Change::Far, EncodeOptions::new().map(false).escapes(true).low_part(1)),
    ] {
        let new = changed(ElementType::Bf16, &bf16, change, 5);
        let sample = Sample::new(way.method(Method::Coded), ElementType::Bf16, &new, &bf16);
        let (_, module) = &DELTA[2];
        let applied = apply(module, &[sample.item()], u32::MAX, 0, &Options::default()).unwrap();
        assert!(applied.elements[0] == new);
        let mut counters: BTreeMap<&str, Counters> = BTreeMap::new();
        for (entry, report) in &applied.reports {
            counters.entry(entry).or_default().add(&report.counters);
        }
        for (entry, counters) in counters {
            let Counters {
                warp_instructions,
                load_sectors,
                store_sectors,
                shared_wavefronts,
                shared_conflicts,
                ..
            } = counters;
            let counts =
                [warp_instructions, load_sectors, store_sectors, shared_wavefronts, shared_conflicts];
            let counts = counts.map(|count| format!("{:.4}", count as f64 / n as f64)).join(" ");
            found += &format!("    {entry} {name} {counts}\n");
        }
    }
    assert!(found == WORK, "{found}");
}
