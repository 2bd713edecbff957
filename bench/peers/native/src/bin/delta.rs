//! Times deltas beside what is done today: exclusive or, byte planes and zstd -3 (ZipLLM's BitX),
//! and lists of changed weights (4 bytes of index and 2 of value).
//!
//! `delta ROUNDS FOLDER...` reads `base.safetensors` and `new.safetensors` in each folder, and
//! prints a line for each pair: sizes in per cent of BF16, and GB/s of BF16 by the time of the
//! processor, the best of all rounds of each, which take turns. Everything runs tensor by tensor,
//! on one thread.

#![expect(clippy::print_stdout, reason = "the result")]
#![expect(unsafe_code, reason = "calls C")]

use std::error::Error;

use df11::delta::{self, DecodeTable, Delta};
use df11::frame::{self, ElementType};
use zstd_sys::{ZSTD_compress, ZSTD_compressBound, ZSTD_decompress, ZSTD_isError};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// The level that BitX uses.
const LEVEL: i32 = 3;

/// The BF16 tensors of a file, by name.
fn tensors(path: &str) -> Result<Vec<(String, Vec<u8>)>> {
    let bytes = std::fs::read(path)?;
    let length = bytes.first_chunk().ok_or("no header")?;
    let (header, data) = bytes[8..].split_at(u64::from_le_bytes(*length) as usize);
    let header: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(header)?;
    let mut all = Vec::new();
    for (name, entry) in header.iter().filter(|(_, entry)| entry["dtype"] == "BF16") {
        let at = |i: usize| entry["data_offsets"][i].as_u64().unwrap_or(0) as usize;
        all.push((name.clone(), data[at(0)..at(1)].to_vec()));
    }
    Ok(all)
}

/// Seconds that this thread has run: other programs of the machine do not count.
fn seconds() -> f64 {
    #[repr(C)]
    struct Time {
        seconds: i64,
        nanoseconds: i64,
    }
    unsafe extern "C" {
        fn clock_gettime(clock: i32, time: *mut Time) -> i32;
    }
    /// `CLOCK_THREAD_CPUTIME_ID` of Linux.
    const OF_THREAD: i32 = 3;
    let mut time = Time { seconds: 0, nanoseconds: 0 };
    // SAFETY: the structure is that of 64-bit Linux, and there is one to write to.
    unsafe { clock_gettime(OF_THREAD, &raw mut time) };
    time.seconds as f64 + time.nanoseconds as f64 / 1e9
}

fn checked(code: usize) -> Result<usize> {
    // SAFETY: the function uses only the number.
    if unsafe { ZSTD_isError(code) } == 0 { Ok(code) } else { Err("zstd failed".into()) }
}

fn compress(from: &[u8], to: &mut Vec<u8>) -> Result<()> {
    // SAFETY: the function uses only the number.
    to.resize(unsafe { ZSTD_compressBound(from.len()) }, 0);
    // SAFETY: both buffers are valid for their lengths.
    let code =
        unsafe { ZSTD_compress(to.as_mut_ptr().cast(), to.len(), from.as_ptr().cast(), from.len(), LEVEL) };
    to.truncate(checked(code)?);
    Ok(())
}

fn decompress(from: &[u8], to: &mut [u8]) -> Result<()> {
    // SAFETY: both buffers are valid for their lengths.
    let code = unsafe { ZSTD_decompress(to.as_mut_ptr().cast(), to.len(), from.as_ptr().cast(), from.len()) };
    checked(code).map(|_| ())
}

/// A way to store one tensor against another.
trait Peer {
    fn encode(&mut self, base: &[u8], new: &[u8]) -> Result<usize>;
    fn decode(&mut self, base: &[u8], out: &mut [u8]) -> Result<()>;
}

#[derive(Default)]
struct Ours {
    delta: Vec<u8>,
    table: Box<DecodeTable>,
    in_place: bool,
}

impl Peer for Ours {
    fn encode(&mut self, base: &[u8], new: &[u8]) -> Result<usize> {
        self.delta = delta::encode(ElementType::Bf16, new, base)?;
        Ok(self.delta.len())
    }

    fn decode(&mut self, base: &[u8], out: &mut [u8]) -> Result<()> {
        let delta = Delta::new(&self.delta)?;
        match self.in_place {
            true => delta.apply_in_place(&mut self.table, out)?,
            false => delta.apply_in(&mut self.table, base, out)?,
        }
        Ok(())
    }
}

#[derive(Default)]
struct BitX {
    planes: [Vec<u8>; 2],
    stored: [Vec<u8>; 2],
}

impl Peer for BitX {
    fn encode(&mut self, base: &[u8], new: &[u8]) -> Result<usize> {
        let [low, high] = &mut self.planes;
        low.resize(new.len() / 2, 0);
        high.resize(new.len() / 2, 0);
        let pairs = base.as_chunks::<2>().0.iter().zip(new.as_chunks::<2>().0);
        for ((low, high), (base, new)) in low.iter_mut().zip(high.iter_mut()).zip(pairs) {
            (*low, *high) = (base[0] ^ new[0], base[1] ^ new[1]);
        }
        compress(low, &mut self.stored[0])?;
        compress(high, &mut self.stored[1])?;
        Ok(self.stored[0].len() + self.stored[1].len())
    }

    fn decode(&mut self, base: &[u8], out: &mut [u8]) -> Result<()> {
        for (plane, stored) in self.planes.iter_mut().zip(&self.stored) {
            plane.resize(base.len() / 2, 0);
            decompress(stored, plane)?;
        }
        let [low, high] = &self.planes;
        let pairs = base.as_chunks::<2>().0.iter().zip(out.as_chunks_mut::<2>().0);
        for ((low, high), (base, out)) in low.iter().zip(high).zip(pairs) {
            *out = [base[0] ^ low, base[1] ^ high];
        }
        Ok(())
    }
}

#[derive(Default)]
struct Sparse(Vec<(u32, [u8; 2])>);

impl Peer for Sparse {
    fn encode(&mut self, base: &[u8], new: &[u8]) -> Result<usize> {
        self.0.clear();
        let pairs = base.as_chunks::<2>().0.iter().zip(new.as_chunks::<2>().0);
        self.0.extend((0..).zip(pairs).filter(|(_, (base, new))| base != new).map(|(i, (_, new))| (i, *new)));
        Ok(6 * self.0.len())
    }

    fn decode(&mut self, base: &[u8], out: &mut [u8]) -> Result<()> {
        out.copy_from_slice(base);
        let out = out.as_chunks_mut::<2>().0;
        self.0.iter().for_each(|(i, new)| out[*i as usize] = *new);
        Ok(())
    }
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let rounds: usize = arguments.next().ok_or("usage: delta ROUNDS FOLDER...")?.parse()?;
    println!(
        "pair | equal % | frame % | name: size %, encode GB/s, decode GB/s; times BitX: size, encode, decode"
    );
    for folder in arguments {
        let base = tensors(&format!("{folder}/base.safetensors"))?;
        let new = tensors(&format!("{folder}/new.safetensors"))?;
        let total: usize = new.iter().map(|(_, new)| new.len()).sum();
        let (mut equal, mut frames) = (0, 0);
        for ((_, base), (_, new)) in base.iter().zip(&new) {
            let pairs = base.as_chunks::<2>().0.iter().zip(new.as_chunks::<2>().0);
            equal += pairs.filter(|(base, new)| base == new).count();
            frames += frame::encode(ElementType::Bf16, &[new.len() as u64 / 2], new)?.len();
        }
        let percent = |bytes: usize| 100.0 * bytes as f64 / total as f64;
        let mut peers: [(&str, Box<dyn Peer>); 4] = [
            ("BitX", Box::<BitX>::default()),
            ("delta", Box::<Ours>::default()),
            ("in place", Box::new(Ours { in_place: true, ..Ours::default() })),
            ("sparse", Box::<Sparse>::default()),
        ];
        let mut best = [(0, f64::MAX, f64::MAX); 4];
        for round in 0..rounds {
            for turn in 0..peers.len() {
                let which = (round + turn) % peers.len();
                let peer = &mut peers[which].1;
                let (mut size, mut encode, mut decode) = (0, 0.0, 0.0);
                for ((_, base), (name, new)) in base.iter().zip(&new) {
                    let mut out = base.clone();
                    let start = seconds();
                    size += peer.encode(base, new)?;
                    encode += seconds() - start;
                    let start = seconds();
                    peer.decode(base, &mut out)?;
                    decode += seconds() - start;
                    if out != *new {
                        return Err(format!("{name} differs").into());
                    }
                }
                let (_, before_encode, before_decode) = best[which];
                best[which] = (size, before_encode.min(encode), before_decode.min(decode));
            }
        }
        let speed = |seconds: f64| total as f64 / 1e9 / seconds;
        println!("{folder} | {:.3} | {:.3}", 200.0 * equal as f64 / total as f64, percent(frames));
        let (bitx, bitx_encode, bitx_decode) = best[0];
        for ((name, _), (size, encode, decode)) in peers.iter().zip(best) {
            println!(
                "    {name}: {:.4} %, {:.3}, {:.3}; {:.3}, {:.2}, {:.2}",
                percent(size),
                speed(encode),
                speed(decode),
                size as f64 / bitx as f64,
                bitx_encode / encode,
                bitx_decode / decode
            );
        }
    }
    Ok(())
}
