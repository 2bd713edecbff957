//! Reports as text.

use std::collections::BTreeMap;
use std::fmt::Write;

use comfy_table::{Cell, CellAlignment, Table, presets};
use df11::PUBLISHED_SHARED_MEMORY;
use df11_model::{
    CompressReport, DecompressReport, FrameReport, InspectReport, InspectedUnit, PlainReport,
    TranscodeReport, UnitReport, VerifyReport,
};

use crate::demo::DemoReport;

/// Width of the longest bar of a histogram, in characters.
const BAR: usize = 40;

/// Entries listed by name before the rest is only counted.
const LISTED: usize = 20;

pub(crate) fn transcoded(report: &TranscodeReport) -> String {
    format!(
        "{} elements of {}: {} -> {} bytes ({})\n",
        grouped(report.elements),
        report.element_type,
        grouped(report.bytes_before),
        grouped(report.bytes_after),
        percent(report.bytes_after, report.bytes_before),
    )
}

pub(crate) fn compressed(report: &CompressReport) -> String {
    let mut out = String::new();
    if report.nothing_to_gain {
        let _ = writeln!(out, "nothing to gain: nothing was written");
        out += &plain_list(&report.plain);
        out += &hint(report);
        return out;
    }
    if !report.units.is_empty() {
        let _ = writeln!(out, "units from {}", report.units_from);
    }
    for pattern in &report.unmatched_patterns {
        let _ = writeln!(out, "the pattern {pattern} matched no module");
    }
    if !report.units.is_empty() || report.frames.is_empty() {
        out += &unit_table(report.units.iter());
    }
    out += &frame_summary(&report.frames);
    out += &plain_list(&report.plain);
    for name in &report.copied_weights {
        let _ = writeln!(out, "copied as it is, since nothing would be gained: {name}");
    }
    out += &left_behind(report);
    out += &shared_memory_notes(report.units.iter());
    if report.kept_files > 0 {
        let _ =
            writeln!(out, "{} files of an earlier, unfinished run were checked and kept", report.kept_files);
    }
    out += &hint(report);
    let _ = writeln!(
        out,
        "weight files: {} -> {} bytes ({})",
        grouped(report.bytes_before),
        grouped(report.bytes_after),
        percent(report.bytes_after, report.bytes_before),
    );
    out
}

/// What another codec would give, if that is worth a line.
fn hint(report: &CompressReport) -> String {
    if report.codec == "auto" && report.units.is_empty() && !report.frames.is_empty() {
        return "frames, since DF11 units would save nothing here; only df11 reads them\n".to_owned();
    }
    if report.codec != "df11" || report.frames_would_save * 50 < report.bytes_before {
        return String::new();
    }
    let after = report.bytes_after.saturating_sub(report.frames_would_save);
    let percent = percent(after, report.bytes_before);
    format!("note: --codec auto would give about {percent} of the original, as frames that only df11 reads\n")
}

/// What was left out, a line each.
pub(crate) fn left_behind(report: &CompressReport) -> String {
    let line = |(name, why): &(String, String)| format!("not copied: {name} ({why})\n");
    report.left_behind.iter().map(line).collect()
}

pub(crate) fn decompressed(report: &DecompressReport) -> String {
    let what = if report.original_restored {
        "the original files, byte for byte: every SHA-256 matches"
    } else if report.recorded {
        "the weights, byte for byte; not all other files are as they were"
    } else {
        "plain tensors; the files carry no record of their originals"
    };
    let mut out = format!(
        "restored {} ({} bytes) from {} units: {what}\n",
        shortened(&report.files),
        grouped(report.bytes),
        report.units,
    );
    if report.kept_files > 0 {
        let _ = writeln!(out, "{} files were there already, and are as they should be", report.kept_files);
    }
    if !report.copied.is_empty() {
        let _ = writeln!(out, "copied, though nothing records them: {}", shortened(&report.copied));
    }
    for warning in &report.warnings {
        let _ = writeln!(out, "warning: {warning}");
    }
    out + &not_restored(report)
}

/// What did not come back, a line each.
pub(crate) fn not_restored(report: &DecompressReport) -> String {
    let mut out = String::new();
    for (name, why) in &report.left_out {
        let _ = writeln!(out, "not restored: {name} (left out by compression: {why})");
    }
    for (name, why) in &report.stays {
        let _ = writeln!(out, "stays behind: {name} ({why})");
    }
    out
}

/// The first names of a list, and how many more there are.
fn shortened(names: &[String]) -> String {
    let shown = names.iter().take(LISTED).map(String::as_str).collect::<Vec<_>>().join(", ");
    if names.len() > LISTED { format!("{shown} and {} more", names.len() - LISTED) } else { shown }
}

/// Tensors that are stored as frames, in one line.
fn frame_summary(frames: &[FrameReport]) -> String {
    if frames.is_empty() {
        return String::new();
    }
    let sum = |bytes: fn(&FrameReport) -> u64| frames.iter().map(bytes).sum();
    let (before, after): (u64, u64) = (sum(|frame| frame.bytes_before), sum(|frame| frame.bytes_after));
    format!(
        "{} tensors as frames: {} -> {} bytes ({})\n",
        frames.len(),
        grouped(before),
        grouped(after),
        percent(after, before),
    )
}

pub(crate) fn verified(report: &VerifyReport) -> String {
    let mut out = format!(
        "ok: {} units, {} weights decoded, every rule kept; {}{} plain tensors; {} digests match",
        report.units,
        grouped(report.elements),
        if report.frames > 0 { format!("{} frames; ", report.frames) } else { String::new() },
        report.plain_tensors,
        report.digests_checked,
    );
    if report.files_checked > 0 {
        let _ = write!(out, "; {} files are as recorded", report.files_checked);
    }
    if report.digests_missing > 0 {
        let _ = write!(out, "; {} tensors have none, so only the original can tell", report.digests_missing);
    }
    if let Some(compared) = report.compared {
        let _ = write!(out, "; {compared} tensors equal the original bit for bit");
    }
    out + "\n"
}

pub(crate) fn inspected(report: &InspectReport) -> String {
    let mut out = String::new();
    match &report.units_from {
        Some(origin) => {
            let _ = writeln!(out, "not compressed; compression would give (units from {origin}):");
        }
        None => {
            let _ = writeln!(out, "compressed, {} bytes of weight files", grouped(report.file_bytes));
        }
    }
    if !report.units.is_empty() || report.frames.is_empty() {
        out += &unit_table(report.units.iter().map(|unit| &unit.unit));
    }
    out += &frame_summary(&report.frames);
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

pub(crate) fn demo(report: &DemoReport) -> String {
    let mut out = compressed(&report.compress);
    out += &verified(&report.verify);
    let _ = writeln!(
        out,
        "restored: {} files identical ({})",
        report.identical.len(),
        report.identical.join(", ")
    );
    out
}

fn unit_table<'a>(units: impl Iterator<Item = &'a UnitReport>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(right([
        "unit",
        "tensors",
        "weights",
        "BF16 bytes",
        "DF11 bytes",
        "ratio",
        "bits/weight",
        "bound",
    ]));
    let (mut tensors, mut elements, mut before, mut after, mut bound) = (0, 0, 0, 0, 0.0);
    let mut row = |name: &str, tensors: usize, elements: u64, before: u64, after: u64, bound: f64| {
        table.add_row(right([
            name,
            &tensors.to_string(),
            &grouped(elements),
            &grouped(before),
            &grouped(after),
            &percent(after, before),
            &format!("{:.3}", 8.0 * after as f64 / elements as f64),
            &format!("{bound:.3}"),
        ]));
    };
    for unit in units {
        tensors += unit.tensors;
        elements += unit.elements;
        before += unit.bytes_before;
        after += unit.bytes_after;
        bound += unit.bound_bits_per_weight * unit.elements as f64;
        let (b, a) = (unit.bytes_before, unit.bytes_after);
        row(&unit.path, unit.tensors, unit.elements, b, a, unit.bound_bits_per_weight);
    }
    if elements == 0 {
        return "no units: nothing is compressed\n".to_owned();
    }
    row("total", tensors, elements, before, after, bound / elements as f64);
    let lines: Vec<_> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    lines.join("\n") + "\n"
}

/// A row with its first cell to the left and numbers to the right.
fn right<const N: usize>(cells: [&str; N]) -> Vec<Cell> {
    let align = |i| if i == 0 { CellAlignment::Left } else { CellAlignment::Right };
    cells.iter().enumerate().map(|(i, text)| Cell::new(text).set_alignment(align(i))).collect()
}

/// What stayed plain: by type and reason, and by name where there are few.
fn plain_list(plain: &[PlainReport]) -> String {
    let mut groups: BTreeMap<(&str, &str), Vec<&PlainReport>> = BTreeMap::new();
    for report in plain {
        groups.entry((&report.dtype, &report.reason)).or_default().push(report);
    }
    let mut out = String::new();
    for ((dtype, reason), reports) in groups {
        let bytes: u64 = reports.iter().map(|report| report.bytes).sum();
        let names: Vec<_> = reports.iter().take(3).map(|report| report.name.as_str()).collect();
        let more = if reports.len() > names.len() {
            format!(" and {} more", reports.len() - names.len())
        } else {
            String::new()
        };
        let _ =
            writeln!(out, "plain: {} bytes of {dtype}, {reason}: {}{more}", grouped(bytes), names.join(", "));
    }
    out
}

fn shared_memory_notes<'a>(units: impl Iterator<Item = &'a UnitReport>) -> String {
    let mut out = String::new();
    for unit in units.filter(|unit| unit.shared_memory_bytes > PUBLISHED_SHARED_MEMORY) {
        let bytes = grouped(unit.shared_memory_bytes);
        let _ = writeln!(
            out,
            "note: unit {} needs {bytes} bytes of shared memory; published GPU loaders cannot launch it",
            unit.path
        );
    }
    out
}

/// A unit's shape and its exponents, drawn.
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

fn percent(part: u64, whole: u64) -> String {
    if whole == 0 { "-".to_owned() } else { format!("{:.2} %", 100.0 * part as f64 / whole as f64) }
}

/// A number with its digits in groups of three.
fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_come_in_groups_of_three() {
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }
}
