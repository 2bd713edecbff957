//! Cortex-M4F, as in QEMU's `mps2-an386`.

use core::arch::{asm, global_asm};

use super::PAINT;

// The exception table, which begins with the first stack pointer, and the code that runs first.
// This code enables the floating-point unit (coprocessors 10 and 11), since code for this target
// may use its registers. It clears variables, and starts the counter of the system clock.
global_asm!(
    ".pushsection .start, \"a\"",
    ".word stack_top",
    ".word start",
    // NMI, HardFault, MemManage, BusFault, UsageFault; reserved entries; and exceptions that
    // nothing here triggers.
    ".rept 14",
    ".word {fault}",
    ".endr",
    ".popsection",
    ".pushsection .text.start, \"ax\"",
    ".global start",
    ".type start, %function",
    ".thumb_func",
    "start:",
    "ldr r0, =0xe000ed88", // CPACR
    "ldr r1, [r0]",
    "orr r1, r1, #0xf00000",
    "str r1, [r0]",
    "dsb",
    "isb",
    "ldr r0, =bss_start",
    "ldr r1, =bss_end",
    "movs r2, #0",
    "1:",
    "cmp r0, r1",
    "bhs 2f",
    "str r2, [r0], #4",
    "b 1b",
    "2:",
    "ldr r0, =0xe000e010", // SYST_CSR, SYST_RVR, SYST_CVR
    "ldr r1, =0xffffff",
    "str r1, [r0, #4]",
    "str r2, [r0, #8]",
    "movs r1, #5", // enabled, no interrupt, the processor's clock
    "str r1, [r0]",
    "bl {main}",
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
    // only r0.
    unsafe { asm!("bkpt #0xab", inout("r0") operation => _, in("r1") parameter, options(nostack)) };
}

/// The number of instructions in a tick. QEMU's clock of this machine has 25 MHz, and with `-icount
/// shift=0` an instruction takes one nanosecond.
const INSTRUCTIONS_IN_A_TICK: u32 = 40;

/// Returns the number of ticks, which counts down to 0 and then continues at 2^24 - 1.
pub(crate) fn instructions() -> u32 {
    /// SYST_CVR.
    const NOW: *const u32 = core::ptr::without_provenance(0xe000_e018);
    let now;
    // SAFETY: every Cortex-M4 has this register at this address, and reading it changes no memory.
    unsafe {
        asm!("ldr {now}, [{NOW}]", now = out(reg) now, NOW = in(reg) NOW, options(nostack, preserves_flags))
    };
    now
}

/// Returns the number of instructions since [`instructions`] returned `start`, rounded to a
/// multiple of 40. Fewer than 671 million may have passed.
pub(crate) fn instructions_since(start: u32) -> u32 {
    (start.wrapping_sub(instructions()) & 0xff_ffff).wrapping_mul(INSTRUCTIONS_IN_A_TICK)
}

/// Runs 2 instructions for each turn, and few others.
pub(crate) fn spin(turns: u32) {
    // SAFETY: the code changes only registers and flags.
    unsafe { asm!("2:", "subs {0}, {0}, #1", "bne 2b", inout(reg) turns => _, options(nomem, nostack)) };
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
            "ldr {at}, =stack_bottom",
            "mov {top}, sp",
            "2:",
            "cmp {at}, {top}",
            "bhs 3f",
            "str {paint}, [{at}], #4",
            "b 2b",
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
    // SAFETY: this reads from the start of the stack's memory, at most up to the stack pointer.
    unsafe {
        asm!(
            "ldr {at}, =stack_bottom",
            "2:",
            "cmp {at}, sp",
            "bhs 3f",
            "ldr {word}, [{at}]",
            "cmp {word}, {paint}",
            "bne 3f",
            "adds {at}, {at}, #4",
            "b 2b",
            "3:",
            at = out(reg) lowest,
            word = out(reg) _,
            paint = in(reg) PAINT,
            options(nostack, readonly),
        );
    }
    lowest
}
