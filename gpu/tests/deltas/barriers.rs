//! The purpose of each barrier of a thread block. (Votes between lanes stand beside most barriers
//! of warps; the emulator lets votes order what CUDA does not promise that they do.)

use df11::delta::{EncodeOptions, Method};
use df11_emulator::{Kind, Module};
use df11_gpu::kernels::DELTA_APPLY;
use df11_gpu_lab::delta::apply;

use crate::support::{Change, Sample, TYPES, base, changed, options, ways};

/// Finds the lines of a PTX text at which all threads wait for each other, counted from 0, and the
/// kernels that contain them.
fn barriers(text: &str) -> Vec<(usize, String)> {
    let (mut entry, mut found) = (String::new(), Vec::new());
    for (number, line) in text.lines().enumerate() {
        if let Some((_, rest)) = line.split_once(".entry ") {
            entry = rest.trim_end_matches('(').to_owned();
        } else if line.trim().starts_with("bar.sync") {
            found.push((number, entry.clone()));
        }
    }
    found
}

#[test]
fn every_barrier_of_thread_blocks_is_needed_and_is_missed() {
    let mut samples = Vec::new();
    for element_type in TYPES {
        let base = base(element_type, 5_000, 1);
        let new = changed(element_type, &base, Change::Near, 5);
        // Tables come and go.
        let coded = ways(element_type, 4096);
        for way in [coded[0], coded[1], EncodeOptions::new().method(Method::Frame)] {
            samples.push(Sample::new(way, element_type, &new, &base));
        }
    }
    let text = DELTA_APPLY[2].text;
    let barriers = barriers(text);
    assert!(barriers.len() >= 12, "{barriers:?}");
    for (line, entry) in barriers {
        let lines = text.lines().enumerate().filter(|(number, _)| *number != line);
        let lines: Vec<&str> = lines.map(|(_, line)| line).collect();
        let module = Module::parse(&lines.join("\n")).unwrap();
        let items: Vec<_> = samples.iter().map(Sample::item).collect();
        // One thread block takes several tensors. What it leaves may be wrong, and is not checked.
        let applied = apply(&module, &items, 1, 0, &options(0)).unwrap();
        let mut findings = applied.reports.iter().flat_map(|(_, report)| &report.findings);
        let is_race = |kind| matches!(kind, Kind::Race | Kind::RaceInWarp);
        assert!(
            findings.any(|finding| is_race(finding.kind)),
            "{entry}, without the barrier of line {}",
            line + 1
        );
    }
}
