//! The state of the emulated driver: cards, streams, and pending jobs.
//!
//! Streams are lazy: a job is done when a call waits for it, after the jobs that it depends on, and
//! not earlier. A program that forgets to wait, or to order two streams, therefore gets the worst
//! case of a real card.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ffi::{c_int, c_uint};
use std::sync::Arc;
use std::thread::ThreadId;
use std::time::Instant;

use df11_emulator::{Device, Finding, Kind, Launch, Module};

use super::Emulation;
use super::capture::{Capture, Graph};
use super::codes::{
    ILLEGAL_ADDRESS, INVALID_CONTEXT, INVALID_HANDLE, INVALID_VALUE, LAUNCH_FAILED, LAUNCH_TIMEOUT,
    MISALIGNED_ADDRESS, OUT_OF_RESOURCES, SUCCESS,
};

/// The handle of the legacy stream of card 0; those of the other cards follow. Handles that the
/// driver gives out are larger, because it gives 1 and 2 a meaning.
const LEGACY: usize = 0x10;
const FIRST_HANDLE: usize = 0x100;

/// An address on the host whose memory the caller promised to leave alone until the stream is done.
#[derive(Clone, Copy)]
pub(super) struct Host(pub(super) *mut u8);

// SAFETY: the pointer is used only under the lock of the driver, and the caller who passed it
// promised that the memory stays valid.
unsafe impl Send for Host {}

// SAFETY: as above.
unsafe impl Sync for Host {}

/// The source of a copy.
#[derive(Clone)]
pub(super) enum Source {
    /// A copy of pageable memory, which the driver takes before it returns.
    Staged(Vec<u8>),
    /// Pinned memory, or any memory in a graph. It is read when the copy is made.
    Later(Host, usize),
}

/// A pending job of a stream.
#[derive(Clone)]
pub(super) enum Job {
    Write { to: u64, from: Source },
    Set { to: u64, value: u8, bytes: usize },
    Read { to: Host, from: u64, bytes: usize },
    Copy { to: u64, from: u64, bytes: usize },
    Launch { function: usize, grid: [u32; 3], block: [u32; 3], shared_bytes: usize, arguments: Vec<u64> },
    Record { event: usize },
    Wait { stream: usize, sequence: u64 },
    Graph(Arc<Graph>),
}

/// A kernel of a module.
pub(super) struct Function {
    pub(super) card: usize,
    pub(super) module: usize,
    pub(super) name: String,
    pub(super) parameters: Vec<usize>,
    pub(super) shared_bytes: usize,
    pub(super) dynamic_shared: usize,
}

/// A device and its primary context.
pub(super) struct Card {
    /// The handle of the context, while it is retained.
    pub(super) context: usize,
    pub(super) retained: usize,
    pub(super) device: Device,
    pub(super) allocated: BTreeMap<u64, usize>,
    /// The error that killed the context. As with a real driver, every later call fails with it as
    /// well.
    pub(super) failed: c_int,
}

/// A stream.
pub(super) struct Stream {
    pub(super) card: usize,
    /// Whether this stream and the legacy stream wait for each other.
    pub(super) is_blocking: bool,
    /// The jobs in order. Each has a number that grows across all streams.
    pub(super) jobs: VecDeque<(u64, Job)>,
    /// The capture that the stream takes part in, and the nodes that its next node follows.
    pub(super) capture: Option<(usize, Vec<usize>)>,
}

/// The state of an event.
pub(super) enum When {
    Never,
    Pending { stream: usize, sequence: u64 },
    Done(Instant),
    Captured { capture: usize, nodes: Vec<usize> },
}

/// An event.
pub(super) struct Event {
    pub(super) card: usize,
    pub(super) when: When,
}

/// The whole state.
#[derive(Default)]
pub(super) struct State {
    pub(super) cards: Vec<Card>,
    /// The modules by handle, each with its card.
    pub(super) modules: BTreeMap<usize, (usize, Module)>,
    pub(super) functions: BTreeMap<usize, Function>,
    pub(super) streams: BTreeMap<usize, Stream>,
    pub(super) events: BTreeMap<usize, Event>,
    pub(super) captures: BTreeMap<usize, Capture>,
    /// The modes of threads that have exchanged theirs.
    pub(super) modes: HashMap<ThreadId, c_uint>,
    pub(super) graphs: BTreeMap<usize, Arc<Graph>>,
    pub(super) executables: BTreeMap<usize, Arc<Graph>>,
    /// Pinned memory of the host, by address.
    pub(super) pinned: BTreeMap<usize, Box<[u8]>>,
    pub(super) findings: Vec<Finding>,
    next: usize,
    sequence: u64,
}

impl State {
    pub(super) fn new(devices: usize) -> Self {
        let card = |number: usize| Card {
            context: 0,
            retained: 0,
            device: Device::numbered(u8::try_from(number).unwrap_or(u8::MAX)),
            allocated: BTreeMap::new(),
            failed: SUCCESS,
        };
        State { cards: (0..devices).map(card).collect(), ..State::default() }
    }

    pub(super) fn handle(&mut self) -> usize {
        self.next += 1;
        FIRST_HANDLE + self.next
    }

    /// Returns the number of the card whose context this is.
    pub(super) fn card_of(&self, context: usize) -> Result<usize, c_int> {
        let card = self.cards.iter().position(|card| card.retained > 0 && card.context == context);
        card.ok_or(INVALID_CONTEXT)
    }

    /// Makes the context of a card and its legacy stream.
    pub(super) fn begin(&mut self, card: usize) {
        self.cards[card].context = self.handle();
        self.add_stream(LEGACY + card, card, true);
    }

    /// Destroys the context of a card with everything in it.
    pub(super) fn end(&mut self, card: usize) {
        self.modules.retain(|_, (of, _)| *of != card);
        self.functions.retain(|_, function| function.card != card);
        self.streams.retain(|_, stream| stream.card != card);
        self.events.retain(|_, event| event.card != card);
        let found = &mut self.cards[card];
        for address in std::mem::take(&mut found.allocated).into_keys() {
            found.device.free(address);
        }
        (found.failed, found.context, found.retained) = (SUCCESS, 0, 0);
    }

    pub(super) fn add_stream(&mut self, handle: usize, card: usize, is_blocking: bool) {
        let stream = Stream { card, is_blocking, jobs: VecDeque::new(), capture: None };
        self.streams.insert(handle, stream);
    }

    /// Returns the stream of a handle, in the context of a card. 0, 1 and 2 stand for the legacy
    /// stream. (2 means a thread's own stream, which this driver does not have.)
    pub(super) fn stream(&self, card: usize, handle: usize) -> Result<usize, c_int> {
        let handle = if handle <= 2 { LEGACY + card } else { handle };
        if self.streams.contains_key(&handle) { Ok(handle) } else { Err(INVALID_HANDLE) }
    }

    /// Returns the card that has these bytes in one buffer.
    pub(super) fn owner(&self, address: u64, bytes: usize) -> Result<usize, c_int> {
        let has = |card: &Card| {
            let before = card.allocated.range(..=address).next_back();
            before.is_some_and(|(start, len)| {
                (address - start).checked_add(bytes as u64).is_some_and(|end| end <= *len as u64)
            })
        };
        self.cards.iter().position(has).ok_or(ILLEGAL_ADDRESS)
    }

    /// Tells whether these bytes of the host are pinned.
    pub(super) fn is_pinned(&self, address: usize, bytes: usize) -> bool {
        let before = self.pinned.range(..=address).next_back();
        before.is_some_and(|(start, memory)| {
            (address - start).checked_add(bytes).is_some_and(|end| end <= memory.len())
        })
    }

    /// Refuses copies from or to invalid memory. A driver detects these before it submits them to a
    /// stream.
    pub(super) fn expect_memory(&self, job: &Job) -> Result<(), c_int> {
        let found = match job {
            Job::Write { to, from: Source::Staged(bytes) } => self.owner(*to, bytes.len()),
            Job::Write { to, from: Source::Later(_, bytes) } | Job::Set { to, bytes, .. } => {
                self.owner(*to, *bytes)
            }
            Job::Read { from, bytes, .. } => self.owner(*from, *bytes),
            Job::Copy { to, from, bytes } => self.owner(*to, *bytes).and(self.owner(*from, *bytes)),
            Job::Launch { .. } | Job::Record { .. } | Job::Wait { .. } | Job::Graph(_) => return Ok(()),
        };
        found.map(|_| ()).map_err(|_| INVALID_VALUE)
    }

    /// Submits a job to a stream, and returns its number.
    pub(super) fn push(&mut self, stream: usize, job: Job) -> u64 {
        self.sequence += 1;
        let sequence = self.sequence;
        if let Job::Record { event } = &job
            && let Some(event) = self.events.get_mut(event)
        {
            event.when = When::Pending { stream, sequence };
        }
        if let Some(stream) = self.streams.get_mut(&stream) {
            stream.jobs.push_back((sequence, job));
        }
        sequence
    }

    /// Submits a job to a stream, or to the graph that it is captured for.
    pub(super) fn submit(&mut self, emulation: &Emulation, stream: usize, job: Job) -> Result<(), c_int> {
        self.expect_memory(&job)?;
        if self.is_captured(stream) {
            return self.capture(stream, job);
        }
        // The legacy stream would wait for blocking streams that are captured.
        if stream < FIRST_HANDLE {
            self.refuse_implicit(stream - LEGACY)?;
        }
        self.push(stream, job);
        if emulation.lazy { Ok(()) } else { self.finish(emulation, stream) }
    }

    /// Does the jobs of a stream, and those that they wait for.
    pub(super) fn finish(&mut self, emulation: &Emulation, stream: usize) -> Result<(), c_int> {
        self.finish_until(emulation, stream, self.sequence);
        let card = self.streams.get(&stream).map(|stream| stream.card).ok_or(INVALID_HANDLE)?;
        self.alive(card)
    }

    /// Does all jobs of a card.
    pub(super) fn finish_card(&mut self, emulation: &Emulation, card: usize) -> Result<(), c_int> {
        let streams = self.streams.iter().filter(|(_, stream)| stream.card == card);
        let streams: Vec<usize> = streams.map(|(handle, _)| *handle).collect();
        for stream in streams {
            self.finish_until(emulation, stream, self.sequence);
        }
        self.alive(card)
    }

    /// Returns an error if the context of a card was killed.
    pub(super) fn alive(&self, card: usize) -> Result<(), c_int> {
        match self.cards[card].failed {
            SUCCESS => Ok(()),
            failed => Err(failed),
        }
    }

    /// Does the jobs of a stream up to this number. The jobs that they wait for have smaller
    /// numbers, so this ends.
    pub(super) fn finish_until(&mut self, emulation: &Emulation, stream: usize, sequence: u64) {
        while let Some((number, job)) = self.streams.get_mut(&stream).and_then(|found| {
            let is_due = found.jobs.front().is_some_and(|(number, _)| *number <= sequence);
            if is_due { found.jobs.pop_front() } else { None }
        }) {
            let Some(Stream { card, is_blocking, .. }) = self.streams.get(&stream) else { return };
            let (card, is_blocking) = (*card, *is_blocking);
            if stream == LEGACY + card {
                let others = self.streams.iter().filter(|(_, other)| other.card == card && other.is_blocking);
                let others: Vec<usize> = others.map(|(handle, _)| *handle).filter(|h| *h != stream).collect();
                for other in others {
                    self.finish_until(emulation, other, number);
                }
            } else if is_blocking {
                self.finish_until(emulation, LEGACY + card, number);
            }
            if let Job::Wait { stream, sequence } = job {
                self.finish_until(emulation, stream, sequence);
                continue;
            }
            self.run_on(emulation, card, number, job);
        }
    }

    /// Does one job, if the context is alive.
    fn run_on(&mut self, emulation: &Emulation, card: usize, number: u64, job: Job) {
        if self.cards[card].failed != SUCCESS {
            return;
        }
        let result = match job {
            Job::Record { event } => {
                if let Some(event) = self.events.get_mut(&event)
                    && matches!(event.when, When::Pending { sequence, .. } if sequence == number)
                {
                    event.when = When::Done(Instant::now());
                }
                Ok(())
            }
            Job::Graph(graph) => graph.order().into_iter().try_for_each(|job| self.run(emulation, card, job)),
            job => self.run(emulation, card, job),
        };
        if let Err(code) = result {
            self.cards[card].failed = code;
        }
    }

    fn run(&mut self, emulation: &Emulation, card: usize, job: Job) -> Result<(), c_int> {
        match job {
            Job::Write { to, from } => {
                let bytes = match from {
                    Source::Staged(bytes) => bytes,
                    Source::Later(host, bytes) => super::memory::host_bytes(host.0.cast(), bytes),
                };
                let owner = self.owner(to, bytes.len())?;
                self.cards[owner].device.write(to, &bytes);
            }
            Job::Set { to, value, bytes } => {
                let owner = self.owner(to, bytes)?;
                self.cards[owner].device.write(to, &vec![value; bytes]);
            }
            Job::Read { to, from, bytes } => {
                let owner = self.owner(from, bytes)?;
                let found = self.cards[owner].device.read(from, bytes);
                // SAFETY: the caller of the copy promised this many writable bytes until the stream
                // is done, which happens now. They do not belong to the device's buffers.
                unsafe { to.0.copy_from_nonoverlapping(found.as_ptr(), bytes) };
            }
            Job::Copy { to, from, bytes } => {
                let (source, owner) = (self.owner(from, bytes)?, self.owner(to, bytes)?);
                let found = self.cards[source].device.read(from, bytes).to_vec();
                self.cards[owner].device.write(to, &found);
            }
            Job::Launch { function, grid, block, shared_bytes, arguments } => {
                let function = self.functions.get(&function).ok_or(INVALID_HANDLE)?;
                let (_, module) = self.modules.get(&function.module).ok_or(INVALID_HANDLE)?;
                let launch = Launch { grid, block, shared_bytes, arguments: &arguments };
                let device = &mut self.cards[card].device;
                let report = module.launch(&function.name, device, &launch, &emulation.options);
                let report = report.map_err(|_| OUT_OF_RESOURCES)?;
                let code = code_of(&report.findings);
                self.findings.extend(report.findings);
                return code;
            }
            Job::Record { .. } | Job::Wait { .. } | Job::Graph(_) => {}
        }
        Ok(())
    }
}

/// Returns the code that a card would return. A card does not detect everything that the emulator
/// does, but the launch has failed in each case.
fn code_of(findings: &[Finding]) -> Result<(), c_int> {
    let code = |kind: Kind| match kind {
        Kind::ReadOutOfBounds | Kind::WriteOutOfBounds => ILLEGAL_ADDRESS,
        Kind::Misaligned => MISALIGNED_ADDRESS,
        Kind::StepLimit => LAUNCH_TIMEOUT,
        _ => LAUNCH_FAILED,
    };
    let codes = || findings.iter().map(|finding| code(finding.kind));
    match codes().find(|code| *code != LAUNCH_FAILED).or(codes().next()) {
        Some(code) => Err(code),
        None => Ok(()),
    }
}
