//! Times this repository's codec and other compressors with a C or Rust interface, one operation at
//! a time on one thread.
//!
//! `df11-peers WEIGHTS` reads BF16 weights, two little-endian bytes each and nothing else, and
//! writes one line of JSON that names its codecs. Then, for every line `NAME` on its input, it
//! compresses the weights with that codec, decompresses them, compares the result, and writes one
//! line with the size and the seconds of both calls. `../peers.py` drives it.

mod codec;
#[cfg(feature = "htscodecs")]
mod htscodecs;
mod zstd;

use std::error::Error;
use std::io::{BufRead, Write};
use std::time::Instant;

use codec::{Alone, Codec, Coded, Df11, Fast, FastFrames, Frames, OnExponents, SplitAndMerge};
use serde_json::{Value, json};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// A codec that is ready, or the reason why it is not.
struct Peer {
    name: &'static str,
    version: String,
    codec: Result<Box<dyn Codec>>,
}

fn boxed<C: Codec + 'static>(codec: C) -> Box<dyn Codec> {
    Box::new(codec)
}

fn peers(weights: &[u8]) -> Vec<Peer> {
    let len = weights.len();
    let zstd = zstd::version();
    vec![
        // Its version is that of the repository, so the driver knows it.
        Peer { name: "df11", version: String::new(), codec: Df11::new(weights).map(boxed) },
        Peer { name: "frame", version: String::new(), codec: Frames::new(weights).map(boxed) },
        Peer { name: "fast", version: String::new(), codec: FastFrames::new(weights).map(boxed) },
        Peer {
            name: "fast-bare",
            version: String::new(),
            codec: Fast::new(weights).map(|fast| boxed(OnExponents::new(fast, len))),
        },
        Peer {
            name: "fast-coded",
            version: String::new(),
            codec: Fast::new(weights).map(|fast| boxed(Alone::new(fast, len))),
        },
        Peer { name: "frame-coded", version: String::new(), codec: Coded::new(weights).map(boxed) },
        Peer {
            name: "huff0",
            version: zstd.clone(),
            codec: Ok(boxed(OnExponents::new(zstd::Huff0::new(), len))),
        },
        Peer {
            name: "huff0-coded",
            version: zstd.clone(),
            codec: Ok(boxed(Alone::new(zstd::Huff0::new(), len))),
        },
        Peer {
            name: "zstd-literals",
            version: zstd.clone(),
            codec: zstd::Frames::literals_only().map(|frames| boxed(OnExponents::new(frames, len))),
        },
        Peer {
            name: "zstd-1",
            version: zstd,
            codec: zstd::Frames::level(1).map(|frames| boxed(frames.whole(len))),
        },
        Peer { name: "split-merge", version: String::new(), codec: Ok(boxed(SplitAndMerge::new(len))) },
        #[cfg(feature = "htscodecs")]
        Peer {
            name: "rans",
            version: htscodecs::version(),
            codec: htscodecs::Rans::fastest(weights).map(|rans| boxed(OnExponents::new(rans, len))),
        },
        #[cfg(feature = "htscodecs")]
        Peer {
            name: "rans-coded",
            version: htscodecs::version(),
            codec: htscodecs::Rans::fastest(weights).map(|rans| boxed(Alone::new(rans, len))),
        },
    ]
}

/// Makes one round trip. Returns the size, and the seconds of each call alone.
fn round_trip(codec: &mut dyn Codec, weights: &[u8], restored: &mut [u8]) -> Result<Value> {
    codec.prepare(weights)?;
    let start = Instant::now();
    let size = codec.encode(weights)?;
    let encode = start.elapsed();
    // The output of an earlier codec must not pass for this one's.
    restored.fill(0xa5);
    let start = Instant::now();
    codec.decode(restored)?;
    let decode = start.elapsed();
    codec.finish(restored)?;
    if restored != weights {
        return Err("the restored weights differ".into());
    }
    Ok(json!({ "size": size, "encode": encode.as_secs_f64(), "decode": decode.as_secs_f64() }))
}

fn main() -> Result<()> {
    let path = std::env::args_os().nth(1).ok_or("usage: df11-peers WEIGHTS")?;
    let weights = std::fs::read(path)?;
    let mut restored = vec![1; weights.len()];
    let mut output = std::io::stdout().lock();

    let (mut ready, mut unavailable) = (Vec::new(), Vec::new());
    for Peer { name, version, codec } in peers(&weights) {
        // The first round trip is not timed: it touches every buffer.
        let tried = codec.and_then(|mut codec| {
            round_trip(codec.as_mut(), &weights, &mut restored)?;
            Ok(codec)
        });
        match tried {
            Ok(codec) => ready.push((name, version, codec)),
            Err(error) => unavailable.push(json!({ "name": name, "reason": error.to_string() })),
        }
    }
    let names: Vec<_> =
        ready.iter().map(|(name, version, _)| json!({ "name": name, "version": version })).collect();
    writeln!(output, "{}", json!({ "peers": names, "unavailable": unavailable }))?;
    output.flush()?;

    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let answer = match ready.iter_mut().find(|(name, ..)| *name == line) {
            Some((.., codec)) => round_trip(codec.as_mut(), &weights, &mut restored),
            None => Err(format!("no codec is named {line:?}").into()),
        };
        writeln!(output, "{}", answer.unwrap_or_else(|error| json!({ "error": error.to_string() })))?;
        output.flush()?;
    }
    Ok(())
}
