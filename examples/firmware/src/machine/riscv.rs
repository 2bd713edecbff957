//! RISC-V with 32 bits, in machine mode, as in QEMU's `virt`.

use core::arch::{asm, global_asm};

use super::PAINT;

// The code that runs first, at the start of the image. It sets the trap handler and clears
// variables.
global_asm!(
    ".pushsection .start, \"ax\"",
    ".global start",
    ".type start, @function",
    "start:",
    "la t0, trap",
    "csrw mtvec, t0",
    "la sp, stack_top",
    "la t0, bss_start",
    "la t1, bss_end",
    "1:",
    "bgeu t0, t1, 2f",
    "sw zero, 0(t0)",
    "addi t0, t0, 4",
    "j 1b",
    "2:",
    "call {main}",
    // The lowest bits of mtvec are a mode, here 0.
    ".balign 4",
    "trap:",
    "tail {fault}",
    ".size start, . - start",
    ".popsection",
    fault = sym super::fault,
    main = sym super::main,
);

/// Calls the host.
///
/// # Safety
///
/// The parameter must be the one that the operation needs. In most cases it is the address of
/// memory that the host may read.
pub(super) unsafe fn semihosting(operation: usize, parameter: usize) {
    // SAFETY: the caller promises that the parameter is valid for the operation. The host changes
    // only a0. A debugger recognises these three instructions: they are not compressed, and their
    // alignment keeps them in one page.
    unsafe {
        asm!(
            ".option push",
            ".option norvc",
            ".balign 16",
            "slli zero, zero, 0x1f",
            "ebreak",
            "srai zero, zero, 7",
            ".option pop",
            inout("a0") operation => _,
            in("a1") parameter,
            options(nostack),
        );
    }
}

/// Returns the low 32 bits of the number of instructions so far.
pub(crate) fn instructions() -> u32 {
    let now;
    // SAFETY: the counter can always be read in machine mode. Without `pure`, it is read at this
    // place.
    unsafe { asm!("csrr {now}, minstret", now = out(reg) now, options(nostack, preserves_flags)) };
    now
}

/// Returns the number of instructions since [`instructions`] returned `start`. Fewer than 2^32 may
/// have passed.
pub(crate) fn instructions_since(start: u32) -> u32 {
    instructions().wrapping_sub(start)
}

/// Runs 2 instructions for each turn, and few others.
pub(crate) fn spin(turns: u32) {
    // SAFETY: the code changes only registers.
    unsafe {
        asm!("2:", "addi {0}, {0}, -1", "bnez {0}, 2b", inout(reg) turns => _, options(nomem, nostack))
    };
}

/// Fills the unused stack, and returns the stack pointer.
#[inline(always)]
pub(crate) fn paint_stack() -> usize {
    let top;
    // SAFETY: between the start of the stack's memory (a symbol of the linker script) and the stack
    // pointer there are no frames, so nothing in use is overwritten. No interrupt is enabled that
    // could have a frame there.
    unsafe {
        asm!(
            "la {at}, stack_bottom",
            "mv {top}, sp",
            "2:",
            "bgeu {at}, {top}, 3f",
            "sw {paint}, 0({at})",
            "addi {at}, {at}, 4",
            "j 2b",
            "3:",
            at = out(reg) _,
            top = out(reg) top,
            paint = in(reg) PAINT,
            options(nostack),
        );
    }
    top
}

/// Returns the lowest address of the stack whose content differs from what [`paint_stack`] wrote.
#[inline(always)]
pub(crate) fn lowest_used() -> usize {
    let lowest;
    // SAFETY: reads from the start of the stack's memory on, at most up to the stack pointer.
    unsafe {
        asm!(
            "la {at}, stack_bottom",
            "2:",
            "bgeu {at}, sp, 3f",
            "lw {word}, 0({at})",
            "bne {word}, {paint}, 3f",
            "addi {at}, {at}, 4",
            "j 2b",
            "3:",
            at = out(reg) lowest,
            word = out(reg) _,
            paint = in(reg) PAINT,
            options(nostack, readonly),
        );
    }
    lowest
}
