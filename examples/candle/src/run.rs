//! One run: opens weights, embeds all sentences, writes all outputs, and reports the cost.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use bytemuck::{cast_slice, cast_slice_mut};
use candle_core::{Device, Error, Result, Tensor, bail};
use clap::ValueEnum;
use df11_candle::adapter::Weights;
use df11_candle::bert::{Bert, Config, PARTS_OF_BLOCK, Resident, Source, Streamed, bytes, parts};
use half::bf16;
use safetensors::tensor::{Dtype, Metadata};
use serde::{Deserialize, Serialize};
use tokenizers::Tokenizer;

use crate::{Options, text};

/// The size of a decoded block of a frame. To get rows, the reader decodes such a block in a
/// separate buffer. Units need none, but it is counted for them too. The reader's tables, of some
/// kilobytes, are not counted.
const SIDE_BYTES: usize = 2 << 16;

/// The source of a run's weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Variant {
    /// The BF16 file, read into memory.
    Plain,
    /// A compressed checkpoint, decoded into memory at the start.
    Whole,
    /// A compressed checkpoint, decoded part by part.
    Streamed,
}

/// The cost of a run.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(crate) struct Taken {
    pub(crate) sentences: usize,
    pub(crate) tokens: usize,
    /// Bytes of weights in memory once all is loaded: decoded weights, or compressed weights plus
    /// what is decoded at one time.
    pub(crate) weight_bytes: u64,
    /// Decoded bytes of one transformer block. Only runs that hold it whole report this.
    pub(crate) block_bytes: u64,
    /// Bytes of the largest matrix of a block in F32. Only runs that hold it whole report this.
    pub(crate) f32_bytes: u64,
    /// Peak resident memory before weights are opened: the program, its tokenizer and the text.
    pub(crate) before_bytes: u64,
    /// Peak resident memory of the whole run, pages of mapped files included.
    pub(crate) peak_bytes: u64,
    /// Seconds from opening the weights to the first embedding.
    pub(crate) first: f64,
    /// Seconds for a sentence; the median.
    pub(crate) median: f64,
    /// Seconds of processor time for a sentence, of all threads; the mean.
    pub(crate) processor: f64,
}

/// Carries out a run. Its outputs go to the file `out`, and its cost to standard output as JSON.
pub(crate) fn run(options: &Options, variant: Variant, out: &Path) -> Result<()> {
    let config = options.config_dir.join("config.json");
    let config: Config =
        serde_json::from_slice(&fs::read(&config).map_err(of(&config))?).map_err(of(&config))?;
    let texts = tokens(options, &config)?;
    let before_bytes = peak_memory()?;
    let start = Instant::now();
    let mut taken = match variant {
        Variant::Plain => embed_resident(read_plain(&options.model)?, config, &texts, out, start)?,
        Variant::Whole => embed_resident(decode_whole(compressed(options)?)?, config, &texts, out, start)?,
        Variant::Streamed => {
            let weights = Weights::open(compressed(options)?)?;
            let stored = weights.reader().stored_bytes();
            let mut bert = Bert::new(Streamed::new(weights, &config, options.buffers)?, config)?;
            let times = embed(&mut bert, &texts, out, start)?;
            Taken { weight_bytes: stored + (bert.source().decoded_bytes() + SIDE_BYTES) as u64, ..times }
        }
    };
    taken.before_bytes = before_bytes;
    taken.peak_bytes = peak_memory()?;
    writeln!(io::stdout(), "{}", serde_json::to_string(&taken).map_err(Error::wrap)?)?;
    Ok(())
}

fn compressed(options: &Options) -> Result<&Path> {
    let first = options.compressed.first().map(PathBuf::as_path);
    first.ok_or_else(|| Error::msg("no compressed checkpoint was given"))
}

fn embed_resident(
    tensors: HashMap<String, Tensor>,
    config: Config,
    texts: &[Vec<u32>],
    out: &Path,
    start: Instant,
) -> Result<Taken> {
    let parts = parts(&config);
    let of_block = parts.iter().take(PARTS_OF_BLOCK).flatten();
    let of_block: Vec<_> = of_block.filter_map(|name| tensors.get(name)).collect();
    let block_bytes = of_block.iter().map(|tensor| bytes(tensor) as u64).sum();
    let f32_bytes = of_block.iter().map(|tensor| size_of::<f32>() * tensor.elem_count()).max().unwrap_or(0);
    let weight_bytes = tensors.values().map(|tensor| bytes(tensor) as u64).sum();
    let mut bert = Bert::new(Resident::new(tensors, &config), config)?;
    let times = embed(&mut bert, texts, out, start)?;
    Ok(Taken { weight_bytes, block_bytes, f32_bytes: f32_bytes as u64, ..times })
}

/// Embeds all texts and writes, for each, the vectors of its tokens and its embedding.
fn embed<S: Source>(bert: &mut Bert<S>, texts: &[Vec<u32>], out: &Path, start: Instant) -> Result<Taken> {
    let mut out = BufWriter::new(File::create(out).map_err(of(out))?);
    let mut times = Vec::with_capacity(texts.len());
    let mut first = None;
    let processor = processor_time()?;
    for text in texts {
        let begin = Instant::now();
        let encoded = bert.encode(text)?;
        let outputs = [encoded.tokens.flatten_all()?.to_vec1::<f32>()?, encoded.sentence.to_vec1()?];
        times.push(begin.elapsed().as_secs_f64());
        first.get_or_insert_with(|| start.elapsed().as_secs_f64());
        for output in outputs {
            out.write_all(cast_slice(&output))?;
        }
    }
    out.flush()?;
    times.sort_unstable_by(f64::total_cmp);
    Ok(Taken {
        sentences: texts.len(),
        tokens: texts.iter().map(Vec::len).sum(),
        first: first.unwrap_or(0.0),
        median: times.get(times.len() / 2).copied().unwrap_or(0.0),
        processor: (processor_time()? - processor) / texts.len().max(1) as f64,
        ..Taken::default()
    })
}

/// The token ids of the sentences, as the model's own tokenizer gives them: cut to the length that
/// it was trained with, without padding.
fn tokens(options: &Options, config: &Config) -> Result<Vec<Vec<u32>>> {
    let path = options.config_dir.join("tokenizer.json");
    let mut tokenizer = Tokenizer::from_file(&path).map_err(of(&path))?;
    tokenizer.with_padding(None);
    let sentences = text::sentences(&options.sentences, options.limit)?;
    let ids = sentences.into_iter().map(|sentence| {
        let encoded = tokenizer.encode(sentence, true).map_err(of(&path))?;
        Ok(encoded.get_ids().iter().copied().take(config.max_position_embeddings).collect())
    });
    ids.collect()
}

/// Reads all BF16 tensors of a safetensors file straight to their final place. An engine without
/// this project's code could do the same, and could not do it in less memory.
fn read_plain(path: &Path) -> Result<HashMap<String, Tensor>> {
    let mut file = BufReader::new(File::open(path).map_err(of(path))?);
    let mut len = [0; 8];
    file.read_exact(&mut len).map_err(of(path))?;
    let mut header = Vec::new();
    Read::by_ref(&mut file).take(u64::from_le_bytes(len)).read_to_end(&mut header)?;
    let metadata: Metadata = serde_json::from_slice(&header).map_err(of(path))?;
    let mut infos: Vec<_> = metadata.tensors().into_iter().collect();
    infos.sort_by_key(|(_, info)| info.data_offsets);
    let mut tensors = HashMap::new();
    for (name, info) in infos {
        let len = info.data_offsets.1 - info.data_offsets.0;
        if info.dtype == Dtype::BF16 {
            let mut elements = vec![bf16::ZERO; len / size_of::<bf16>()];
            file.read_exact(cast_slice_mut(&mut elements)).map_err(of(path))?;
            tensors.insert(name, Tensor::from_vec(elements, info.shape.as_slice(), &Device::Cpu)?);
        } else {
            io::copy(&mut Read::by_ref(&mut file).take(len as u64), &mut io::sink())?;
        }
    }
    Ok(tensors)
}

/// Decodes all BF16 tensors of a compressed checkpoint, and closes it.
fn decode_whole(path: &Path) -> Result<HashMap<String, Tensor>> {
    let weights = Weights::open(path)?;
    let tensors = weights.reader().tensors().filter(|tensor| tensor.dtype() == "BF16");
    tensors.map(|tensor| Ok((tensor.name().to_owned(), weights.load(tensor.name())?))).collect()
}

/// Peak resident memory of this process, in bytes.
fn peak_memory() -> Result<u64> {
    let path = Path::new("/proc/self/status");
    let status = fs::read_to_string(path).map_err(of(path))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kibibytes = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    match kibibytes {
        Some(kibibytes) => Ok(1024 * kibibytes),
        None => bail!("{} does not tell the peak memory", path.display()),
    }
}

/// Processor time of this process and all its threads so far, in seconds.
fn processor_time() -> Result<f64> {
    /// Linux reports it in hundredths of a second, whatever its own clock.
    const PER_SECOND: f64 = 100.0;
    let path = Path::new("/proc/self/stat");
    let stat = fs::read_to_string(path).map_err(of(path))?;
    // The time in user mode and in the kernel: the 12th and 13th value after the command's name,
    // which ends in the last bracket.
    let values = stat.rsplit_once(')').into_iter().flat_map(|(_, values)| values.split_whitespace());
    let ticks: Vec<u64> = values.skip(11).take(2).filter_map(|value| value.parse().ok()).collect();
    match ticks[..] {
        [user, kernel] => Ok((user + kernel) as f64 / PER_SECOND),
        _ => bail!("{} does not tell the processor time", path.display()),
    }
}

/// Makes an error that names its file.
pub(crate) fn of<E: std::fmt::Display>(path: &Path) -> impl Fn(E) -> Error {
    move |error| Error::msg(format!("{}: {error}", path.display()))
}
