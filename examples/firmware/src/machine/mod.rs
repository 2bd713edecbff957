//! Start-up, output and counters: all code that differs between machines, and most of the unsafe
//! code.
//!
//! Output and exit use semihosting: an instruction that a debugger, or QEMU, treats as a call to
//! the host.

#[cfg_attr(target_arch = "arm", path = "cortex_m.rs")]
#[cfg_attr(target_arch = "riscv32", path = "riscv.rs")]
mod this;

pub(crate) use this::{instructions, instructions_since, lowest_used, paint_stack, spin};

/// The value that unused stack is filled with.
const PAINT: u32 = 0xa5a5_5a5a;

/// Writes a character to the debug console.
#[inline(never)]
pub(crate) fn write(character: u8) {
    /// SYS_WRITEC: the parameter is the address of a character.
    const WRITE: usize = 0x03;
    // SAFETY: the operation reads one byte at the address of a local variable.
    unsafe { this::semihosting(WRITE, (&raw const character).expose_provenance()) };
}

/// Ends the program with this status.
pub(crate) fn exit(status: u32) -> ! {
    /// SYS_EXIT_EXTENDED: the parameter is the address of a reason and a status.
    const EXIT: usize = 0x20;
    /// ADP_Stopped_ApplicationExit.
    const REASON: u32 = 0x2_0026;
    let block = [REASON, status];
    // SAFETY: the operation reads two words at the address of a local variable.
    unsafe { this::semihosting(EXIT, block.as_ptr().expose_provenance()) };
    // Without a debugger, there is no host to stop the program.
    loop {
        core::hint::spin_loop();
    }
}

/// The start-up code jumps here, with a stack and cleared variables.
extern "C" fn main() -> ! {
    exit(if crate::run() { 0 } else { 1 })
}

/// Faults jump here.
extern "C" fn fault() -> ! {
    exit(2)
}
