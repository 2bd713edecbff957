//! The work of the kernels, and real weights.

use std::collections::BTreeMap;

use df11::delta::{EncodeOptions, Method};
use df11::frame::ElementType;
use df11_emulator::{Counters, Options};
use df11_gpu_lab::delta::apply;

use crate::support::{Change, DELTA, Sample, base, changed};

/// The work of the kernels per element: instructions, sectors read and written, wavefronts of shared
/// memory, and those due to conflicts.
const WORK: &str = "
    delta_apply_2 near 3.5345 0.0865 0.0625 0.4541 0.1575
    delta_check near 0.9215 0.1281 0.0001 0.3895 0.2637
    delta_compare near 0.0012 0.0001 0.0000 0.0000 0.0000
    delta_apply_2 rows 0.6135 0.0132 0.0094 0.0600 0.0122
    delta_check rows 0.9215 0.1281 0.0001 0.3896 0.2638
    delta_compare rows 0.0012 0.0001 0.0000 0.0000 0.0000
    delta_apply_2 far 3.7899 0.1670 0.0625 0.4370 0.1407
    delta_check far 0.9215 0.1281 0.0001 0.3898 0.2641
    delta_compare far 0.0012 0.0001 0.0000 0.0000 0.0000
";

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
