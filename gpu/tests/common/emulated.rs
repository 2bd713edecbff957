//! Options and checks of kernels in the emulator.

use df11_emulator::{Options, Policy, Report};

/// Makes options that depend on a number: the order of lanes, and the order of warps.
pub(crate) fn options(number: u64) -> Options {
    let policy = if number.is_multiple_of(2) { Policy::Together } else { Policy::Apart { seed: number } };
    Options { policy, order: number, ..Options::default() }
}

#[track_caller]
pub(crate) fn is_clean(report: &Report, what: &str) {
    let found: Vec<String> = report.findings.iter().map(ToString::to_string).collect();
    assert!(found.is_empty(), "{what}: {found:#?}");
}
