//! Decodes a unit that is compiled in, without the standard library and without an allocator. If
//! any crate under `df11` came to need either, this would not link: there would be a second panic
//! handler, or no allocator.
//!
//! Runs on a hosted system, so that it can be tried anywhere: `cargo run` exits with 0 if every
//! weight is right. The C library is linked for its start-up code and `memcpy`. On a
//! microcontroller, the board's runtime provides both.

#![no_std]
#![no_main]

use core::ffi::c_int;
use core::panic::PanicInfo;

use df11::{Error, Parts, Unit};

/// Returns a unit of three weights, 1.0, 2.0 and -1.5, byte for byte. Its exponents are 127, 128
/// and 127; the code is 127 = `0`, 128 = `1`.
fn unit() -> Result<Unit<'static>, Error> {
    static LUTS: [u8; 512] = {
        let mut luts = [127; 512];
        let mut i = 128;
        while i < 256 {
            luts[i] = 128; // a first bit of 1
            i += 1;
        }
        while i < 512 {
            luts[i] = (i == 256 + 127 || i == 256 + 128) as u8; // code lengths
            i += 1;
        }
        luts
    };
    Unit::new(Parts {
        luts: &LUTS,
        encoded_exponent: &[0b010_00000],
        sign_mantissa: &[0x00, 0x00, 0xc0],
        output_positions: &[0, 0, 0, 0, 3, 0, 0, 0],
        gaps: &[0; 320],
        split_positions: &[],
    })
}

fn decode() -> Result<bool, Error> {
    let unit = unit()?;
    let mut weights = [0; 6];
    unit.decode_into(&mut weights)?;
    let mut last = [0; 2];
    unit.decode_range_into(2..3, &mut last)?;
    Ok(weights == [0x80, 0x3f, 0x00, 0x40, 0xc0, 0xbf] && last == [0xc0, 0xbf])
}

/// The C start-up code calls this.
#[unsafe(no_mangle)]
extern "C" fn main(_argc: c_int, _argv: *const *const u8) -> c_int {
    match decode() {
        Ok(true) => 0,
        Ok(false) => 1,
        Err(_) => 2,
    }
}

#[panic_handler]
fn panic(_info: &PanicInfo<'_>) -> ! {
    loop {}
}

/// The unwinding tables of the precompiled `core` name this symbol. Nothing here unwinds.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}
