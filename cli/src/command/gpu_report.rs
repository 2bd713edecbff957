//! `df11 gpu report`.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use comfy_table::Table;
use df11_gpu_lab::report::{Row, Tools, rows};
use df11_model::{Error, bf16_weights};
use serde::Serialize;

use super::demo;
use crate::output::{Output, Verdict};
use crate::render::plain_table;

#[derive(Args)]
pub(crate) struct ReportWork {
    /// A checkpoint or safetensors file whose BF16 weights are decoded. Without it, a part of the
    /// shipped weights is used.
    file: Option<PathBuf>,
    /// The published kernel: decode.ptx of the Python package dfloat11 (gpu/fetch_published.sh
    /// fetches it).
    #[arg(long, value_name = "PTX")]
    published: Option<PathBuf>,
    /// A folder with NVIDIA's ptxas and nvdisasm, for machine instructions and registers
    /// (gpu/ptx/build.sh fetches them to target/cuda).
    #[arg(long, value_name = "DIR")]
    tools: Option<PathBuf>,
}

impl ReportWork {
    pub(crate) fn run(self, output: &Output) -> Result<Verdict, Error> {
        let report = report(self.file.as_deref(), self.published.as_deref(), self.tools.as_deref())?;
        output.show(&report, || report.to_text())
    }
}

/// Reads the text of a kernel.
pub(crate) fn read_ptx(path: &Path) -> Result<String, Error> {
    let action = "cannot read";
    fs::read_to_string(path).map_err(|source| Error::Io { action, path: path.to_owned(), source })
}

/// The number of shipped weights that are run if no file is given.
const SHIPPED: usize = 400_000;

/// The work of the kernels.
#[derive(Serialize)]
struct GpuReport {
    source: String,
    rows: Vec<Row>,
}

/// Counts the work of the kernels on a file's weights, or on shipped ones.
pub(crate) fn count(
    file: Option<&Path>,
    published: Option<&Path>,
    tools: Option<&Path>,
) -> Result<Vec<Row>, Error> {
    let weights = match file {
        Some(path) => bf16_weights(path)?,
        None => {
            let mut weights = demo::weights()?;
            weights.truncate(2 * SHIPPED);
            weights
        }
    };
    let published = published.map(read_ptx).transpose()?;
    let tools = match tools {
        None => None,
        Some(folder) => Some(Tools::find(folder).ok_or_else(|| {
            Error::Usage(format!("there are no ptxas and nvdisasm in {} or below it", folder.display()))
        })?),
    };
    rows(&weights, published.as_deref(), tools.as_ref()).map_err(Error::Usage)
}

fn report(file: Option<&Path>, published: Option<&Path>, tools: Option<&Path>) -> Result<GpuReport, Error> {
    let rows = count(file, published, tools)?;
    let source = file.map_or("shipped weights".to_owned(), |path| path.display().to_string());
    Ok(GpuReport { source, rows })
}

impl GpuReport {
    fn to_text(&self) -> String {
        let mut table = Table::new();
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
        let weights = self.rows.first().map_or(0, |row| row.elements);
        let mut out = format!("{}: {weights} weights as one unit and as one frame\n", self.source);
        out += &plain_table(table, 2);
        out.push_str(
            "For each element: PTX instructions and (estimated) machine instructions, by warps; sectors of 32 bytes \
             read and written;\nwavefronts of shared memory, and those due to bank conflicts. Counted by the emulator: \
             these are not times.\n",
        );
        for row in &self.rows {
            for finding in &row.findings {
                let _ = writeln!(out, "{} ({}): {finding}", row.kernel, row.target);
            }
        }
        out
    }
}
