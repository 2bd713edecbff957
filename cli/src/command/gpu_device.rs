//! `df11 devices`, `df11 gpu check` and `df11 gpu bench`. They exist only on Linux, where there are
//! drivers.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use comfy_table::Table;
use df11::Unit;
use df11::frame::{Codec, Frame};
use df11_gpu::bench::{Options, Row, UNIT_WEIGHTS, delta_rows, rows};
use df11_gpu::{DeviceInfo, Emulation, Gpu, Item, Target, why_no_driver};
use df11_model::{Error, Stored, bf16_pairs, bf16_weights, for_each_stored};
use serde::Serialize;

use super::gpu_report::read_ptx;
use super::{demo, gpu_model};
use crate::output::{Output, Verdict};
use crate::render::plain_table;

pub(crate) fn list_devices(output: &Output) -> Result<Verdict, Error> {
    let devices = devices()?;
    output.show(&devices, || list(&devices))
}

#[derive(Args)]
pub(crate) struct Check {
    /// The compressed checkpoint.
    path: PathBuf,
    /// The device that decodes: cuda:N or emulated.
    #[arg(long, default_value = "cuda:0")]
    device: Target,
}

impl Check {
    pub(crate) fn run(self, output: &Output) -> Result<Verdict, Error> {
        let report = check(&self.path, self.device)?;
        output.show(&report, || report.to_text())
    }
}

#[derive(Args)]
pub(crate) struct BenchCard {
    /// A checkpoint or safetensors file whose BF16 weights are decoded. Without it, the shipped
    /// weights are used.
    file: Option<PathBuf>,
    /// The device: cuda:N, whose kernels are timed; or emulated, where their work is counted, and
    /// the limits of some cards are computed from that.
    #[arg(long, default_value = "cuda:0")]
    device: Target,
    /// Decode at least this many bytes of weights in each repetition. The weights of the file are
    /// copied to reach this size.
    #[arg(long, value_name = "BYTES", default_value_t = 1_000_000_000)]
    at_least: usize,
    /// The number of times that each kernel is timed.
    #[arg(long, value_name = "N", default_value_t = 20)]
    repetitions: usize,
    /// Time other numbers of thread blocks, units of other sizes, and parts at other addresses as
    /// well.
    #[arg(long)]
    thorough: bool,
    /// The published kernel, to time it as well: decode.ptx of the Python package dfloat11
    /// (gpu/fetch_published.sh fetches it).
    #[arg(long, value_name = "PTX")]
    published: Option<PathBuf>,
    /// Time an update instead: deltas of all BF16 tensors of FILE against those of this checkpoint,
    /// applied in place. The result is compared with FILE, which is all that an emulated device
    /// does.
    #[arg(long, requires = "file", conflicts_with_all = ["thorough", "published"])]
    base: Option<PathBuf>,
}

impl BenchCard {
    pub(crate) fn run(self, output: &Output) -> Result<Verdict, Error> {
        if self.device == Target::Emulated && self.base.is_none() {
            return gpu_model::run(self.file.as_deref(), self.published.as_deref(), output);
        }
        let report = self.bench()?;
        output.show(&report, || report.to_text())
    }
}

fn refused(error: &df11_gpu::Error) -> Error {
    Error::Usage(error.to_string())
}

/// A device, as `df11 devices` lists it.
#[derive(Serialize)]
struct ListedDevice {
    device: String,
    name: String,
    compute_capability: String,
    memory: usize,
    driver: String,
}

fn devices() -> Result<Vec<ListedDevice>, Error> {
    let listed = |info: DeviceInfo| ListedDevice {
        device: Target::Cuda(info.number).to_string(),
        name: info.name,
        compute_capability: format!("{}.{}", info.capability.0, info.capability.1),
        memory: info.memory,
        driver: format!("{}.{}", info.driver.0, info.driver.1),
    };
    df11_gpu::devices()
        .map(|devices| devices.into_iter().map(listed).collect())
        .map_err(|error| refused(&error))
}

fn list(devices: &[ListedDevice]) -> String {
    let mut out = "cpu       this machine's processor\n\
                   emulated  runs the kernels on the CPU, instruction by instruction\n"
        .to_owned();
    for ListedDevice { device, name, compute_capability, memory, driver } in devices {
        let gigabytes = *memory as f64 / 1e9;
        let _ = writeln!(
            out,
            "{device:9} {name}, compute capability {compute_capability}, {gigabytes:.1} GB, driver for CUDA {driver}"
        );
    }
    if devices.is_empty() {
        let why = why_no_driver().map_or(String::new(), |reason| format!(": {reason}"));
        let _ = writeln!(out, "No CUDA driver or no CUDA device was found{why}.");
    }
    out
}

/// The result of decoding a checkpoint on a device.
#[derive(Serialize)]
struct CheckReport {
    device: String,
    name: String,
    units: usize,
    frames: usize,
    frames_not_compressed: usize,
    bytes: u64,
    /// The time of uploads, decoding on both sides and comparison. It does not measure a kernel.
    seconds: f64,
}

impl CheckReport {
    fn to_text(&self) -> String {
        let CheckReport { device, name, units, frames, bytes, seconds, .. } = self;
        format!(
            "{device} ({name}): {units} units and {frames} frames, {bytes} bytes of weights, equal to those from the CPU, \
             bit for bit\nThe whole check took {seconds:.1} s; this is not a measurement of the device.\n"
        )
    }
}

/// Decodes all units and frames of a checkpoint on a device and on the CPU, and compares the
/// results.
fn check(path: &Path, target: Target) -> Result<CheckReport, Error> {
    let gpu = match target {
        Target::Cuda(number) => Gpu::open(number),
        Target::Emulated => Gpu::emulated(Emulation::default()),
        Target::Cpu => return Err(Error::Usage("the CPU is what devices are compared with".to_owned())),
    };
    let gpu = gpu.map_err(|error| refused(&error))?;
    let started = Instant::now();
    let mut report = CheckReport {
        device: target.to_string(),
        name: gpu.info().name.clone(),
        units: 0,
        frames: 0,
        frames_not_compressed: 0,
        bytes: 0,
        seconds: 0.0,
    };
    let mut failure = None;
    for_each_stored(path, |file, name, stored| {
        if failure.is_some() {
            return;
        }
        match on_device(&gpu, stored) {
            Ok(None) => report.frames_not_compressed += 1,
            Ok(Some((found, expected))) if found == expected => {
                match stored {
                    Stored::Unit(_) => report.units += 1,
                    _ => report.frames += 1,
                }
                report.bytes += found.len() as u64;
            }
            Ok(Some(_)) => {
                failure = Some(format!("{file}: {name}: the device gives other weights; please report this"))
            }
            Err(error) => failure = Some(format!("{file}: {name}: {error}")),
        }
    })?;
    if let Some(problem) = failure {
        return Err(Error::File { path: path.to_owned(), problem });
    }
    report.seconds = started.elapsed().as_secs_f64();
    Ok(report)
}

/// The bytes that a device decoded from a unit or frame, and the expected bytes.
type Compared = (Vec<u8>, Vec<u8>);

/// Decodes a unit or frame on a device and on the CPU. `None` for frames of codec raw.
fn on_device(gpu: &Gpu, stored: Stored<'_>) -> Result<Option<Compared>, df11_gpu::Error> {
    match stored {
        Stored::Unit(tensors) => {
            let unit = Unit::new(tensors)?;
            let mut expected = vec![0; 2 * unit.len()];
            unit.verify_blocks_into(0..unit.blocks(), &mut expected)?;
            let uploaded = gpu.upload(&tensors)?;
            Ok(Some((gpu.decode_to_host(Item::Unit(&uploaded))?, expected)))
        }
        Stored::Frame(bytes) => {
            let frame = Frame::new(bytes)?;
            if frame.header().codec() == Codec::Raw {
                return Ok(None);
            }
            let mut expected = vec![0; frame.elements_bytes()];
            frame.decode_into(&mut expected)?;
            let uploaded = gpu.upload_frame(&frame)?;
            Ok(Some((gpu.decode_to_host(Item::Frame(&uploaded))?, expected)))
        }
        _ => Ok(None),
    }
}

/// The result of timing a card.
#[derive(Serialize)]
struct BenchReport {
    device: String,
    name: String,
    driver: String,
    version: &'static str,
    /// The time that it took to load all kernels that decode.
    loading: f64,
    /// The sources that the driver compiled from PTX, since it took nothing assembled.
    compiled: Vec<&'static str>,
    rows: Vec<Row>,
}

impl BenchReport {
    fn to_text(&self) -> String {
        let BenchReport { device, name, driver, version, loading, compiled, rows } = self;
        let mut out = format!("{device} ({name}), driver for CUDA {driver}, df11 {version}\n");
        let how = if compiled.is_empty() {
            "(assembled before)".to_owned()
        } else {
            format!("({} compiled by the driver)", compiled.join(", "))
        };
        let _ = writeln!(out, "kernels loaded {how} in {:.0} ms", 1000.0 * loading);
        let mut table = Table::new();
        table.set_header(["", "size", "GB/s", "least", "most", "repetitions"]);
        for row in rows {
            let rate = |seconds: Option<&f64>| {
                seconds
                    .filter(|seconds| **seconds > 0.0)
                    .map_or("-".to_owned(), |seconds| format!("{:.1}", row.bytes as f64 / seconds / 1e9))
            };
            table.add_row([
                row.name.clone(),
                format!("{:.2} %", 100.0 * row.size),
                row.median().map_or("-".to_owned(), |rate| format!("{:.1}", rate / 1e9)),
                rate(row.seconds.last()),
                rate(row.seconds.first()),
                row.seconds.len().to_string(),
            ]);
        }
        out += &plain_table(table, 1);
        out.push_str(
            "GB/s of BF16 by events on the device, medians; all results are compared with the source first.\n\
             A decoder that reads a byte for each exponent is no faster than the merge.\n",
        );
        out
    }
}

impl BenchCard {
    /// Times every kernel on a card, or an update.
    fn bench(&self) -> Result<BenchReport, Error> {
        if self.repetitions == 0 {
            return Err(Error::Usage("there is nothing to measure: no repetitions".to_owned()));
        }
        let gpu = match self.device {
            Target::Cuda(number) => Gpu::open(number),
            Target::Emulated => Gpu::emulated(Emulation::default()),
            Target::Cpu => {
                return Err(Error::Usage("cpu is no card; `df11 bench` measures the CPU".to_owned()));
            }
        };
        let gpu = gpu.map_err(|error| refused(&error))?;
        let started = Instant::now();
        gpu.load().map_err(|error| refused(&error))?;
        let loading = started.elapsed().as_secs_f64();
        let rows = match (&self.file, &self.base) {
            (Some(file), Some(base)) => self.of_update(&gpu, file, base)?,
            _ => self.of_decoding(&gpu)?,
        };
        let info = gpu.info();
        Ok(BenchReport {
            device: self.device.to_string(),
            name: info.name.clone(),
            driver: format!("{}.{}", info.driver.0, info.driver.1),
            version: env!("CARGO_PKG_VERSION"),
            loading,
            compiled: gpu.compiled(),
            rows,
        })
    }

    fn of_decoding(&self, gpu: &Gpu) -> Result<Vec<Row>, Error> {
        let weights = match &self.file {
            Some(path) => bf16_weights(path)?,
            None => demo::weights()?,
        };
        if weights.is_empty() {
            return Err(Error::Usage("there is nothing to measure: no BF16 weights".to_owned()));
        }
        let published = self.published.as_deref().map(read_ptx).transpose()?;
        let mut options = Options::default();
        options.at_least = self.at_least;
        options.repetitions = self.repetitions;
        options.thorough = self.thorough;
        options.unit_weights = if self.thorough { &UNIT_WEIGHTS } else { &[] };
        options.published = published.as_deref();
        rows(gpu, &weights, &options).map_err(|error| refused(&error))
    }

    fn of_update(&self, gpu: &Gpu, file: &Path, base: &Path) -> Result<Vec<Row>, Error> {
        let pairs = bf16_pairs(file, base)?;
        let both: Vec<(&[u8], &[u8])> = pairs.iter().map(|pair| (&*pair.new, &*pair.base)).collect();
        let mut options = Options::default();
        // The times of an emulated device say nothing, so it only applies and compares.
        (options.at_least, options.repetitions) =
            if gpu.is_emulated() { (0, 0) } else { (self.at_least, self.repetitions) };
        delta_rows(gpu, &both, &options).map_err(|error| match error {
            df11_gpu::Error::Different { item } => {
                let name = pairs.get(item % pairs.len().max(1)).map_or("", |pair| &pair.name);
                let problem = "the device gives something else than the file; please report this";
                Error::File { path: file.to_owned(), problem: format!("{name}: {problem}") }
            }
            other => refused(&other),
        })
    }
}
