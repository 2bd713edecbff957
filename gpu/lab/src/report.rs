//! Counts the work of the kernels, beside the published one.
//!
//! None of the figures is a time. The emulator counts PTX instructions and memory accesses. With
//! NVIDIA's assembler, each line of PTX is also weighted by the machine instructions that it
//! became. This is an estimate, since the assembler moves, merges and copies lines. Code that is
//! reached only when lanes have diverged where they should not (behind `BRA.DIV`) is left out.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use df11::frame::{self, ElementType, Frame};
use df11::{Unit, delta};
use df11_emulator::{Counters, Module, Options, Report};
use serde::Serialize;

use crate::delta::{Item, apply};
use crate::emulate::{self, Shape};
use df11_gpu::delta::Upload;
use df11_gpu::kernels::{DELTA_APPLY, DF11_DECODE, FAST_DECODE, RANS_DECODE, WARPS};

/// The number of thread blocks, as on a card of 132 multiprocessors.
const THREAD_BLOCKS: u32 = 528;

/// The work of one kernel, for each element.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Row {
    /// The kernel; `published` is `decode` of the package `dfloat11`.
    pub kernel: String,
    /// The target that it was compiled for, such as `sm_90`.
    pub target: String,
    /// The number of decoded elements.
    pub elements: usize,
    /// Bytes of the encoded weights.
    pub stored_bytes: f64,
    /// PTX instructions, counted by warps.
    pub ptx_instructions: f64,
    /// Estimated machine instructions, counted by warps; `None` without an assembler.
    pub machine_instructions: Option<f64>,
    /// The number of registers of a thread.
    pub registers: Option<u32>,
    /// Bytes of shared memory of a thread block.
    pub shared_bytes: usize,
    /// The share of active lanes.
    pub lane_efficiency: f64,
    /// The number of 32-byte sectors read.
    pub load_sectors: f64,
    /// The number of 32-byte sectors written.
    pub store_sectors: f64,
    /// Wavefronts of shared memory.
    pub shared_wavefronts: f64,
    /// Wavefronts above the minimum: those caused by bank conflicts.
    pub shared_conflicts: f64,
    /// The faults of the kernel, ordered by line.
    pub findings: Vec<String>,
}

/// NVIDIA's assembler and disassembler.
#[derive(Clone, Debug)]
pub struct Tools {
    ptxas: PathBuf,
    nvdisasm: PathBuf,
}

impl Tools {
    /// Finds both tools in a folder, or in folders below it; `None` if one is missing.
    #[must_use]
    pub fn find(folder: &Path) -> Option<Self> {
        Some(Tools { ptxas: find(folder, "ptxas")?, nvdisasm: find(folder, "nvdisasm")? })
    }

    /// Returns the machine instructions for each line of PTX, and the registers of a thread.
    fn assemble(&self, text: &str, target: &str, entry: &str) -> Result<(BTreeMap<usize, u64>, u32), String> {
        let folder = std::env::temp_dir().join(format!("df11-report-{}", std::process::id()));
        fs::create_dir_all(&folder).map_err(|error| format!("cannot make {}: {error}", folder.display()))?;
        let result = self.assemble_in(&folder, text, target, entry);
        let _ = fs::remove_dir_all(&folder);
        result
    }

    fn assemble_in(
        &self,
        folder: &Path,
        text: &str,
        target: &str,
        entry: &str,
    ) -> Result<(BTreeMap<usize, u64>, u32), String> {
        let (ptx, cubin) = (folder.join("kernel.ptx"), folder.join("kernel.cubin"));
        fs::write(&ptx, text).map_err(|error| format!("cannot write {}: {error}", ptx.display()))?;
        let architecture = format!("-arch={target}");
        let said = run(Command::new(&self.ptxas)
            .args(["-v", "-lineinfo", &architecture, "-o"])
            .args([&cubin, &ptx]))?;
        let mut registers = 0;
        let mut is_ours = false;
        for line in said.lines() {
            if let Some((_, rest)) = line.split_once("Compiling entry function '") {
                is_ours = rest.starts_with(&format!("{entry}'"));
            } else if let (true, Some((_, rest))) = (is_ours, line.split_once("Used ")) {
                registers = rest.split(' ').next().and_then(|number| number.parse().ok()).unwrap_or(0);
            }
        }
        let code = run(Command::new(&self.nvdisasm).arg("-gp").arg(&cubin))?;
        Ok((by_line(&code, entry), registers))
    }
}

fn find(folder: &Path, name: &str) -> Option<PathBuf> {
    let direct = folder.join(name);
    if direct.is_file() {
        return Some(direct);
    }
    let entries = fs::read_dir(folder).ok()?.filter_map(Result::ok);
    let mut folders = entries.map(|entry| entry.path()).filter(|path| path.is_dir() && !path.is_symlink());
    folders.find_map(|folder| find(&folder, name))
}

/// Runs a program, and returns its output.
fn run(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|error| format!("cannot start {command:?}: {error}"))?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    if output.status.success() { Ok(said) } else { Err(format!("{command:?} failed: {said}")) }
}

/// Returns the machine instructions of a kernel for each line of PTX that they come from. It counts
/// those that can be reached while lanes have not diverged.
fn by_line(code: &str, entry: &str) -> BTreeMap<usize, u64> {
    let (mut is_ours, mut line) = (false, None);
    let mut instructions: Vec<(&str, Option<usize>)> = Vec::new();
    let mut labels: BTreeMap<&str, usize> = BTreeMap::new();
    for text in code.lines() {
        let trimmed = text.trim();
        if let Some(name) = trimmed.strip_prefix(".text.") {
            is_ours = name.trim_end_matches(':') == entry;
            line = None;
        } else if trimmed.starts_with("//---") {
            is_ours = false;
        } else if !is_ours {
        } else if let Some((_, number)) = trimmed.split_once("nv_debug_ptx_txt\", line ") {
            line = number.split(|c: char| !c.is_ascii_digit()).next().and_then(|number| number.parse().ok());
        } else if let Some(label) = trimmed.strip_suffix(':') {
            labels.insert(label, instructions.len());
        } else if let Some(instruction) = trimmed.strip_prefix("/*").and_then(|rest| rest.split("*/").nth(1))
        {
            let instruction = instruction.trim().trim_end_matches(';').trim();
            if !instruction.is_empty() {
                instructions.push((instruction, line));
            }
        }
    }
    let (mut reached, mut next) = (BTreeSet::new(), vec![0]);
    while let Some(at) = next.pop() {
        let Some((instruction, _)) = instructions.get(at) else { continue };
        if !reached.insert(at) {
            continue;
        }
        let (guard, name) = match instruction.split_once(' ') {
            Some((guard, rest)) if guard.starts_with('@') => (true, rest.trim_start()),
            _ => (false, *instruction),
        };
        let is_branch = name.starts_with("BRA");
        let target = name.split_once("`(").and_then(|(_, rest)| labels.get(rest.split(')').next()?)).copied();
        if is_branch && !name.starts_with("BRA.DIV") {
            next.extend(target);
        }
        // A branch may have its condition among its operands.
        let has_condition =
            guard || name.split_once(' ').is_some_and(|(_, operands)| !operands.trim().starts_with('`'));
        let goes_on =
            !(is_branch || name.starts_with("EXIT")) || has_condition || name.starts_with("BRA.DIV");
        if goes_on {
            next.push(at + 1);
        }
    }
    let mut found = BTreeMap::new();
    for at in reached {
        if let (instruction, Some(line)) = instructions[at]
            && instruction != "NOP"
        {
            *found.entry(line).or_insert(0) += 1;
        }
    }
    found
}

/// Reports the work of the kernels for all targets on these BF16 weights, as one unit and as one
/// frame, and that of the published kernel on the same unit, if its text is given.
///
/// # Errors
///
/// An error for weights that cannot be encoded, run or assembled, and for a kernel that gives other
/// weights.
pub fn rows(weights: &[u8], published: Option<&str>, tools: Option<&Tools>) -> Result<Vec<Row>, String> {
    let core = |error: df11::Error| error.to_string();
    let encoded = df11::encode(weights).map_err(core)?;
    let tensors = encoded.as_slices();
    let stored = tensors.into_array().iter().map(|part| part.len()).sum();
    let elements = weights.len() / 2;
    let options = Options { most_steps: u64::from(u32::MAX - 1), ..Options::default() };
    let mut rows = Vec::new();
    let mut add = |kernel: &str,
                   stored: usize,
                   text: &str,
                   entry: &str,
                   module: &Module,
                   (found, report): (Vec<u8>, Report)| {
        if found != weights {
            return Err(format!("{kernel} for {} gives other weights; please report this", module.target()));
        }
        // A target that assemblers no longer support is replaced by the oldest supported one.
        let target = module.target();
        let card = if kernel == "published" { "sm_90" } else { target };
        let machine = tools.map(|tools| tools.assemble(text, card, entry)).transpose()?;
        let row = row(kernel, card, elements, entry, module, &report, machine.as_ref());
        rows.push(Row { stored_bytes: stored as f64 / elements as f64, ..row });
        Ok(())
    };
    let thread_blocks = |blocks: usize| u32::try_from(blocks).map_or(THREAD_BLOCKS, |n| n.min(THREAD_BLOCKS));

    let unit = Unit::new(tensors).map_err(core)?;
    if let Some(text) = published {
        let module = Module::parse(text).map_err(|error| error.to_string())?;
        let shape = Shape::published(unit.blocks(), unit.shared_memory_bytes());
        let result = emulate::unit(&module, "decode", &tensors, shape, 0, &options);
        add("published", stored, text, "decode", &module, result.map_err(|error| error.to_string())?)?;
    }
    for ptx in DF11_DECODE {
        let module = Module::parse(ptx.text).map_err(|error| error.to_string())?;
        let shape = Shape::ours(thread_blocks(unit.blocks()));
        let result = emulate::unit(&module, "df11_decode", &tensors, shape, 0, &options);
        add(
            "df11_decode",
            stored,
            ptx.text,
            "df11_decode",
            &module,
            result.map_err(|error| error.to_string())?,
        )?;
        let result = emulate::units(&module, &[tensors], thread_blocks(unit.blocks()), 0, &options);
        let (found, _, report) = result.map_err(|error| error.to_string())?;
        let found = found.concat();
        add("df11_decode_batch", stored, ptx.text, "df11_decode_batch", &module, (found, report))?;
    }

    let bytes = frame::encode(ElementType::Bf16, &[elements as u64], weights).map_err(core)?;
    let frame = Frame::new(&bytes).map_err(core)?;
    let Some(frequencies) = frame.header().frequencies() else { return Ok(rows) };
    let (blocks, kind) = emulate::frame_blocks(&frame).map_err(core)?;
    for ptx in RANS_DECODE {
        let module = Module::parse(ptx.text).map_err(|error| error.to_string())?;
        let grid = thread_blocks(blocks.len().div_ceil(WARPS as usize));
        let result =
            emulate::rans(&module, &bytes, &blocks, frequencies, kind, weights.len(), grid, &options);
        let (found, _, report) = result.map_err(|error| error.to_string())?;
        add("rans_decode", bytes.len(), ptx.text, "rans_decode", &module, (found, report))?;
    }

    let options_of_frame = frame::EncodeOptions::new().codec(frame::Codec::Dictionary);
    let bytes = options_of_frame.encode(ElementType::Bf16, &[elements as u64], weights).map_err(core)?;
    let frame = Frame::new(&bytes).map_err(core)?;
    let Some(item) = emulate::DictionaryFrame::new(&frame).map_err(core)? else { return Ok(rows) };
    for ptx in FAST_DECODE {
        let module = Module::parse(ptx.text).map_err(|error| error.to_string())?;
        let grid = thread_blocks(item.counts.len().div_ceil(WARPS as usize));
        let result = emulate::dictionaries(&module, std::slice::from_ref(&item), grid, 0, &options);
        let (found, _, report) = result.map_err(|error| error.to_string())?;
        add(
            "fast_decode_batch",
            bytes.len(),
            ptx.text,
            "fast_decode_batch",
            &module,
            (found.concat(), report),
        )?;
    }
    Ok(rows)
}

/// Reports the work of the kernels that apply a delta, for all targets: of BF16 weights and those
/// that they are made of. The last row of a target, `update`, is all of it: the bytes that it reads
/// are those of the delta, and the weights three times.
///
/// # Errors
///
/// The errors of [`rows`].
pub fn delta_rows(new: &[u8], base: &[u8], tools: Option<&Tools>) -> Result<Vec<Row>, String> {
    let bytes = delta::encode(ElementType::Bf16, new, base).map_err(|error| error.to_string())?;
    let elements = new.len() / 2;
    let options = Options { most_steps: u64::from(u32::MAX - 1), ..Options::default() };
    let mut rows = Vec::new();
    for ptx in DELTA_APPLY {
        let module = Module::parse(ptx.text).map_err(|error| error.to_string())?;
        let delta = Upload::new(&bytes).map_err(|error| error.to_string())?;
        let items = [Item { delta, base, damage: Vec::new() }];
        let applied =
            apply(&module, &items, THREAD_BLOCKS, 0, &options).map_err(|error| error.to_string())?;
        if applied.elements != [new] {
            return Err(format!("{} gives other weights; please report this", module.target()));
        }
        let mut reports: BTreeMap<&str, Report> = BTreeMap::new();
        for (entry, report) in applied.reports {
            let all = reports.entry(entry).or_default();
            all.counters.add(&report.counters);
            all.findings.extend(report.findings);
        }
        let mut update: Option<Row> = None;
        for (entry, report) in &reports {
            let machine = tools.map(|tools| tools.assemble(ptx.text, module.target(), entry)).transpose()?;
            let row = row(entry, module.target(), elements, entry, &module, report, machine.as_ref());
            update = Some(update.map_or_else(|| row.clone(), |sum| sum.and(&row)));
            rows.push(row);
        }
        let stored_bytes = bytes.len() as f64 / elements as f64 + 6.0;
        rows.extend(update.map(|row| Row { kernel: "update".to_owned(), stored_bytes, ..row }));
    }
    Ok(rows)
}

impl Row {
    /// Adds the work of another kernel.
    fn and(self, other: &Row) -> Row {
        let machine = |row: &Row| row.machine_instructions;
        Row {
            ptx_instructions: self.ptx_instructions + other.ptx_instructions,
            machine_instructions: machine(&self).zip(machine(other)).map(|(one, two)| one + two),
            load_sectors: self.load_sectors + other.load_sectors,
            store_sectors: self.store_sectors + other.store_sectors,
            shared_wavefronts: self.shared_wavefronts + other.shared_wavefronts,
            shared_conflicts: self.shared_conflicts + other.shared_conflicts,
            ..self
        }
    }
}

fn row(
    kernel: &str,
    target: &str,
    elements: usize,
    entry: &str,
    module: &Module,
    report: &Report,
    machine: Option<&(BTreeMap<usize, u64>, u32)>,
) -> Row {
    let Counters {
        warp_instructions,
        load_sectors,
        store_sectors,
        shared_wavefronts,
        shared_conflicts,
        by_line,
        ..
    } = &report.counters;
    let each = |count: u64| count as f64 / elements as f64;
    let weighed = |lines: &BTreeMap<usize, u64>| {
        lines.iter().map(|(line, number)| number * by_line.get(*line).copied().unwrap_or(0)).sum::<u64>()
    };
    let kernels = module.kernels();
    Row {
        kernel: kernel.to_owned(),
        target: target.to_owned(),
        elements,
        stored_bytes: 0.0,
        ptx_instructions: each(*warp_instructions),
        machine_instructions: machine.map(|(lines, _)| each(weighed(lines))),
        registers: machine.map(|(_, registers)| *registers),
        shared_bytes: kernels
            .iter()
            .find(|kernel| kernel.name() == entry)
            .map_or(0, |kernel| kernel.shared_bytes()),
        lane_efficiency: report.counters.lane_efficiency(),
        load_sectors: each(*load_sectors),
        store_sectors: each(*store_sectors),
        shared_wavefronts: each(*shared_wavefronts),
        shared_conflicts: each(*shared_conflicts),
        findings: report.findings.iter().map(ToString::to_string).collect(),
    }
}
