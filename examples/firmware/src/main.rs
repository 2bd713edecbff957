//! An image for a microcontroller that restores the weights it holds in flash, block by block, and
//! says what came out and what that took. `run.sh` runs it in QEMU and compares what it prints with
//! what the host says.

#![no_std]
#![no_main]

#[cfg(feature = "dictionary")]
mod dictionary;
#[cfg(any(feature = "rans", feature = "dictionary"))]
mod framed;
mod machine;
mod measure;
mod print;
#[cfg(any(feature = "units", feature = "rans", feature = "dictionary"))]
mod ram;
#[cfg(feature = "rans")]
mod rans;
#[cfg(feature = "units")]
mod units;

use core::panic::PanicInfo;

use measure::Measured;
use print::{Hex, say};

/// How many codecs the image was built with.
const CODECS: usize = cfg!(feature = "units") as usize
    + cfg!(feature = "rans") as usize
    + cfg!(feature = "dictionary") as usize;

/// Files that the build script made, as variables in flash: apart from other constants, so that
/// these can be measured.
#[cfg(any(feature = "units", feature = "rans", feature = "dictionary"))]
macro_rules! weights {
    ($($name:ident = $file:literal;)+) => {
        $(
            #[unsafe(link_section = ".weights")]
            static $name: [u8; include_bytes!(concat!(env!("OUT_DIR"), "/", $file)).len()] =
                *include_bytes!(concat!(env!("OUT_DIR"), "/", $file));
        )+
    };
}
#[cfg(any(feature = "units", feature = "rans", feature = "dictionary"))]
pub(crate) use weights;

/// What the build script found out about the weights.
#[cfg(any(feature = "units", feature = "rans", feature = "dictionary"))]
#[allow(dead_code, reason = "an image of one codec needs one of the buffers")]
mod constants {
    include!(concat!(env!("OUT_DIR"), "/constants.rs"));
}

/// Runs every codec that the image was built with; `false` if one of them did not do what it
/// should.
fn run() -> bool {
    // A loop whose instructions are known: whether the counter counts instructions, and what
    // measuring itself takes.
    let ((), known) = Measured::of(|counter| counter.count(|| machine::spin(100_000)));
    let sum = print::checksum(0, b"123456789");
    say!["measured loop instructions=", known.instructions, " stack=", known.stack, "\n"];
    say!["measured check checksum=", Hex(sum), "\n"];
    let codecs: [fn() -> bool; CODECS] = [
        #[cfg(feature = "units")]
        units::run,
        #[cfg(feature = "rans")]
        rans::run,
        #[cfg(feature = "dictionary")]
        dictionary::run,
    ];
    codecs.into_iter().all(|run| run())
}

/// Nothing calls this: `run.sh` fails if an image still has it.
#[panic_handler]
fn panic(_info: &PanicInfo<'_>) -> ! {
    machine::exit(3)
}
