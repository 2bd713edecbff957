//! Weight sync between two processes: a trainer, and a server that holds the same weights.
//!
//! After each step the trainer sends, for every tensor, a delta against the weights that the server
//! has; every tenth step an *anchor*, which needs no base, so that a server that joins or has
//! missed a step can go on. The server applies deltas in place, tensor by tensor, on all threads,
//! and sends its weights back, which the trainer compares bit for bit. (That is for this example
//! alone.)
//!
//! ```sh
//! cargo run --release -p df11 --example weight_sync          # 50 steps
//! ```
//!
//! The trainer is no real one: masters in F32 move by about the learning rate, as Adam moves them.

#![allow(clippy::print_stdout, clippy::expect_used, reason = "a program that shows something")]

use std::error::Error;
use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::thread;

use df11::delta::{self, DecodeTable, Delta, EncodeOptions, Method};
use df11::frame::ElementType;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// Elements of each tensor.
const SHAPES: [usize; 6] = [1 << 20, 768, 1 << 20, 1 << 19, 1024, 1 << 18];

/// Every so many steps, an anchor.
const ANCHOR: u32 = 10;

/// What a weight moves by at most in a step.
const RATE: f32 = 1e-6;

/// splitmix64
fn random(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (*seed ^ (*seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A number from -1 to 1, near 0 more often.
fn wave(seed: &mut u64) -> f32 {
    let mut unit = || (random(seed) >> 40) as f32 / (1u32 << 24) as f32 - 0.5;
    (unit() + unit() + unit() + unit()) / 2.0
}

/// To the nearest BF16, little-endian.
fn bf16(weights: &[f32]) -> Vec<u8> {
    let round = |weight: &f32| {
        let bits = weight.to_bits();
        ((bits + 0x7fff + (bits >> 16 & 1)) >> 16) as u16
    };
    weights.iter().flat_map(|weight| round(weight).to_le_bytes()).collect()
}

/// Writes a length and as many bytes.
fn send(to: &mut impl Write, bytes: &[u8]) -> Result<()> {
    to.write_all(&(bytes.len() as u64).to_le_bytes())?;
    Ok(to.write_all(bytes)?)
}

/// Reads what [`send`] wrote; `None` at the end.
fn receive(from: &mut impl Read) -> Result<Option<Vec<u8>>> {
    let mut length = [0; 8];
    if from.read(&mut length[..1])? == 0 {
        return Ok(None);
    }
    from.read_exact(&mut length[1..])?;
    let mut bytes = vec![0; u64::from_le_bytes(length) as usize];
    from.read_exact(&mut bytes)?;
    Ok(Some(bytes))
}

/// The server: applies what comes in, until nothing does.
fn serve() -> Result<()> {
    let (mut input, mut output) = (std::io::stdin().lock(), std::io::stdout().lock());
    let mut weights: Vec<Vec<u8>> = SHAPES.iter().map(|len| vec![0; 2 * len]).collect();
    loop {
        let mut step = Vec::new();
        for _ in SHAPES {
            match receive(&mut input)? {
                Some(bytes) => step.push(bytes),
                None => return Ok(()),
            }
        }
        thread::scope(|scope| {
            let apply = |(weights, bytes): (&mut Vec<u8>, &Vec<u8>)| {
                let mut table = Box::new(DecodeTable::new());
                Delta::new(bytes)?.apply_in_place(&mut table, weights)
            };
            let threads: Vec<_> =
                weights.iter_mut().zip(&step).map(|work| scope.spawn(move || apply(work))).collect();
            threads.into_iter().try_for_each(|thread| thread.join().expect("no panic"))
        })?;
        for weights in &weights {
            send(&mut output, weights)?;
        }
        output.flush()?;
    }
}

/// The trainer.
fn train(steps: u32) -> Result<()> {
    let mut server = Command::new(std::env::current_exe()?)
        .arg("serve")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut to = server.stdin.take().ok_or("no input")?;
    let mut from = server.stdout.take().ok_or("no output")?;
    let mut seed = 1;
    let mut masters: Vec<Vec<f32>> =
        SHAPES.iter().map(|len| (0..*len).map(|_| wave(&mut seed) / 8.0).collect()).collect();
    let mut sent: Vec<Vec<u8>> = SHAPES.iter().map(|len| vec![0; 2 * len]).collect();
    let weights: usize = SHAPES.iter().sum();
    println!("{weights} weights: {} bytes a step as BF16", 2 * weights);
    let (mut all, mut anchors) = (0, 0);
    for step in 0..steps {
        for weight in masters.iter_mut().flatten().filter(|_| step > 0) {
            *weight += RATE * wave(&mut seed);
        }
        let new: Vec<Vec<u8>> = masters.iter().map(|masters| bf16(masters)).collect();
        let is_anchor = step % ANCHOR == 0;
        let deltas = thread::scope(|scope| {
            let encode = |new: &Vec<u8>, base: &Vec<u8>| match is_anchor {
                true => EncodeOptions::new().method(Method::Frame).encode(ElementType::Bf16, new, base),
                false => delta::encode(ElementType::Bf16, new, base),
            };
            let threads: Vec<_> =
                new.iter().zip(&sent).map(|(new, base)| scope.spawn(move || encode(new, base))).collect();
            let joined = threads.into_iter().map(|thread| thread.join().expect("no panic"));
            joined.collect::<std::result::Result<Vec<_>, df11::Error>>()
        })?;
        for delta in &deltas {
            send(&mut to, delta)?;
        }
        to.flush()?;
        for (new, number) in new.iter().zip(0..) {
            let served = receive(&mut from)?.ok_or("the server is gone")?;
            if served != *new {
                return Err(format!("step {step}: tensor {number} of the server differs").into());
            }
        }
        let bytes: usize = deltas.iter().map(Vec::len).sum();
        if is_anchor {
            anchors += bytes;
            println!("step {step:2}: anchor, {bytes} bytes ({:.1} %)", 50.0 * bytes as f64 / weights as f64);
        } else {
            let pairs = |(new, base): (&Vec<u8>, &Vec<u8>)| {
                new.chunks(2).zip(base.chunks(2)).filter(|(new, base)| new != base).count()
            };
            let changed: usize = new.iter().zip(&sent).map(pairs).sum();
            println!(
                "step {step:2}: {bytes} bytes ({:.3} %), {:.2} bits for each of {changed} changes; 6 bytes \
                 a change: {}",
                50.0 * bytes as f64 / weights as f64,
                8.0 * bytes as f64 / changed.max(1) as f64,
                6 * changed
            );
            all += bytes;
        }
        sent = new;
    }
    drop(to);
    server.wait()?;
    println!("{steps} steps, all equal bit for bit: {all} bytes of deltas, {anchors} of anchors");
    Ok(())
}

fn main() -> Result<()> {
    match std::env::args().nth(1) {
        Some(word) if word == "serve" => serve(),
        Some(steps) => train(steps.parse()?),
        None => train(50),
    }
}
