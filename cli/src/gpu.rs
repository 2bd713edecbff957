//! `df11 devices`, `df11 gpu` and `df11 conformance run --ptx`: thin over the library for GPUs.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use comfy_table::{CellAlignment, Table, presets};
use df11_conformance::judge::{Case, Report};
use df11_conformance::vectors::{Outcome, Task, Test, Vectors, unit};
use df11_core::df11::Unit;
use df11_core::frame::Frame;
use df11_core::rans::DecodeTable;
use df11_emulator::{Kind, Module, Options};
use df11_gpu::emulate::{self, Shape};
use df11_gpu::report::{Row, Tools, rows};
use df11_gpu::{DeviceInfo, Emulation, Gpu, Target};
use df11_model::{Error, Stored, bf16_weights, for_each_stored};
use serde::Serialize;

/// Bytes of code of a block.
const BLOCK_BYTES: usize = 4096;

/// Weights that are run where no file says which.
const SHIPPED: usize = 400_000;

fn refused(error: &df11_gpu::Error) -> Error {
    Error::Usage(error.to_string())
}

/// A device, as `df11 devices` lists it.
#[derive(Serialize)]
pub(crate) struct ListedDevice {
    device: String,
    name: String,
    compute_capability: String,
    memory: usize,
    driver: String,
}

pub(crate) fn devices() -> Result<Vec<ListedDevice>, Error> {
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

pub(crate) fn list(devices: &[ListedDevice]) -> String {
    let mut out = "cpu       this machine's processor\nemulated  kernels on the processor, instruction by instruction\n".to_owned();
    for ListedDevice { device, name, compute_capability, memory, driver } in devices {
        let gigabytes = *memory as f64 / 1e9;
        let _ = writeln!(
            out,
            "{device:9} {name}, compute capability {compute_capability}, {gigabytes:.1} GB, driver for CUDA {driver}"
        );
    }
    if devices.is_empty() {
        out.push_str("No CUDA driver or no CUDA device was found.\n");
    }
    out
}

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

/// What a device made of a checkpoint.
#[derive(Serialize)]
pub(crate) struct CheckReport {
    device: String,
    name: String,
    units: usize,
    frames: usize,
    frames_not_compressed: usize,
    bytes: u64,
    /// Of the kernels alone, by the device's clock; nothing from the emulator.
    device_seconds: Option<f64>,
    seconds: f64,
}

impl CheckReport {
    pub(crate) fn to_text(&self) -> String {
        let CheckReport { device, name, units, frames, bytes, seconds, .. } = self;
        let mut out = format!(
            "{device} ({name}): {units} units and {frames} frames, {bytes} bytes of weights, the same as from the CPU, bit for bit\n"
        );
        match self.device_seconds {
            Some(time) => {
                let speed = *bytes as f64 / time / 1e9;
                let _ = writeln!(
                    out,
                    "kernels: {time:.4} s, {speed:.1} GB/s; with uploads and comparison {seconds:.1} s"
                );
            }
            None => {
                let _ = writeln!(out, "emulated in {seconds:.1} s, which says nothing about a card");
            }
        }
        out
    }
}

/// Decodes everything in a checkpoint on a device and on the CPU, and compares.
pub(crate) fn check(path: &Path, target: Target) -> Result<CheckReport, Error> {
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
        device_seconds: None,
        seconds: 0.0,
    };
    let (mut elapsed, mut failure) = (Duration::ZERO, None);
    for_each_stored(path, |file, name, stored| {
        if failure.is_some() {
            return;
        }
        match on_device(&gpu, stored) {
            Ok(None) => report.frames_not_compressed += 1,
            Ok(Some((found, expected, time))) if found == expected => {
                match stored {
                    Stored::Unit(_) => report.units += 1,
                    _ => report.frames += 1,
                }
                report.bytes += found.len() as u64;
                elapsed += time;
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
    report.device_seconds = (!gpu.is_emulated()).then_some(elapsed.as_secs_f64());
    report.seconds = started.elapsed().as_secs_f64();
    Ok(report)
}

/// What a device makes of a unit or frame, what it should, and how long the kernel took.
type Compared = (Vec<u8>, Vec<u8>, Duration);

/// Decodes a unit or frame on a device and here; nothing for frames of codec raw.
fn on_device(gpu: &Gpu, stored: Stored<'_>) -> Result<Option<Compared>, df11_gpu::Error> {
    let stream = gpu.stream();
    match stored {
        Stored::Unit(tensors) => {
            let unit = Unit::new(tensors)?;
            let mut expected = vec![0; 2 * unit.len()];
            unit.verify_blocks_into(0..unit.blocks(), &mut expected)?;
            let uploaded = gpu.upload(&tensors)?;
            let mut outputs = gpu.allocate(expected.len())?;
            let time = gpu.time(stream, || gpu.decode(stream, &uploaded, &mut outputs))?;
            Ok(Some((gpu.download(stream, &outputs)?, expected, time)))
        }
        Stored::Frame(bytes) => {
            let frame = Frame::new(bytes)?;
            if frame.header().frequencies().is_none() {
                return Ok(None);
            }
            let mut expected = vec![0; frame.elements_bytes()];
            frame.decode_into(&mut Box::new(DecodeTable::EMPTY), &mut expected)?;
            let uploaded = gpu.upload_frame(&frame)?;
            let mut outputs = gpu.allocate(expected.len())?;
            let time = gpu.time(stream, || gpu.decode_frame(stream, &uploaded, &mut outputs))?;
            Ok(Some((gpu.download(stream, &outputs)?, expected, time)))
        }
        _ => Ok(None),
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
        let valid = Unit::new(parts);
        let has_lengths = !matches!(
            valid,
            Err(df11_core::Error::GapsLength { .. }
                | df11_core::Error::PositionsLength { .. }
                | df11_core::Error::TablesLength { .. }
                | df11_core::Error::EmptyUnit)
        );
        if !has_lengths {
            continue;
        }
        let blocks = parts.encoded_exponent.len().div_ceil(BLOCK_BYTES).max(1);
        // As published loaders do it; for what is not valid, as much as they ever ask for.
        let shared =
            valid.map_or(df11_core::df11::PUBLISHED_SHARED_MEMORY, |unit| unit.shared_memory_bytes());
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
