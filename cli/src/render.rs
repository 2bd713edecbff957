//! Text that several commands print.

use std::collections::BTreeMap;
use std::fmt::Write;

use comfy_table::{CellAlignment, Table, presets};
use df11::PUBLISHED_SHARED_MEMORY;
use df11_model::{FrameReport, PlainReport, UnitReport};

/// The number of entries that are listed by name. The rest is only counted.
pub(crate) const LISTED: usize = 20;

/// Lists the first names, and counts the others.
pub(crate) fn shortened(names: &[String]) -> String {
    let shown = names.iter().take(LISTED).map(String::as_str).collect::<Vec<_>>().join(", ");
    if names.len() > LISTED { format!("{shown} and {} more", names.len() - LISTED) } else { shown }
}

/// Summarizes the tensors that are stored as frames, in one line.
pub(crate) fn frame_summary(frames: &[FrameReport]) -> String {
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

/// Returns a table without lines, whose columns from `first_number` on are aligned to the right.
pub(crate) fn plain_table(mut table: Table, first_number: usize) -> String {
    table.load_style(presets::NOTHING);
    for column in table.column_iter_mut().skip(first_number) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
}

pub(crate) fn unit_table<'a>(units: impl Iterator<Item = &'a UnitReport>) -> String {
    let mut table = Table::new();
    table.set_header([
        "unit",
        "tensors",
        "weights",
        "BF16 bytes",
        "DF11 bytes",
        "ratio",
        "bits/weight",
        "bound",
    ]);
    let (mut tensors, mut elements, mut before, mut after, mut bound) = (0, 0, 0, 0, 0.0);
    let mut row = |name: &str, tensors: usize, elements: u64, before: u64, after: u64, bound: f64| {
        table.add_row([
            name.to_owned(),
            tensors.to_string(),
            grouped(elements),
            grouped(before),
            grouped(after),
            percent(after, before),
            format!("{:.3}", 8.0 * after as f64 / elements as f64),
            format!("{bound:.3}"),
        ]);
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
    plain_table(table, 1)
}

/// Lists what stayed plain: by type and reason, and by name where there are few.
pub(crate) fn plain_list(plain: &[PlainReport]) -> String {
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

pub(crate) fn shared_memory_notes<'a>(units: impl Iterator<Item = &'a UnitReport>) -> String {
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

pub(crate) fn percent(part: u64, whole: u64) -> String {
    if whole == 0 { "-".to_owned() } else { format!("{:.2} %", 100.0 * part as f64 / whole as f64) }
}

/// Formats a number with its digits in groups of three.
pub(crate) fn grouped(n: u64) -> String {
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
