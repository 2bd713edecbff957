//! `df11 bench`: measures the speed of each operation at each instruction set, beside the plane
//! copying that bounds it.

use std::fmt::Write;
use std::fs;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use comfy_table::Table;
use df11::frame::{self, BLOCK, Codec, DecodeTable, ElementType, Frame};
use df11::{Counts, Decoder, EncodeOptions, EncodedUnit, Level, Plan, Unit, bf16};
use df11_model::{Error, bf16_weights};
use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};
use serde::Serialize;

use super::demo;
use crate::output::{Output, Verdict};
use crate::render::plain_table;

/// The name of the weights that ship with the program.
const SHIPPED: &str = "shipped weights";

/// The number of parts for each thread. It is more than one, so that a thread that is held up does
/// not hold up the others.
const PARTS: usize = 4;

#[derive(Args)]
pub(crate) struct Bench {
    /// A checkpoint (a directory or a safetensors file). Its BF16 tensors become one unit. Without
    /// it, the weights that ship with this program are used.
    file: Option<PathBuf>,
    /// The number of rounds, at least 9. Each round measures every operation once, interleaved.
    #[arg(long, value_name = "N", default_value_t = 9, value_parser = clap::value_parser!(u16).range(9..))]
    rounds: u16,
    /// Repeat the weights until they have at least this many bytes.
    #[arg(long, value_name = "BYTES", default_value_t = 64_000_000, hide = true)]
    at_least: u32,
}

impl Bench {
    pub(crate) fn run(self, output: &Output) -> Result<Verdict, Error> {
        let report = measure(self.file.as_deref(), self.rounds, self.at_least, output.threads)?;
        output.show(&report, || report.to_text())
    }
}

/// The result of the benchmark.
#[derive(Serialize)]
struct BenchReport {
    /// The name of the file, or [`SHIPPED`].
    source: String,
    /// What the processor calls itself.
    processor: String,
    weights: usize,
    memcpy_gbps: f64,
    rows: Vec<Row>,
}

/// The speed of one operation at one level, in GB/s of BF16.
#[derive(Serialize)]
struct Row {
    codec: &'static str,
    op: &'static str,
    level: &'static str,
    threads: usize,
    /// The median of all rounds.
    gbps: f64,
    gbps_min: f64,
    gbps_max: f64,
    ns_per_weight: f64,
    /// The ratio to merge or, for encode and split, to split.
    ratio_to_merge: f64,
    /// What docs/performance.md says of this operation, in GB/s of BF16, if it does.
    published_gbps: Option<f64>,
    rounds: usize,
}

impl BenchReport {
    fn to_text(&self) -> String {
        let mut table = Table::new();
        table.set_header([
            "codec",
            "op",
            "level",
            "threads",
            "GB/s",
            "min-max",
            "ns/weight",
            "of roofline",
            "published",
        ]);
        for row in &self.rows {
            table.add_row([
                row.codec.to_owned(),
                row.op.to_owned(),
                row.level.to_owned(),
                row.threads.to_string(),
                format!("{:.2}", row.gbps),
                format!("{:.2}-{:.2}", row.gbps_min, row.gbps_max),
                format!("{:.3}", row.ns_per_weight),
                format!("{:.1} %", 100.0 * row.ratio_to_merge),
                row.published_gbps.map_or_else(String::new, |gbps| format!("{gbps:.2}")),
            ]);
        }
        let (weights, rounds) = (self.weights, self.rows.first().map_or(0, |row| row.rounds));
        let mut out = format!("{}\n", self.processor);
        let _ = writeln!(
            out,
            "{}: {weights} weights as one unit and as one frame of each codec, median of {rounds} rounds",
            self.source
        );
        out += &plain_table(table, 3);
        let _ = writeln!(out, "copying memory: {:.2} GB/s", self.memcpy_gbps);
        out += "published: docs/performance.md, on a Zen 4 (fast: on a busy Xeon)\n";
        out
    }
}

/// GB/s of BF16 in the tables of docs/performance.md: codec, operation, level, of one thread.
const PUBLISHED: [(&str, &str, &str, f64); 6] = [
    ("df11", "encode", "avx512", 3.83),
    ("df11", "decode", "avx512", 5.95),
    ("rans", "encode", "avx512", 2.43),
    ("rans", "decode", "avx512", 5.28),
    ("fast", "encode", "avx512", 0.97),
    ("fast", "decode", "avx512", 5.8),
];

/// The name of the processor, where the system tells it.
fn processor() -> String {
    let told = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let mut names = told.lines().filter_map(|line| line.strip_prefix("model name")?.split_once(": "));
    names.next().map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, name)| name.trim().to_owned())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Operation {
    Encode,
    Decode,
    Verify,
    /// Of frames with this codec.
    FrameEncode(Codec),
    FrameDecode(Codec),
    Merge,
    Split,
}

impl Operation {
    const ALL: [Operation; 9] = [
        Operation::Encode,
        Operation::Decode,
        Operation::Verify,
        Operation::FrameEncode(Codec::Rans),
        Operation::FrameDecode(Codec::Rans),
        Operation::FrameEncode(Codec::Dictionary),
        Operation::FrameDecode(Codec::Dictionary),
        Operation::Merge,
        Operation::Split,
    ];

    /// Its position among all.
    fn index(self) -> usize {
        Self::ALL.iter().position(|operation| *operation == self).unwrap_or(0)
    }

    fn codec(self) -> &'static str {
        match self {
            Operation::Encode | Operation::Decode | Operation::Verify => "df11",
            Operation::FrameEncode(Codec::Dictionary) | Operation::FrameDecode(Codec::Dictionary) => "fast",
            Operation::FrameEncode(_) | Operation::FrameDecode(_) => "rans",
            Operation::Merge | Operation::Split => "none",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Operation::Encode | Operation::FrameEncode(_) => "encode",
            Operation::Decode | Operation::FrameDecode(_) => "decode",
            Operation::Verify => "verify",
            Operation::Merge => "merge",
            Operation::Split => "split",
        }
    }

    /// Returns the operation that remains if there is no code. No operation that moves the same
    /// planes can be faster.
    fn roofline(self) -> Operation {
        match self {
            Operation::Encode | Operation::FrameEncode(_) | Operation::Split => Operation::Split,
            _ => Operation::Merge,
        }
    }
}

/// The parameters of one measurement.
#[derive(Clone, Copy)]
struct Setting {
    level: Level,
    threads: usize,
}

/// Measures all operations on the BF16 tensors of `file`, or on the weights that ship with the
/// program, repeated to `at_least` bytes.
fn measure(file: Option<&Path>, rounds: u16, at_least: u32, threads: usize) -> Result<BenchReport, Error> {
    let path = file.unwrap_or(Path::new(SHIPPED));
    let mut weights = match file {
        Some(path) => bf16_weights(path)?,
        None => demo::weights()?,
    };
    let times = (at_least as usize).div_ceil(weights.len());
    if times > 1 {
        weights = weights.repeat(times);
    }
    let pool = ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .map_err(|error| Error::Usage(format!("cannot start {threads} threads: {error}")))?;

    let core = |error: df11::Error| wrong(path, error.to_string());
    let plan = Plan::new(&[&weights], &EncodeOptions::default()).map_err(core)?;
    let encoded = plan.encode(&[&weights]).map_err(core)?;
    let unit = Unit::new(encoded.as_slices()).map_err(core)?;
    let shape = [unit.len() as u64];
    let frame = |codec| {
        let options = frame::EncodeOptions::new().codec(codec);
        options.encode(ElementType::Bf16, &shape, &weights).map_err(core)
    };
    let (rans, dictionary) = (frame(Codec::Rans)?, frame(Codec::Dictionary)?);
    // Every buffer is touched before anything is timed, by the first round, which checks the
    // answers.
    let mut bench = Measurement {
        decoded: vec![0; weights.len()],
        exponents: vec![0; unit.len()],
        sign_mantissas: vec![0; unit.len()],
        out: encoded.clone(),
        weights: &weights,
        encoded: &encoded,
        frame_out: Vec::with_capacity(rans.len()),
        rans: Frame::new(&rans).map_err(core)?,
        dictionary: Frame::new(&dictionary).map_err(core)?,
        table: Box::new(DecodeTable::new()),
        unit,
        pool: &pool,
    };
    bf16::split(&weights, &mut bench.exponents, &mut bench.sign_mantissas).map_err(core)?;

    let mut settings: Vec<_> = Level::all().map(|level| Setting { level, threads: 1 }).collect();
    let threads = pool.current_num_threads();
    if threads > 1 {
        settings.push(Setting { level: Level::best(), threads });
    }
    bench.check(&settings, path)?;

    let mut copies = Vec::new();
    let mut speeds = Operation::ALL.map(|_| vec![Vec::new(); settings.len()]);
    for _ in 0..rounds {
        copies.push(bench.time(|bench| {
            bench.decoded.copy_from_slice(bench.weights);
            Ok(())
        }));
        for (operation, speeds) in Operation::ALL.into_iter().zip(&mut speeds) {
            for (setting, speeds) in settings.iter().zip(speeds) {
                speeds.push(bench.time(|bench| bench.run(operation, *setting)));
            }
        }
    }

    let memcpy_gbps = Spread::of(copies).map_err(core)?.median;
    let spreads = speeds.into_iter().map(|speeds| speeds.into_iter().map(Spread::of).collect());
    let spreads = spreads.collect::<Result<Vec<Vec<_>>, _>>().map_err(core)?;
    let mut rows = Vec::new();
    for (operation, of_operation) in Operation::ALL.into_iter().zip(&spreads) {
        let bounds = &spreads[operation.roofline().index()];
        for ((Setting { level, threads }, spread), bound) in settings.iter().zip(of_operation).zip(bounds) {
            let (codec, op) = (operation.codec(), operation.name());
            let published = PUBLISHED
                .iter()
                .find(|row| *threads == 1 && (row.0, row.1, row.2) == (codec, op, level.name()));
            rows.push(Row {
                codec,
                op,
                level: level.name(),
                threads: *threads,
                gbps: spread.median,
                gbps_min: spread.min,
                gbps_max: spread.max,
                // One GB/s is one byte per nanosecond.
                ns_per_weight: bf16::BYTES as f64 / spread.median,
                ratio_to_merge: spread.median / bound.median,
                published_gbps: published.map(|row| row.3),
                rounds: usize::from(rounds),
            });
        }
    }
    let source = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(BenchReport { source, processor: processor(), weights: unit.len(), memcpy_gbps, rows })
}

/// The median, the lowest and the highest of several speeds.
struct Spread {
    median: f64,
    min: f64,
    max: f64,
}

impl Spread {
    /// Summarizes at least one speed.
    fn of(speeds: Vec<Result<f64, df11::Error>>) -> Result<Self, df11::Error> {
        let mut speeds = speeds.into_iter().collect::<Result<Vec<_>, _>>()?;
        speeds.sort_by(f64::total_cmp);
        let (min, max) = (speeds[0], speeds[speeds.len() - 1]);
        let median = (speeds[(speeds.len() - 1) / 2] + speeds[speeds.len() / 2]) / 2.0;
        Ok(Spread { median, min, max })
    }
}

/// The buffers that the operations work on.
struct Measurement<'a> {
    weights: &'a [u8],
    /// The weights, encoded.
    encoded: &'a EncodedUnit,
    /// The weights as a frame of each codec.
    rans: Frame<'a>,
    dictionary: Frame<'a>,
    /// What a frame is encoded into.
    frame_out: Vec<u8>,
    table: Box<DecodeTable>,
    unit: Unit<'a>,
    pool: &'a ThreadPool,
    /// The buffers that units are encoded into.
    out: EncodedUnit,
    /// The buffer for decoded or merged weights.
    decoded: Vec<u8>,
    /// The exponents that are split off, and merged again.
    exponents: Vec<u8>,
    sign_mantissas: Vec<u8>,
}

impl<'a> Measurement<'a> {
    /// Runs every operation once, and checks that it gives the right bytes.
    fn check(&mut self, settings: &[Setting], path: &Path) -> Result<(), Error> {
        for operation in Operation::ALL {
            for setting in settings {
                self.spoil(operation);
                self.run(operation, *setting).map_err(|error| wrong(path, error.to_string()))?;
                if !self.is_right(operation) {
                    let Setting { level, threads } = setting;
                    let (name, level) = (operation.name(), level.name());
                    let problem = format!(
                        "{name} at level {level} (threads: {threads}) gives wrong bytes; please report this"
                    );
                    return Err(wrong(path, problem));
                }
            }
        }
        Ok(())
    }

    /// The speed of some work on all weights, in GB/s of BF16.
    fn time(&mut self, work: impl FnOnce(&mut Self) -> Result<(), df11::Error>) -> Result<f64, df11::Error> {
        let start = Instant::now();
        work(black_box(&mut *self))?;
        black_box(&mut *self);
        Ok(self.weights.len() as f64 / start.elapsed().as_nanos().max(1) as f64)
    }

    fn run(&mut self, operation: Operation, setting: Setting) -> Result<(), df11::Error> {
        let Setting { level, threads } = setting;
        match operation {
            Operation::Encode if threads == 1 => {
                let plan = Plan::new(&[self.weights], &EncodeOptions::default())?;
                df11::Encoder::at_level(&plan, level).encode_into(&[self.weights], self.out.as_mut_slices())
            }
            Operation::Encode => self.encode_parallel(level),
            Operation::Decode => {
                let decoder = Decoder::at_level(&self.unit, level);
                if threads == 1 {
                    return decoder.decode_into(&mut self.decoded);
                }
                self.pool.install(|| decoder.decode_parallel_into(&mut self.decoded))
            }
            Operation::Verify => {
                let decoder = Decoder::at_level(&self.unit, level);
                if threads == 1 {
                    return decoder.verify_blocks_into(0..self.unit.blocks(), &mut self.decoded);
                }
                self.pool.install(|| decoder.verify_parallel_into(&mut self.decoded))
            }
            Operation::FrameEncode(codec) => {
                let shape = [self.unit.len() as u64];
                let options = frame::EncodeOptions::new().codec(codec);
                let (weights, out) = (self.weights, &mut self.frame_out);
                out.clear();
                if threads == 1 {
                    let counts = frame::count(ElementType::Bf16, weights)?;
                    let mut encoder = options.encoder(ElementType::Bf16, &shape, &counts)?.at_level(level);
                    out.extend(encoder.header());
                    for elements in weights.chunks(16 * bf16::BYTES * BLOCK) {
                        out.extend_from_slice(encoder.blocks(elements)?);
                    }
                    out.extend(encoder.finish()?);
                    return Ok(());
                }
                self.pool.install(|| {
                    let counts = frame::count_parallel(ElementType::Bf16, weights)?;
                    let mut encoder = options.encoder(ElementType::Bf16, &shape, &counts)?.at_level(level);
                    out.extend(encoder.header());
                    for some in weights.chunks(16 * bf16::BYTES * BLOCK * threads) {
                        encoder.blocks_parallel(some)?.for_each(|bytes| out.extend_from_slice(bytes));
                    }
                    out.extend(encoder.finish()?);
                    Ok(())
                })
            }
            Operation::FrameDecode(codec) => {
                let (frame, decoded) = (self.frame(codec).clone().at_level(level), &mut self.decoded);
                if threads == 1 {
                    return frame.decode_in(&mut self.table, decoded);
                }
                frame.build(&mut self.table);
                let (table, blocks) = (&self.table, 0..frame.header().blocks());
                self.pool.install(|| frame.decode_blocks_parallel_into(table, blocks, decoded))
            }
            Operation::Merge => {
                let size = part(self.unit.len(), threads);
                let planes = self.exponents.chunks(size).zip(self.sign_mantissas.chunks(size));
                let parts = planes.zip(self.decoded.chunks_mut(bf16::BYTES * size)).collect();
                each(self.pool, threads, parts, |((exponents, sign_mantissas), weights)| {
                    bf16::merge_with(level, exponents, sign_mantissas, weights)
                })
            }
            Operation::Split => {
                let size = part(self.unit.len(), threads);
                let planes = self.exponents.chunks_mut(size).zip(self.sign_mantissas.chunks_mut(size));
                let parts = planes.zip(self.weights.chunks(bf16::BYTES * size)).collect();
                each(self.pool, threads, parts, |((exponents, sign_mantissas), weights)| {
                    bf16::split_with(level, weights, exponents, sign_mantissas)
                })
            }
        }
    }

    fn frame(&self, codec: Codec) -> &Frame<'a> {
        if codec == Codec::Dictionary { &self.dictionary } else { &self.rans }
    }

    /// Encodes on all threads.
    fn encode_parallel(&mut self, level: Level) -> Result<(), df11::Error> {
        let tensors = [self.weights];
        self.pool.install(|| {
            let counts = Counts::of(&tensors)?;
            let plan = Plan::from_frequencies(&counts.total(), tensors.len(), &EncodeOptions::default())?;
            let encoder = df11::Encoder::at_level(&plan, level);
            encoder.encode_parallel_into(&tensors, &counts, self.out.as_mut_slices())
        })
    }

    /// Overwrites the output of the next operation with values that no right result contains: no
    /// exponent is 255.
    fn spoil(&mut self, operation: Operation) {
        match operation {
            Operation::Encode => {
                let EncodedUnit { luts, encoded_exponent, sign_mantissa, output_positions, gaps, .. } =
                    &mut self.out;
                for buffer in [luts, encoded_exponent, sign_mantissa, output_positions, gaps] {
                    buffer.fill(!0);
                }
            }
            Operation::FrameEncode(_) => self.frame_out.fill(!0),
            Operation::Decode | Operation::Verify | Operation::FrameDecode(_) | Operation::Merge => {
                self.decoded.fill(!0);
            }
            Operation::Split => {
                self.exponents.fill(!0);
                self.sign_mantissas.fill(!0);
            }
        }
    }

    /// Tells whether an operation gave the right result.
    fn is_right(&self, operation: Operation) -> bool {
        match operation {
            Operation::Encode => self.out == *self.encoded,
            Operation::FrameEncode(codec) => self.frame_out == self.frame(codec).as_bytes(),
            Operation::Decode | Operation::Verify | Operation::FrameDecode(_) | Operation::Merge => {
                self.decoded == self.weights
            }
            Operation::Split => {
                let planes = self.exponents.iter().zip(&self.sign_mantissas);
                let merged = planes.map(|(&exponent, &rest)| bf16::from_planes(exponent, rest).to_le_bytes());
                merged.eq(self.weights.as_chunks().0.iter().copied())
            }
        }
    }
}

/// Returns the length of a part of `len` items: all of them for one thread.
fn part(len: usize, threads: usize) -> usize {
    if threads == 1 { len } else { len.div_ceil(PARTS * threads) }.max(1)
}

/// Runs `work` on each part: on this thread if there is one, otherwise on the pool.
fn each<T: Send>(
    pool: &ThreadPool,
    threads: usize,
    parts: Vec<T>,
    work: impl Fn(T) -> Result<(), df11::Error> + Sync + Send,
) -> Result<(), df11::Error> {
    if threads == 1 {
        parts.into_iter().try_for_each(work)
    } else {
        pool.install(|| parts.into_par_iter().with_max_len(1).try_for_each(work))
    }
}

fn wrong(path: &Path, problem: impl Into<String>) -> Error {
    Error::File { path: path.to_owned(), problem: problem.into() }
}
