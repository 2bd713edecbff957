//! What decoding takes.

use crate::machine;

/// Instructions and stack.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measured {
    /// Instructions of what was counted.
    pub(crate) instructions: u32,
    /// The most stack, in bytes, that was in use at once, from the frame of the closure on.
    pub(crate) stack: u32,
}

/// Adds instructions up.
#[derive(Debug)]
pub(crate) struct Counter(u32);

impl Counter {
    /// Counts the instructions of `work`.
    pub(crate) fn count<R>(&mut self, work: impl FnOnce() -> R) -> R {
        let start = machine::instructions();
        let result = work();
        self.0 = self.0.wrapping_add(machine::instructions_since(start));
        result
    }
}

impl Measured {
    /// Runs `work`, measures its stack, and the instructions of what it counts.
    // Neither is inlined, so that the stack pointer between the two is where the frames of `work`
    // begin.
    #[inline(never)]
    pub(crate) fn of<R>(work: impl FnOnce(&mut Counter) -> R) -> (R, Self) {
        let mut counter = Counter(0);
        let top = machine::paint_stack();
        let result = call(work, &mut counter);
        let stack = top - machine::lowest_used();
        (result, Measured { instructions: counter.0, stack: stack as u32 })
    }
}

#[inline(never)]
fn call<R>(work: impl FnOnce(&mut Counter) -> R, counter: &mut Counter) -> R {
    work(counter)
}
