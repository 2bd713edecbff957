//! `df11 gpu bench --device emulated`: what cards could reach at most, computed from counted work.

use std::path::Path;

use comfy_table::Table;
use df11_gpu_lab::model::{CARDS, Limit, most};
use df11_gpu_lab::report::Row;
use df11_model::Error;
use serde::Serialize;

use super::gpu_report::count;
use crate::output::{Output, Verdict};
use crate::render::plain_table;

pub(crate) fn run(file: Option<&Path>, published: Option<&Path>, output: &Output) -> Result<Verdict, Error> {
    let report = ModelReport::new(count(file, published, None)?);
    output.show(&report, || report.to_text())
}

/// The work of the kernels, and the limits that follow from it.
#[derive(Serialize)]
struct ModelReport {
    /// No figure here was measured on a card.
    modelled: bool,
    work: Vec<Row>,
    limits: Vec<CardLimit>,
}

/// The most that a kernel can decode on a card.
#[derive(Serialize)]
struct CardLimit {
    card: &'static str,
    kernel: String,
    gigabytes_per_second: f64,
    limit: Limit,
}

impl ModelReport {
    fn new(work: Vec<Row>) -> Self {
        let limits = CARDS.iter().flat_map(|card| {
            let rows = work.iter().filter(|row| row.target == card.target || row.kernel == "published");
            rows.map(|row| {
                let (gigabytes_per_second, limit) = most(row, card);
                CardLimit { card: card.name, kernel: row.kernel.clone(), gigabytes_per_second, limit }
            })
        });
        let limits = limits.collect();
        ModelReport { modelled: true, work, limits }
    }

    fn to_text(&self) -> String {
        let mut kernels: Vec<&str> = Vec::new();
        for row in &self.work {
            if !kernels.contains(&&row.kernel[..]) {
                kernels.push(&row.kernel);
            }
        }
        let mut table = Table::new();
        table.set_header([&["GB/s of BF16, at most"][..], &kernels].concat());
        for card in &CARDS {
            let mut cells = vec![card.name.to_owned()];
            for kernel in &kernels {
                let found =
                    self.limits.iter().find(|limit| limit.card == card.name && limit.kernel == *kernel);
                cells.push(found.map_or("-".to_owned(), |limit| {
                    let by = match limit.limit {
                        Limit::Memory => "memory",
                        Limit::Wavefronts => "wavefronts",
                        _ => "instructions",
                    };
                    format!("{:.0} ({by})", limit.gigabytes_per_second)
                }));
            }
            table.add_row(cells);
        }
        let mut out = plain_table(table, 1);
        out.push_str(
            "Computed from what the emulator counted and from data sheets: nothing here was measured, and cards are slower.\n\
             In brackets is what limits the kernel. `df11 gpu report` shows the counts; docs/gpu.md, what cards reached.\n",
        );
        out
    }
}
