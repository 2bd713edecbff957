//! `df11 inspect`.

use std::fmt::Write;
use std::path::PathBuf;

use clap::Args;
use df11_model::{DeltaReport, Error, InspectReport, InspectedUnit, UnitReport, inspect};

use crate::output::{Output, Verdict};
use crate::render::{LISTED, frame_summary, grouped, percent, plain_list, shared_memory_notes, unit_table};

/// Width of the longest bar of a histogram, in characters.
const BAR: usize = 40;

#[derive(Args)]
pub(crate) struct Inspect {
    /// The file or directory.
    path: PathBuf,
    /// For plain checkpoints: a dictionary that says which tensors would form which units.
    #[arg(long, value_name = "FILE")]
    pattern_dict: Option<PathBuf>,
}

impl Inspect {
    pub(crate) fn run(self, output: &Output) -> Result<Verdict, Error> {
        let dict = super::read_dict(self.pattern_dict.as_deref())?;
        let report = inspect(&self.path, dict.as_ref(), output.threads)?;
        output.show(&report, || inspected(&report))
    }
}

fn inspected(report: &InspectReport) -> String {
    let mut out = String::new();
    match &report.units_from {
        Some(origin) => {
            let _ = writeln!(out, "not compressed; compression would give (units from {origin}):");
        }
        None => {
            let _ = writeln!(out, "compressed, {} bytes of weight files", grouped(report.file_bytes));
        }
    }
    if !report.units.is_empty() || (report.frames.is_empty() && report.deltas.is_empty()) {
        out += &unit_table(report.units.iter().map(|unit| &unit.unit));
    }
    out += &frame_summary(&report.frames);
    out += &delta_summary(report);
    out += &plain_list(&report.plain);
    out += &shared_memory_notes(report.units.iter().map(|unit| &unit.unit));
    for unit in report.units.iter().take(LISTED) {
        out += &geometry(unit);
    }
    if report.units.len() > LISTED {
        let _ = writeln!(out, "\n({} more units; --json has them all)", report.units.len() - LISTED);
    }
    out
}

/// Sums up the deltas: how much is equal to the base, and what a weight that is not takes.
fn delta_summary(report: &InspectReport) -> String {
    let mut out = String::new();
    let sum = |of: fn(&DeltaReport) -> u64| report.deltas.iter().map(of).sum::<u64>();
    let (elements, changed) = (sum(|delta| delta.elements), sum(|delta| delta.changed));
    let (before, after) = (sum(|delta| delta.bytes_before), sum(|delta| delta.bytes_after));
    if elements == 0 {
        return out;
    }
    let of_changed = match changed {
        0 => String::new(),
        _ => format!(", {:.2} bits for each weight that changed", 8.0 * after as f64 / changed as f64),
    };
    let _ = writeln!(
        out,
        "{} deltas: {} of {} weights are the base's; {} -> {} bytes ({}){of_changed}",
        report.deltas.len(),
        percent(elements - changed, elements),
        grouped(elements),
        grouped(before),
        grouped(after),
        percent(after, before),
    );
    for delta in report.deltas.iter().take(LISTED) {
        let DeltaReport { name, method, base, base_sha256, depth, .. } = delta;
        let size = percent(delta.bytes_after, delta.bytes_before);
        let _ = writeln!(
            out,
            "  {name}: {method}, {size}, against {base} (SHA-256 {base_sha256}), depth {depth}"
        );
    }
    if report.deltas.len() > LISTED {
        let _ = writeln!(out, "  ({} more deltas; --json has them all)", report.deltas.len() - LISTED);
    }
    out
}

/// Draws a unit's shape and its exponents.
fn geometry(unit: &InspectedUnit) -> String {
    let UnitReport { path, file, prefix_tables, longest_codeword, alphabet, .. } = &unit.unit;
    let mut out = format!(
        "\n{path} ({file})\n  {} bytes of code in {} blocks; {prefix_tables} prefix tables; {alphabet} exponents; codewords \
         up to {longest_codeword} bits; {} bytes of shared memory{}\n",
        grouped(unit.code_bytes),
        grouped(unit.blocks),
        grouped(unit.unit.shared_memory_bytes),
        if unit.short_output_positions { "; output_positions without its last entry" } else { "" },
    );
    let most = unit.frequencies.iter().copied().max().unwrap_or(0).max(1);
    let _ = writeln!(out, "  exponent  codeword  share");
    for (exponent, (&frequency, length)) in unit.frequencies.iter().zip(&unit.code_lengths).enumerate() {
        if frequency == 0 {
            continue;
        }
        let width = (frequency as f64 / most as f64 * BAR as f64).ceil() as usize;
        let share = percent(frequency, unit.unit.elements);
        let _ = writeln!(out, "  {exponent:>8}  {length:>3} bits  {share:>8} {}", "#".repeat(width));
    }
    out
}
