//! Decodes the weights of the next transformer block on a second stream, while the first computes
//! with those of this one.
//!
//! ```sh
//! cargo run --release -p df11-gpu --example overlap          # on the emulator
//! cargo run --release -p df11-gpu --example overlap cuda:0
//! ```
//!
//! An engine works in this way. When it loads, it places the parts on the device and makes a
//! [`Batch`] for each transformer block. For each token and block, one launch on a separate stream
//! decodes to one of two buffers, alternately. Events prevent the two streams from overwriting each
//! other's data. Here, a copy stands for the engine's computation.

#![allow(unsafe_code, reason = "an engine gives the device bare addresses and streams")]
#![allow(clippy::print_stdout, reason = "an example that says what it did")]

#[cfg(not(target_os = "linux"))]
fn main() {}

#[cfg(target_os = "linux")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    linux::run(std::env::args().nth(1).as_deref().unwrap_or("emulated"))
}

#[cfg(all(test, target_os = "linux"))]
#[test]
fn every_block_is_decoded_before_it_is_used() {
    assert!(linux::run("emulated").is_ok());
}

#[cfg(target_os = "linux")]
mod linux {
    use df11::encode;
    use df11_gpu::{Batch, Emulation, Error, Event, Gpu, Item, Memory, Stream, Target, Unit};

    /// The number of transformer blocks, of tensors in each, and of weights in a tensor.
    const BLOCKS: usize = 6;
    const TENSORS: usize = 7;
    const WEIGHTS: usize = 3000;

    /// A transformer block whose weights are compressed.
    struct Block {
        weights: Vec<Vec<u8>>,
        batch: Batch,
    }

    /// Uploads a transformer block and prepares its batch. Everything that takes long is done here,
    /// once.
    fn load(gpu: &Gpu, number: usize) -> Result<Block, Error> {
        let weight = |tensor: usize, i: usize| (0x3c00 + (number * 31 + tensor * 7 + i * i) % 800) as u16;
        let weights: Vec<Vec<u8>> = (0..TENSORS)
            .map(|tensor| (0..WEIGHTS).flat_map(|i| weight(tensor, i).to_le_bytes()).collect())
            .collect();
        let upload = |weights: &Vec<u8>| gpu.upload(&encode(weights)?.as_slices());
        let units: Vec<Unit> = weights.iter().map(upload).collect::<Result<_, Error>>()?;
        let items: Vec<Item<'_>> = units.iter().map(Item::Unit).collect();
        Ok(Block { weights, batch: Batch::packed(gpu, &items)? })
    }

    /// One of two buffers for weights, and its state.
    struct Buffer {
        memory: Memory,
        /// Happens when the weights are decoded.
        decoded: Event,
        /// Happens when the weights are no longer needed.
        used: Event,
    }

    /// Stands for computing: copies the weights to where they are compared in the end.
    fn compute(gpu: &Gpu, stream: &Stream, from: &Memory, to: &Memory) -> Result<(), Error> {
        // SAFETY: both are memory of this device, of equal length, and stay until the stream is
        // done.
        unsafe { gpu.enqueue_copy(stream.as_raw(), from.address(), to.address(), to.len()) }
    }

    pub(crate) fn run(target: &str) -> Result<(), Box<dyn std::error::Error>> {
        let target: Target = target.parse()?;
        let gpu = match target {
            Target::Cuda(number) => Gpu::open(number)?,
            Target::Emulated => Gpu::emulated(Emulation::default())?,
            Target::Cpu => return Err("this is about devices".into()),
        };
        let blocks: Vec<Block> =
            (0..BLOCKS).map(|number| load(&gpu, number)).collect::<Result<_, Error>>()?;
        let bytes = blocks.iter().map(|block| block.batch.output_bytes()).max().unwrap_or(0) as usize;
        let buffer = || -> Result<Buffer, Error> {
            let (decoded, used) = (Event::new(&gpu)?, Event::new(&gpu)?);
            Ok(Buffer { memory: gpu.allocate(bytes)?, decoded, used })
        };
        let buffers: [Buffer; 2] = [buffer()?, buffer()?];
        let seen: Vec<Memory> = (0..BLOCKS).map(|_| gpu.allocate(bytes)).collect::<Result<_, Error>>()?;
        let (computing, decoding) = (Stream::new(&gpu)?, Stream::new(&gpu)?);

        let decode = |number: usize| -> Result<(), Error> {
            let (Some(block), buffer) = (blocks.get(number), &buffers[number % 2]) else { return Ok(()) };
            // Decoding waits until the buffer's content is used. There is no wait for an event that
            // was never recorded.
            decoding.wait_for(&buffer.used)?;
            // SAFETY: the buffer has room for the largest batch. Buffers, batches and streams stay
            // to the end, and events keep others from the buffer until it is decoded.
            unsafe { block.batch.enqueue(decoding.as_raw(), buffer.memory.address())? };
            buffer.decoded.record(&decoding)
        };
        decode(0)?;
        for number in 0..BLOCKS {
            // This decodes the next block while the current one is computed.
            decode(number + 1)?;
            let buffer = &buffers[number % 2];
            computing.wait_for(&buffer.decoded)?;
            compute(&gpu, &computing, &buffer.memory, &seen[number])?;
            buffer.used.record(&computing)?;
        }
        // No call has waited so far. Checking for faults once a token is enough.
        computing.wait()?;
        for (block, seen) in blocks.iter().zip(&seen) {
            // SAFETY: the stream is of this device, and no other stream is decoding the batch.
            unsafe { block.batch.check(decoding.as_raw())? };
            let seen = seen.to_host()?;
            for (item, weights) in block.weights.iter().enumerate() {
                let at = block.batch.offset(item).unwrap_or(0) as usize;
                assert!(seen[at..at + weights.len()] == *weights, "other weights than were compressed");
            }
        }
        println!(
            "{BLOCKS} blocks of {TENSORS} tensors on {target}: each decoded while the one before was computed"
        );
        Ok(())
    }
}
