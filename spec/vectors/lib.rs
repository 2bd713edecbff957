//! The test vectors of DF11, of frames and of deltas, compiled in: for judges and for tests of
//! other implementations in Rust.
//!
//! Data alone, and no dependency. `df11-judge` reads it and runs programs on it;
//! `spec/CONFORMANCE.md` in the repository says how to be judged.
//!
//! ```
//! let (name, bytes) = df11_vectors::FILES[0];
//! assert!(name == "units.safetensors" && bytes.len() > 1_000_000);
//! assert!(df11_vectors::DF11.contains("\"numberOfTests\""));
//! ```

#![no_std]

/// `df11.json`: what is asked in each test of units, and the answer. `df11.schema.json` beside it
/// says how it is built.
pub const DF11: &str = include_str!("df11.json");

/// `frames.json`: frames as hexadecimal text, and frequencies with the counts they are made of.
pub const FRAMES: &str = include_str!("frames.json");

/// `delta.json`: deltas and their bases as hexadecimal text, and the SHA-256 of what they give.
/// `delta.schema.json` says how it is built.
pub const DELTA: &str = include_str!("delta.json");

/// A file that the official encoder wrote.
macro_rules! official {
    ($name:literal) => {
        (
            concat!("official-0.5.0/", $name, ".df11.safetensors"),
            include_bytes!(concat!("official-0.5.0/", $name, ".df11.safetensors")),
        )
    };
}

/// The files that [`DF11`] names, with their bytes.
pub const FILES: [(&str, &[u8]); 9] = [
    ("units.safetensors", include_bytes!("units.safetensors")),
    ("weights.safetensors", include_bytes!("weights.safetensors")),
    official!("real_two_tensors"),
    official!("real_single"),
    official!("four_exponents"),
    official!("long_codes"),
    official!("byte_aligned_end"),
    official!("short_output_positions"),
    official!("gap_in_empty_window"),
];
