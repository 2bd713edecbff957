//! Weights of a checkpoint as candle tensors, decoded when they are needed.
//!
//! [`Weights`] gives whole tensors ([`Weights::load`]) and rows of tables ([`Weights::rows`]). It
//! is a [`SimpleBackend`], so a [`VarBuilder`](candle_nn::VarBuilder) can fill any candle model
//! from it. [`Stream`] gives the parts of a model in the order in which its forward pass uses them,
//! again and again. A thread decodes them ahead into a fixed number of buffers.
//!
//! It opens any checkpoint that [`Reader`] opens: DF11 units, frames, or plain safetensors.
//! Everything is on the CPU.
//!
//! ```
//! use candle_core::{DType, Device, Tensor};
//! use candle_nn::VarBuilder;
//! use df11_candle::adapter::Weights;
//! use df11_model::{CompressOptions, compress};
//!
//! // A model of two matrices, compressed.
//! let elements: Vec<u16> = (0..128 * 256).map(|i| 0x3c00 + i % 500).collect();
//! let matrix = Tensor::from_vec(elements.into_iter().map(half::bf16::from_bits).collect(), (128, 256), &Device::Cpu)?;
//! let [a, b] = ["layers.0.up_proj.weight", "layers.1.up_proj.weight"];
//! let directory = tempfile::tempdir()?;
//! let [model, packed] = ["model.safetensors", "packed"].map(|name| directory.path().join(name));
//! candle_core::safetensors::save(&[(a.to_owned(), matrix.clone()), (b.to_owned(), matrix)].into(), &model)?;
//! compress(&model, &packed, &CompressOptions::default(), &())?;
//!
//! let weights = Weights::open(&packed)?;
//! // Decoded whole, as any candle model asks for them.
//! let builder = VarBuilder::from_backend(Box::new(weights.clone()), DType::F32, Device::Cpu);
//! let linear = candle_nn::linear_no_bias(256, 128, builder.pp("layers.0.up_proj"))?;
//! // Part by part, in two buffers, as often as the model runs.
//! let mut stream = weights.stream(&[vec![a.to_owned()], vec![b.to_owned()]], 2)?;
//! for _ in 0..3 {
//!     for (number, name) in [a, b].into_iter().enumerate() {
//!         let part = stream.take(number)?;
//!         let matrix = part.tensor(name)?.to_dtype(DType::F32)?;
//!         # let same = matrix.eq(linear.weight())?.to_dtype(DType::F32)?.min_all()?.to_scalar::<f32>()?;
//!         # assert_eq!(same, 1.0);
//!     }
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # How buffers are used again
//!
//! A buffer is one `Vec<bf16>`. The thread decodes into it. [`Stream::take`] makes it the storage
//! of a tensor without a copy, and the weights are views of this tensor. When the [`Part`] is
//! dropped, [`Tensor::inplace_op1`] takes the vector out of that storage, and it goes back to the
//! thread. After the start, nothing of a weight's size is allocated. A tensor that was cloned out
//! of a part and outlives it has lost its storage. Using it panics, by candle's own checks; it
//! never shows the weights of another part.

#[cfg(target_endian = "big")]
compile_error!("checkpoints are little-endian; their bytes are taken as elements as they are");

use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};

use bytemuck::{Pod, cast_slice_mut};
use candle_core::{
    CpuStorage, DType, Device, Error, InplaceOp1, Layout, Result, Shape, Tensor, WithDType, bail,
};
use candle_nn::Init;
use candle_nn::var_builder::SimpleBackend;
use df11_model::{Reader, ReaderTensor};
use half::{bf16, f16};

/// A checkpoint whose tensors are decoded on demand.
#[derive(Clone, Debug)]
pub struct Weights {
    reader: Arc<Reader>,
}

impl Weights {
    /// Opens a safetensors file, or a directory in Hugging Face form, compressed or not. Its files
    /// stay memory-mapped.
    ///
    /// # Errors
    ///
    /// An error that says what is wrong with the checkpoint, and in which file.
    pub fn open(path: &Path) -> Result<Self> {
        let reader = Arc::new(Reader::open(path).map_err(Error::wrap)?);
        Ok(Weights { reader })
    }

    /// Returns the reader underneath, which knows all names, shapes and sizes.
    #[must_use]
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// Decodes the tensor `name`, with its original type and shape.
    ///
    /// # Errors
    ///
    /// If there is no such tensor, candle has no such type, or its data is damaged. The error names
    /// the tensor and the file.
    pub fn load(&self, name: &str) -> Result<Tensor> {
        let tensor = self.find(name)?;
        tensor_of(tensor, tensor.shape().to_vec(), |out| decode(&self.reader, name, out))
    }

    /// Decodes only these rows of the table `name`, whose shape is (rows, width). The result has
    /// the shape (`rows.len()`, width). Rows may come in any order and more than once. Consecutive
    /// rows are decoded as one range.
    ///
    /// # Errors
    ///
    /// The errors of [`load`](Self::load), and an error if the tensor is no table or lacks a row.
    pub fn rows(&self, name: &str, rows: &[u32]) -> Result<Tensor> {
        let table = self.find(name)?;
        let &[height, width] = table.shape() else {
            bail!("tensor {name} has the shape {:?}, so it has no rows to take", table.shape());
        };
        if let Some(row) = rows.iter().find(|&&row| row as usize >= height) {
            bail!("tensor {name} has {height} rows, so there is no row {row}");
        }
        tensor_of(table, vec![rows.len(), width], |mut out| {
            let row_bytes = table.bytes() as usize / height.max(1);
            let mut rest = rows;
            while let Some(&first) = rest.first() {
                let run = rest.iter().zip(first..).take_while(|(row, next)| *row == next).count();
                let (now, later) = out.split_at_mut(run * row_bytes);
                let start = u64::from(first) * width as u64;
                let range = start..start + (run * width) as u64;
                self.reader.decode_range_into(name, range, now).map_err(|error| named(name, error))?;
                (rest, out) = (&rest[run..], later);
            }
            Ok(())
        })
    }

    /// Streams BF16 tensors. Each entry of `parts` lists the names of tensors that are needed
    /// together, and the entries are in the order of use. After the last part, the first one
    /// follows again. Each of the `buffers` has room for the largest part.
    ///
    /// With one buffer, a part is decoded once the previous one has been dropped. Each further
    /// buffer lets the thread be one part ahead.
    ///
    /// # Errors
    ///
    /// If there is nothing to stream or no buffer, if a tensor does not exist or is not BF16, or if
    /// no thread can be started.
    pub fn stream(&self, parts: &[Vec<String>], buffers: usize) -> Result<Stream> {
        let plans = parts.iter().map(|names| {
            let pieces = names.iter().map(|name| {
                let tensor = self.find(name)?;
                if tensor.dtype() != "BF16" {
                    bail!("tensor {name} is {}; only BF16 is streamed, so load it instead", tensor.dtype());
                }
                Ok((name.clone(), tensor.shape().to_vec(), tensor.elements() as usize))
            });
            pieces.collect::<Result<Vec<_>>>().map(Plan::new)
        });
        let reader = Arc::clone(&self.reader);
        Stream::start(plans.collect::<Result<_>>()?, buffers, move |name, out| decode(&reader, name, out))
    }

    fn find(&self, name: &str) -> Result<&ReaderTensor> {
        // The reader's own error names the checkpoint too.
        let absent = || decode(&self.reader, name, &mut []).err().unwrap_or_else(|| Error::msg("no tensor"));
        self.reader.tensor(name).ok_or_else(absent)
    }
}

/// Serves a [`VarBuilder`](candle_nn::VarBuilder). With [`VarBuilder::from_backend`], models of
/// `candle-transformers` load compressed checkpoints without changes.
///
/// [`VarBuilder::from_backend`]: candle_nn::VarBuilder::from_backend
impl SimpleBackend for Weights {
    fn get(&self, shape: Shape, name: &str, _: Init, dtype: DType, device: &Device) -> Result<Tensor> {
        let tensor = self.get_unchecked(name, dtype, device)?;
        if *tensor.shape() != shape {
            bail!("tensor {name} has the shape {:?}, but {shape:?} is needed", tensor.shape());
        }
        Ok(tensor)
    }

    fn get_unchecked(&self, name: &str, dtype: DType, device: &Device) -> Result<Tensor> {
        self.load(name)?.to_device(device)?.to_dtype(dtype)
    }

    fn contains_tensor(&self, name: &str) -> bool {
        self.reader.tensor(name).is_some()
    }
}

/// Parts of a model, in a fixed order that repeats, decoded ahead by a thread of its own. See
/// [`Weights::stream`].
///
/// Dropping it ends the thread after the part that it is decoding, and waits for that. Parts that
/// are still held stay valid.
#[derive(Debug)]
pub struct Stream {
    plans: Arc<[Plan]>,
    /// The number of the next part.
    next: usize,
    /// Decoded parts. It is `None` once the stream is being dropped; the thread notices that when
    /// it sends.
    ready: Option<Receiver<Result<Vec<bf16>>>>,
    /// Buffers for the thread; `None` tells it to end.
    free: Sender<Option<Vec<bf16>>>,
    /// The number of parts that have not been dropped.
    held: Arc<AtomicUsize>,
    buffers: usize,
    /// The length of a buffer, in elements.
    len: usize,
    thread: Option<JoinHandle<()>>,
}

/// The positions of a part's tensors in its buffer.
#[derive(Debug)]
struct Plan {
    pieces: Vec<Piece>,
    /// The number of elements of all tensors.
    len: usize,
}

#[derive(Debug)]
struct Piece {
    name: String,
    shape: Vec<usize>,
    range: Range<usize>,
}

impl Plan {
    fn new(tensors: Vec<(String, Vec<usize>, usize)>) -> Self {
        let mut len = 0;
        let pieces = tensors.into_iter().map(|(name, shape, elements)| {
            let start = len;
            len += elements;
            Piece { name, shape, range: start..len }
        });
        Plan { pieces: pieces.collect(), len }
    }

    /// Returns the name of its first tensor, for messages.
    fn name(&self) -> &str {
        self.pieces.first().map_or("empty", |piece| &piece.name)
    }
}

impl Stream {
    /// Starts the thread, which calls `decode` with a tensor's name and its bytes in a buffer.
    fn start<D>(plans: Vec<Plan>, buffers: usize, mut decode: D) -> Result<Self>
    where
        D: FnMut(&str, &mut [u8]) -> Result<()> + Send + 'static,
    {
        let len = plans.iter().map(|plan| plan.len).max().unwrap_or(0);
        if len == 0 || buffers == 0 {
            bail!("a stream takes a part, with weights in it, and a buffer");
        }
        let plans: Arc<[Plan]> = plans.into();
        let (give_ready, ready) = channel();
        let (free, take_free) = channel();
        for _ in 0..buffers {
            // The receiver is alive: it is a variable of this function.
            let _ = free.send(Some(vec![bf16::ZERO; len]));
        }
        let of_thread = Arc::clone(&plans);
        let work = move || {
            for plan in of_thread.iter().cycle() {
                let Ok(Some(mut buffer)) = take_free.recv() else { return };
                let mut pieces = plan.pieces.iter();
                let decoded = pieces.try_for_each(|piece| {
                    decode(&piece.name, cast_slice_mut(&mut buffer[piece.range.clone()]))
                });
                let failed = decoded.is_err();
                if give_ready.send(decoded.map(|()| buffer)).is_err() || failed {
                    return;
                }
            }
        };
        let thread = thread::Builder::new().name("df11-prefetch".to_owned()).spawn(work)?;
        Ok(Stream {
            plans,
            next: 0,
            ready: Some(ready),
            free,
            held: Arc::default(),
            buffers,
            len,
            thread: Some(thread),
        })
    }

    /// Returns the total size of all buffers in bytes. The stream takes this much memory, whatever
    /// the number of its parts.
    #[must_use]
    pub const fn buffer_bytes(&self) -> usize {
        self.buffers * self.len * size_of::<bf16>()
    }

    /// Returns the next part, whose number must be `part`. A forward pass that uses weights in
    /// another order than that of the stream gets an error instead of the wrong weights. Waits
    /// until the part is decoded.
    ///
    /// # Errors
    ///
    /// If another part comes next; if all buffers belong to parts that are still held, so that
    /// waiting would never end; or if decoding failed, after which the stream has ended.
    pub fn take(&mut self, part: usize) -> Result<Part> {
        let plans = Arc::clone(&self.plans);
        let plan = &plans[self.next];
        if part != self.next {
            let asked = plans.get(part).map_or("not in this stream", Plan::name);
            let (next, name) = (self.next, plan.name());
            bail!("part {part} ({asked}) was asked for, but part {next} ({name}) comes next in this stream");
        }
        if self.held.load(Ordering::Acquire) == self.buffers {
            bail!(
                "part {part} ({}) has to wait for a buffer, but all {} belong to parts that are still held: drop one",
                plan.name(),
                self.buffers
            );
        }
        let received = self.ready.as_ref().and_then(|ready| ready.recv().ok());
        let Some(decoded) = received else { return Err(self.ended()) };
        let flat = Tensor::from_vec(decoded?, self.len, &Device::Cpu)?;
        self.next = (part + 1) % plans.len();
        self.held.fetch_add(1, Ordering::AcqRel);
        let lease = Lease { flat, free: self.free.clone(), held: Arc::clone(&self.held) };
        let views = plan.pieces.iter().map(|piece| {
            let flat = lease.flat.narrow(0, piece.range.start, piece.range.len())?;
            Ok((piece.name.clone(), flat.reshape(piece.shape.as_slice())?))
        });
        let tensors = views.collect::<Result<_>>()?;
        Ok(Part { tensors, _lease: Some(lease) })
    }

    /// Returns the reason why no more parts come.
    fn ended(&mut self) -> Error {
        let why = match self.thread.take().map(JoinHandle::join) {
            Some(Err(panic)) => {
                let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
                let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
                format!("its thread panicked: {}", text.unwrap_or_else(|| "it did not say why".to_owned()))
            }
            _ => "decoding failed before, or its thread panicked".to_owned(),
        };
        let part = self.next;
        Error::msg(format!("part {part} ({}) cannot be decoded: {why}", self.plans[part].name()))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.ready = None;
        // Sending fails if the thread has ended. If it panicked, `take` has reported that, or no
        // one waited for that part.
        let _ = self.free.send(None);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// Tensors that are needed together. Those of a [`Stream`] are views of a buffer, which goes back
/// when the part is dropped. Do not keep tensors longer than their part (or [copy](Tensor::copy)
/// them), nor a [guard of their storage](Tensor::storage_and_layout).
#[derive(Debug)]
pub struct Part {
    tensors: HashMap<String, Tensor>,
    _lease: Option<Lease>,
}

impl Part {
    /// Makes a part whose tensors are resident, so that the same code can run a model from decoded
    /// weights.
    #[must_use]
    pub fn resident(tensors: HashMap<String, Tensor>) -> Self {
        Part { tensors, _lease: None }
    }

    /// Returns the tensor `name`.
    ///
    /// # Errors
    ///
    /// If it is not in this part.
    pub fn tensor(&self, name: &str) -> Result<&Tensor> {
        self.tensors.get(name).ok_or_else(|| {
            let mut there: Vec<_> = self.tensors.keys().map(String::as_str).collect();
            there.sort_unstable();
            Error::msg(format!("tensor {name} is not in this part, which has {}", there.join(", ")))
        })
    }
}

/// A buffer on loan from a stream.
#[derive(Debug)]
struct Lease {
    /// The tensor whose storage is the buffer.
    flat: Tensor,
    free: Sender<Option<Vec<bf16>>>,
    held: Arc<AtomicUsize>,
}

impl Drop for Lease {
    fn drop(&mut self) {
        let taken = TakeStorage::default();
        // This cannot fail: the tensor is contiguous, on the CPU, and BF16. If it did, a new buffer
        // would replace this one, which is freed with its last view.
        let buffer = match self.flat.inplace_op1(&taken) {
            Ok(()) => taken.0.into_inner(),
            Err(_) => vec![bf16::ZERO; self.flat.elem_count()],
        };
        // The order matters: once a buffer is no longer counted as held, `take` relies on its
        // return.
        self.held.fetch_sub(1, Ordering::AcqRel);
        // Sending fails if the stream is gone. The buffer is dropped with it.
        let _ = self.free.send(Some(buffer));
    }
}

/// Takes the vector out of a tensor's storage and leaves an empty one.
#[derive(Default)]
struct TakeStorage(RefCell<Vec<bf16>>);

impl InplaceOp1 for TakeStorage {
    fn name(&self) -> &'static str {
        "take-storage"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, _: &Layout) -> Result<()> {
        let CpuStorage::BF16(elements) = storage else { bail!("{}: not BF16", self.name()) };
        self.0.replace(std::mem::take(elements));
        Ok(())
    }
}

fn decode(reader: &Reader, name: &str, out: &mut [u8]) -> Result<()> {
    reader.decode_into(name, out).map_err(|error| named(name, error))
}

/// Errors of units name the file and the unit, but not the tensor.
fn named(name: &str, error: df11_model::Error) -> Error {
    match error {
        df11_model::Error::Unit { .. } => Error::msg(format!("{error} (decoding tensor {name})")),
        error => Error::wrap(error),
    }
}

/// Makes a tensor of the type of `original` and the given shape. `fill` writes its bytes.
fn tensor_of(
    original: &ReaderTensor,
    shape: Vec<usize>,
    fill: impl FnOnce(&mut [u8]) -> Result<()>,
) -> Result<Tensor> {
    fn typed<T: WithDType + Pod>(
        shape: Vec<usize>,
        fill: impl FnOnce(&mut [u8]) -> Result<()>,
    ) -> Result<Tensor> {
        // If one dimension is 0, the others may have any value. Otherwise they fit, since the
        // tensor's bytes exist.
        let count = if shape.contains(&0) { 0 } else { shape.iter().product() };
        let mut elements = vec![T::zeroed(); count];
        fill(cast_slice_mut(&mut elements))?;
        Tensor::from_vec(elements, shape, &Device::Cpu)
    }
    match original.dtype() {
        "BF16" => typed::<bf16>(shape, fill),
        "F16" => typed::<f16>(shape, fill),
        "F32" => typed::<f32>(shape, fill),
        "F64" => typed::<f64>(shape, fill),
        "U8" => typed::<u8>(shape, fill),
        "U32" => typed::<u32>(shape, fill),
        "I64" => typed::<i64>(shape, fill),
        other => {
            bail!("tensor {} is {other}, which this adapter gives no candle tensor for", original.name())
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Storage;

    use super::*;

    /// Three parts of four weights each.
    fn plans() -> Vec<Plan> {
        ["a", "b", "c"].map(|name| Plan::new(vec![(name.to_owned(), vec![2, 2], 4)])).into()
    }

    /// Fills a tensor with its name, and reports it.
    fn fill(decoded: Sender<String>) -> impl FnMut(&str, &mut [u8]) -> Result<()> + Send {
        move |name, out| {
            out.fill(name.as_bytes()[0]);
            decoded.send(name.to_owned()).map_err(Error::wrap)
        }
    }

    /// Returns the address of a tensor's storage.
    fn address(tensor: &Tensor) -> *const bf16 {
        let (storage, _) = tensor.storage_and_layout();
        let Storage::Cpu(CpuStorage::BF16(elements)) = &*storage else { panic!("not BF16 on the CPU") };
        elements.as_ptr()
    }

    #[test]
    fn the_thread_is_ahead_by_the_free_buffers_and_no_further() {
        let (decoded, seen) = channel();
        let mut stream = Stream::start(plans(), 2, fill(decoded)).unwrap();
        let first = stream.take(0).unwrap();
        // No one requested `b`.
        assert_eq!([seen.recv().unwrap(), seen.recv().unwrap()], ["a", "b"]);
        let second = stream.take(1).unwrap();
        // Both buffers are held, so the thread cannot have begun `c`.
        assert!(seen.try_recv().is_err());
        drop(first);
        assert_eq!(seen.recv().unwrap(), "c");
        drop(second);
        assert_eq!(seen.recv().unwrap(), "a");
    }

    #[test]
    fn a_panic_of_the_thread_reaches_the_caller() {
        let decode = |name: &str, _: &mut [u8]| if name == "b" { panic!("no {name} today") } else { Ok(()) };
        let mut stream = Stream::start(plans(), 2, decode).unwrap();
        drop(stream.take(0).unwrap());
        let error = stream.take(1).unwrap_err().to_string();
        assert!(error.contains("no b today"), "{error}");
        assert!(stream.take(1).is_err());
    }

    #[test]
    fn an_error_of_the_thread_reaches_the_caller_in_its_turn() {
        let decode = |name: &str, _: &mut [u8]| if name == "c" { bail!("no {name} today") } else { Ok(()) };
        let mut stream = Stream::start(plans(), 3, decode).unwrap();
        drop(stream.take(0).unwrap());
        drop(stream.take(1).unwrap());
        let error = stream.take(2).unwrap_err().to_string();
        assert!(error.contains("no c today"), "{error}");
        assert!(stream.take(2).is_err());
    }

    #[test]
    fn dropping_a_stream_ends_its_thread_even_while_parts_are_held() {
        for taken in 0..=2 {
            let (decoded, seen) = channel();
            let mut stream = Stream::start(plans(), 2, fill(decoded)).unwrap();
            let held: Vec<_> = (0..taken).map(|part| stream.take(part).unwrap()).collect();
            drop(stream);
            // The thread owned the other end, so this list ends.
            assert!(seen.iter().count() >= taken);
            drop(held);
        }
    }

    #[test]
    fn a_tensor_that_outlives_its_part_never_shows_other_weights() {
        let (decoded, _seen) = channel();
        let mut stream = Stream::start(plans(), 1, fill(decoded)).unwrap();
        let part = stream.take(0).unwrap();
        let copied = part.tensor("a").unwrap().copy().unwrap();
        let kept = part.tensor("a").unwrap().clone();
        let before = address(&kept);
        drop(part);
        let part = stream.take(1).unwrap();
        // While `kept` keeps its storage, the same address shows that the buffer was taken out of
        // it.
        assert_eq!(address(part.tensor("b").unwrap()), before);
        let shown = thread::spawn(move || kept.flatten_all()?.to_vec1::<bf16>()).join();
        assert!(!matches!(shown, Ok(Ok(_))), "it shows {shown:?}");
        let of = |byte: u8| vec![bf16::from_bits(u16::from_le_bytes([byte; 2])); 4];
        assert_eq!(copied.flatten_all().unwrap().to_vec1::<bf16>().unwrap(), of(b'a'));
        assert_eq!(part.tensor("b").unwrap().flatten_all().unwrap().to_vec1::<bf16>().unwrap(), of(b'b'));
    }
}
