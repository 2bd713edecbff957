//! `df11 gpu report` and `df11 conformance run --ptx`: thin over the library for GPUs.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use comfy_table::{CellAlignment, Table, presets};
use df11::{BLOCK_BYTES, PUBLISHED_SHARED_MEMORY, Unit};
use df11_emulator::{Kind, Module, Options};
use df11_gpu::emulate::{self, Shape};
use df11_gpu::report::{Row, Tools, rows};
use df11_judge::judge::{Case, Report};
use df11_judge::vectors::{Outcome, Task, Test, Vectors, unit};
use df11_model::{Error, bf16_weights};
use serde::Serialize;

/// Weights that are run where no file says which.
const SHIPPED: usize = 400_000;

/// What the kernels do.
#[derive(Serialize)]
pub(crate) struct GpuReport {
    source: String,
    rows: Vec<Row>,
}

pub(crate) fn report(
    file: Option<&Path>,
    published: Option<&Path>,
    tools: Option<&Path>,
) -> Result<GpuReport, Error> {
    let weights = match file {
        Some(path) => bf16_weights(path)?,
        None => {
            let mut weights = crate::bench::shipped()?;
            weights.truncate(2 * SHIPPED);
            weights
        }
    };
    let read = |path: &Path| {
        fs::read_to_string(path).map_err(|source| Error::Io {
            action: "cannot read",
            path: path.to_owned(),
            source,
        })
    };
    let published = published.map(read).transpose()?;
    let tools = match tools {
        None => None,
        Some(folder) => Some(Tools::find(folder).ok_or_else(|| {
            Error::Usage(format!("there are no ptxas and nvdisasm in {} or below it", folder.display()))
        })?),
    };
    let rows = rows(&weights, published.as_deref(), tools.as_ref()).map_err(Error::Usage)?;
    let source = file.map_or("shipped weights".to_owned(), |path| path.display().to_string());
    Ok(GpuReport { source, rows })
}

impl GpuReport {
    pub(crate) fn to_text(&self) -> String {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_header([
            "kernel",
            "target",
            "PTX",
            "machine",
            "registers",
            "shared",
            "lanes",
            "loads",
            "stores",
            "wavefronts",
            "conflicts",
            "findings",
        ]);
        for row in &self.rows {
            let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
            table.add_row([
                row.kernel.clone(),
                row.target.clone(),
                format!("{:.3}", row.ptx_instructions),
                or_dash(row.machine_instructions.map(|number| format!("{number:.3}"))),
                or_dash(row.registers.map(|number| number.to_string())),
                row.shared_bytes.to_string(),
                format!("{:.0} %", 100.0 * row.lane_efficiency),
                format!("{:.4}", row.load_sectors),
                format!("{:.4}", row.store_sectors),
                format!("{:.4}", row.shared_wavefronts),
                format!("{:.4}", row.shared_conflicts),
                row.findings.len().to_string(),
            ]);
        }
        for column in table.column_iter_mut().skip(2) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        let weights = self.rows.first().map_or(0, |row| row.elements);
        let mut out = format!("{}: {weights} weights as one unit and as one frame\n", self.source);
        for line in table.lines() {
            let _ = writeln!(out, "{}", line.trim_end());
        }
        out.push_str(
            "For each element: instructions of PTX and (estimated) of the machine by warps, sectors of 32 bytes that were read \
             and written,\nwavefronts of shared memory and those due to bank conflicts. Counted by the emulator: these are no \
             times.\n",
        );
        for row in &self.rows {
            for finding in &row.findings {
                let _ = writeln!(out, "{} ({}): {finding}", row.kernel, row.target);
            }
        }
        out
    }
}

/// A kernel of the published signature, to be judged in the emulator.
pub(crate) struct Judged {
    pub(crate) ptx: PathBuf,
    pub(crate) entry: String,
    pub(crate) threads: u32,
}

/// Gives a kernel every vector whose buffers are as long as its sizes say; the lengths of buffers are no affair of a kernel.
pub(crate) fn judge(judged: &Judged, filter: Option<&str>) -> Result<Report, Error> {
    let text = fs::read_to_string(&judged.ptx).map_err(|source| Error::Io {
        action: "cannot read",
        path: judged.ptx.clone(),
        source,
    })?;
    let module = Module::parse(&text)
        .map_err(|error| Error::File { path: judged.ptx.clone(), problem: error.to_string() })?;
    let vectors = Vectors::load().map_err(Error::Usage)?;
    let mut report = Report { cases: Vec::new() };
    for (task, test) in vectors.tests() {
        if task != Task::UnitDecode || filter.is_some_and(|filter| !test.id.contains(filter)) {
            continue;
        }
        let tensors = test.tensors().map_err(Error::Usage)?;
        let Some(parts) = unit(&tensors) else { continue };
        if !emulate::has_right_lengths(&parts) {
            continue;
        }
        let blocks = parts.encoded_exponent.len().div_ceil(BLOCK_BYTES).max(1);
        // As published loaders do it; for what is not valid, as much as they ever ask for.
        let shared = Unit::new(parts).map_or(PUBLISHED_SHARED_MEMORY, |unit| unit.shared_memory_bytes());
        let shape = Shape { threads: judged.threads, ..Shape::published(blocks, shared) };
        let started = Instant::now();
        // Many times what a block of real weights takes.
        let options = Options { most_steps: 2_000_000, ..Options::default() };
        let ran = emulate::unit(&module, &judged.entry, &parts, shape, 0, &options);
        let (found, ran) =
            ran.map_err(|error| Error::File { path: judged.ptx.clone(), problem: error.to_string() })?;
        report.cases.push(Case {
            id: test.id.clone(),
            task,
            comment: test.comment.clone(),
            clauses: test.clauses.clone(),
            failure: verdict(test, &found, &ran.findings).err(),
            refused: false,
            seconds: started.elapsed().as_secs_f64(),
        });
    }
    if report.cases.is_empty() {
        return Err(Error::Usage("no test was run: no vector has such a name".to_owned()));
    }
    Ok(report)
}

fn verdict(test: &Test, found: &[u8], findings: &[df11_emulator::Finding]) -> Result<(), String> {
    let is_valid = matches!(test.result, Outcome::Valid | Outcome::Acceptable);
    // What is not valid may leave anything undefined; it must not lead out of bounds or go on for ever.
    let counts = |kind: Kind| is_valid || !matches!(kind, Kind::UndefinedRead | Kind::UndefinedRegister);
    if let Some(finding) = findings.iter().find(|finding| counts(finding.kind)) {
        return Err(finding.to_string());
    }
    if is_valid && !test.is_answer(found) {
        return Err("gave other weights".to_owned());
    }
    Ok(())
}
