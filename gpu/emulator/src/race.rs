//! Race detection in shared memory: records the last accesses of each byte, and whether anything
//! orders them before the next one.

use crate::findings::Kind;

/// A thread of a thread block, and the time of its access.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Access {
    /// The number of the thread, from 1 on; 0 means no thread.
    thread: u32,
    when: u32,
}

/// The last accesses of a byte.
#[derive(Clone, Copy, Debug, Default)]
struct Cell {
    writer: Access,
    /// The last atomic operation since the write. Other atomic operations may follow it.
    atomic: Access,
    /// Two different readers since the write. Any later writer differs from at least one of them.
    readers: [Access; 2],
}

/// The events that order the threads of a thread block.
#[derive(Clone, Debug, Default)]
pub(crate) struct Order {
    /// The number of instructions that the warps of the thread block have run.
    pub(crate) now: u32,
    /// The time when all threads last met at a barrier.
    pub(crate) barrier: u32,
    /// For each warp: which lanes met, and when, for the last few times.
    pub(crate) in_warp: Vec<[(u32, u32); 4]>,
}

impl Order {
    /// Records that lanes of a warp have met.
    pub(crate) fn meet(&mut self, warp: usize, lanes: u32) {
        let met = &mut self.in_warp[warp];
        met.rotate_right(1);
        met[0] = (lanes, self.now);
    }

    /// Returns the kind of race, if any, between access `a` and a current access of thread `b`.
    fn race(&self, a: Access, b: u32) -> Option<Kind> {
        if a.thread == 0 || a.thread == b || a.when < self.barrier {
            return None;
        }
        let (first, second) = (a.thread - 1, b - 1);
        if first / 32 != second / 32 {
            return Some(Kind::Race);
        }
        let both = 1u32 << (first % 32) | 1 << (second % 32);
        let met = self.in_warp[(first / 32) as usize];
        let is_between = met.iter().any(|(lanes, when)| lanes & both == both && *when >= a.when);
        (!is_between).then_some(Kind::RaceInWarp)
    }
}

/// The kind of an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Touch {
    Read,
    /// Whether every byte keeps its value.
    Write {
        is_same: bool,
    },
    Atomic,
}

/// The records of all bytes of a thread block's shared memory.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shadow(Vec<Cell>);

impl Shadow {
    pub(crate) fn new(bytes: usize) -> Self {
        Shadow(vec![Cell::default(); bytes])
    }

    /// Records an access by a thread, counted from 1. Returns the kind of race and the other
    /// thread, if there is a race.
    pub(crate) fn touch(
        &mut self,
        order: &Order,
        at: usize,
        len: usize,
        thread: u32,
        touch: Touch,
    ) -> Option<(Kind, u32)> {
        let mut found = None;
        let now = Access { thread, when: order.now };
        for cell in &mut self.0[at..at + len] {
            let mut before = [cell.writer, cell.atomic, cell.readers[0], cell.readers[1]];
            match touch {
                Touch::Read => {
                    before[2..].fill(Access::default());
                    let [a, b] = &mut cell.readers;
                    if a.thread == thread || a.thread == 0 || a.when < order.barrier {
                        *a = now;
                    } else {
                        *b = now;
                    }
                }
                Touch::Write { is_same } => {
                    // Lanes that write the same value in the same instruction do no harm.
                    if is_same && cell.writer.when == order.now {
                        before[0] = Access::default();
                    }
                    *cell = Cell { writer: now, ..Cell::default() };
                }
                Touch::Atomic => {
                    before[1] = Access::default();
                    cell.atomic = now;
                }
            }
            for other in before {
                found = found.or(order.race(other, thread).map(|kind| (kind, other.thread)));
            }
        }
        found
    }
}
