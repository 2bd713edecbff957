//! What thread blocks know of each other's writes. One that fences its writes and then changes a
//! word by an atomic operation *releases* them there; one that changes the same word later, and
//! then fences, has *seen* them.

use std::collections::BTreeMap;

/// The number of threads that each thread block has in the numbers of threads.
const MOST_THREADS: u32 = super::execute::MOST_THREADS;

/// A write or an atomic operation: its thread, counted from 1 over the whole grid, and the time in
/// its thread block. Thread 0 stands for none.
pub(crate) type Done = (u32, u32);

/// What a thread has released.
#[derive(Clone, Copy, Debug)]
struct Release {
    thread: u32,
    /// The times of its last fence, and of the last barrier before that.
    fence: u32,
    barrier: u32,
}

impl Release {
    /// Tells whether a write of another thread block is among what was released.
    fn has(&self, (writer, when): Done) -> bool {
        block(writer) == block(self.thread)
            && (when < self.barrier || (writer == self.thread && when < self.fence))
    }
}

fn block(thread: u32) -> u32 {
    (thread - 1) / MOST_THREADS
}

/// What the thread blocks of a launch have released, and what the running one has seen.
#[derive(Debug, Default)]
pub(crate) struct Meetings {
    /// By the address of the word.
    released: BTreeMap<u64, Vec<Release>>,
    /// The last fence of threads of this block, and the last barrier before it.
    fences: BTreeMap<u32, (u32, u32)>,
    /// What threads of this block have met in an atomic operation without a fence since, and what
    /// they have seen, with the time.
    met: Vec<(u32, Release)>,
    seen: Vec<(u32, u32, Release)>,
}

impl Meetings {
    /// Begins another thread block.
    pub(crate) fn next_block(&mut self) {
        self.fences.clear();
        self.met.clear();
        self.seen.clear();
    }

    /// Records a fence of a thread.
    pub(crate) fn fence(&mut self, thread: u32, now: u32, barrier: u32) {
        self.fences.insert(thread, (now, barrier));
        let is_own = |(met, _): &(u32, Release)| *met == thread;
        self.seen
            .extend(self.met.iter().filter(|met| is_own(met)).map(|(_, release)| (thread, now, *release)));
        self.met.retain(|met| !is_own(met));
    }

    /// Records an atomic operation of a thread on the word at an address.
    pub(crate) fn atomic(&mut self, address: u64, thread: u32) {
        let released = self.released.entry(address).or_default();
        self.met.extend(
            released
                .iter()
                .filter(|other| block(other.thread) != block(thread))
                .map(|other| (thread, *other)),
        );
        if let Some((fence, barrier)) = self.fences.get(&thread) {
            released.push(Release { thread, fence: *fence, barrier: *barrier });
        }
    }

    /// Tells whether what another thread has done has no order with an access by thread `me`, whose
    /// thread block was last at a barrier at the time `barrier`.
    pub(crate) fn is_unordered(&self, done: Done, me: u32, barrier: u32) -> bool {
        let (writer, when) = done;
        if writer == 0 || writer == me {
            return false;
        }
        if block(writer) == block(me) {
            return when >= barrier;
        }
        !self.seen.iter().any(|(thread, at, release)| (*thread == me || *at < barrier) && release.has(done))
    }
}
