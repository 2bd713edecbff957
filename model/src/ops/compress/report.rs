//! The report of a compression.

use std::collections::BTreeSet;

use super::layout::{self, Layout};
use super::scan::Scan;
use super::write::Written;
use super::{Codec, Job};
use crate::checkpoint::Weights;
use crate::ops::report::{CompressReport, FrameReport, PlainReport};
use crate::partition::Units;

/// The data that a report is made from.
pub(super) struct Report<'a> {
    pub(super) job: &'a Job<'a>,
    pub(super) units: &'a [Units],
    pub(super) scan: &'a Scan,
    pub(super) layout: &'a Layout<'a>,
    pub(super) codec: Codec,
}

impl Report<'_> {
    /// Makes the report of a run that wrote nothing.
    pub(super) fn without_gain(&self) -> CompressReport {
        let mut report = self.empty();
        report.nothing_to_gain = true;
        report.bytes_after = report.bytes_before;
        let all = self.job.lots.iter().flat_map(Weights::iter);
        let plain = all.map(|(_, tensor)| self.plain(&tensor.name, tensor.dtype, tensor.bytes()));
        report.plain = plain.flatten().collect();
        self.add_refused(&mut report);
        report
    }

    /// Makes the report of a run that wrote these files.
    pub(super) fn of(&self, written: Vec<Written>) -> CompressReport {
        let mut report = self.empty();
        for (file, plan) in written.into_iter().zip(&self.layout.files) {
            let lot = &self.job.lots[plan.lot];
            report.bytes_after += file.record.bytes;
            report.kept_files += usize::from(file.kept);
            let shown = if self.job.to_file {
                crate::names::file_name(self.job.output)
            } else {
                file.record.name.clone()
            };
            for (unit, largest) in plan.units.iter().zip(file.largest_blocks) {
                report.units.push(unit.report(largest, &shown));
            }
            for (name, bytes_after) in file.frames {
                if let Some((_, tensor)) = lot.get(&name) {
                    let (dtype, bytes_before) = (tensor.dtype.to_string(), tensor.bytes());
                    report.frames.push(FrameReport { name, dtype, bytes_before, bytes_after });
                }
            }
            for name in file.plain {
                if let Some((_, tensor)) = lot.get(&name) {
                    report.plain.extend(self.plain(&name, tensor.dtype, tensor.bytes()));
                }
            }
        }
        for (i, lot) in self.job.lots.iter().enumerate().filter(|(i, _)| self.layout.copied[*i]) {
            let _ = i;
            report.copied_weights.extend(lot.files.iter().map(|file| file.name.clone()));
            report.bytes_after += lot.files.iter().map(|file| file.container.len).sum::<u64>();
            let plain = lot.iter().map(|(_, tensor)| self.plain(&tensor.name, tensor.dtype, tensor.bytes()));
            report.plain.extend(plain.flatten());
        }
        self.add_refused(&mut report);
        report
    }

    fn empty(&self) -> CompressReport {
        let given = self.job.options.pattern_dict.is_some();
        let unmatched =
            |pattern: &&String| self.units.iter().all(|units| units.unmatched.contains(pattern)) && given;
        let first = self.units.first();
        let mut seen = BTreeSet::new();
        let files = self.job.lots.iter().flat_map(|lot| &lot.files);
        let bytes = files.filter(|file| seen.insert(&file.name)).map(|file| file.container.len);
        CompressReport {
            units_from: first.map(|units| units.origin.clone()).unwrap_or_default(),
            unmatched_patterns: first
                .map(|units| units.unmatched.iter().filter(unmatched).cloned().collect())
                .unwrap_or_default(),
            codec: match self.codec {
                Codec::Rans => "rans",
                Codec::Fast => "fast",
                Codec::Auto => "auto",
                _ => "df11",
            }
            .to_owned(),
            units: Vec::new(),
            frames: Vec::new(),
            plain: Vec::new(),
            copied_weights: Vec::new(),
            left_behind: self.left_behind(),
            kept_files: 0,
            bytes_before: bytes.sum(),
            bytes_after: 0,
            frames_would_save: self.layout.could_save,
            nothing_to_gain: false,
        }
    }

    fn left_behind(&self) -> Vec<(String, String)> {
        let left = self.job.source.left_out.iter();
        let mut all: Vec<_> = left.map(|left| (left.name.display().to_string(), left.why.clone())).collect();
        if self.job.to_file {
            let others = self.job.source.others.iter();
            all.extend(others.map(|name| (name.display().to_string(), "the output is one file".to_owned())));
        }
        debug_assert_eq!(self.scan.others.len(), self.job.source.others.len());
        all
    }

    /// Reports a tensor that stays plain, unless its unit is reported as a whole.
    fn plain(&self, name: &str, dtype: safetensors::Dtype, bytes: u64) -> Option<PlainReport> {
        if self.layout.in_refused.contains(name) {
            return None;
        }
        let known = self.layout.why.get(name).cloned();
        let reason = known.unwrap_or_else(|| layout::reason(self.codec, dtype).to_owned());
        Some(PlainReport { name: name.to_owned(), dtype: dtype.to_string(), bytes, reason })
    }

    fn add_refused(&self, report: &mut CompressReport) {
        for (name, bytes, reason) in &self.layout.refused {
            let (name, dtype, reason) = (name.clone(), "BF16".to_owned(), reason.clone());
            report.plain.push(PlainReport { name, dtype, bytes: *bytes, reason });
        }
        layout::by_name(&mut report.units, |unit| &unit.path);
        layout::by_name(&mut report.frames, |frame| &frame.name);
        layout::by_name(&mut report.plain, |plain| &plain.name);
    }
}
