//! Capture of streams, and the graphs that result from it.

use std::collections::BTreeSet;
use std::ffi::{c_int, c_uint};
use std::sync::Arc;
use std::thread::ThreadId;

use super::codes::{
    CAPTURE_IMPLICIT, CAPTURE_INVALIDATED, CAPTURE_ISOLATION, CAPTURE_UNJOINED, CAPTURE_UNMATCHED,
    CAPTURE_UNSUPPORTED, CAPTURE_WRONG_THREAD, INVALID_HANDLE, INVALID_VALUE,
};
use super::state::{Job, State, When};

/// `CU_STREAM_CAPTURE_MODE_GLOBAL`, `_THREAD_LOCAL` and `_RELAXED`. They say which threads may make
/// calls that could wait during a capture: none, all other threads, all threads.
const GLOBAL: c_uint = 0;
const RELAXED: c_uint = 2;

/// A job, and the nodes that come before it.
struct Node {
    job: Job,
    after: Vec<usize>,
}

/// A graph of jobs.
#[derive(Default)]
pub(super) struct Graph {
    /// The nodes, each after those that it depends on.
    nodes: Vec<Node>,
}

impl Graph {
    /// Returns the jobs in an order that the graph allows: the latest node that may come next
    /// always does. A caller that relies on the order of capture, and not on events, therefore gets
    /// a different order.
    pub(super) fn order(&self) -> Vec<Job> {
        let mut done = BTreeSet::new();
        let mut order = Vec::with_capacity(self.nodes.len());
        while let Some(next) = (0..self.nodes.len())
            .rev()
            .find(|at| !done.contains(at) && self.nodes[*at].after.iter().all(|before| done.contains(before)))
        {
            done.insert(next);
            order.push(self.nodes[next].job.clone());
        }
        order
    }

    /// Returns these nodes and all nodes that come before them.
    fn ancestors(&self, of: &[usize]) -> BTreeSet<usize> {
        let (mut found, mut next) = (BTreeSet::new(), of.to_vec());
        while let Some(at) = next.pop() {
            if found.insert(at) {
                next.extend(&self.nodes[at].after);
            }
        }
        found
    }
}

/// A capture that has begun and not ended.
pub(super) struct Capture {
    /// The stream on which the capture began. It has to end there.
    origin: usize,
    mode: c_uint,
    thread: ThreadId,
    graph: Graph,
    is_valid: bool,
}

impl State {
    pub(super) fn is_captured(&self, stream: usize) -> bool {
        self.streams.get(&stream).is_some_and(|stream| stream.capture.is_some())
    }

    pub(super) fn begin_capture(
        &mut self,
        thread: ThreadId,
        stream: usize,
        mode: c_uint,
        is_legacy: bool,
    ) -> Result<(), c_int> {
        if mode > RELAXED || self.is_captured(stream) {
            return Err(INVALID_VALUE);
        }
        if is_legacy {
            return Err(CAPTURE_UNSUPPORTED);
        }
        let handle = self.handle();
        let capture = Capture { origin: stream, mode, thread, graph: Graph::default(), is_valid: true };
        self.captures.insert(handle, capture);
        let stream = self.streams.get_mut(&stream).ok_or(INVALID_HANDLE)?;
        stream.capture = Some((handle, Vec::new()));
        Ok(())
    }

    /// Ends the capture of a stream, and returns the graph.
    pub(super) fn end_capture(&mut self, thread: ThreadId, stream: usize) -> Result<Arc<Graph>, c_int> {
        let found = self.streams.get(&stream).ok_or(INVALID_HANDLE)?;
        let Some((handle, tail)) = found.capture.clone() else { return Err(INVALID_VALUE) };
        let capture = self.captures.get(&handle).ok_or(INVALID_HANDLE)?;
        if capture.origin != stream {
            return Err(CAPTURE_UNMATCHED);
        }
        if capture.mode != RELAXED && capture.thread != thread {
            return Err(CAPTURE_WRONG_THREAD);
        }
        let joined = capture.graph.ancestors(&tail);
        let mut result = if capture.is_valid { Ok(()) } else { Err(CAPTURE_INVALIDATED) };
        for other in self.streams.values_mut() {
            match &other.capture {
                Some((of, tail)) if *of == handle => {
                    if result.is_ok() && tail.iter().any(|node| !joined.contains(node)) {
                        result = Err(CAPTURE_UNJOINED);
                    }
                    other.capture = None;
                }
                _ => {}
            }
        }
        let capture = self.captures.remove(&handle).ok_or(INVALID_HANDLE)?;
        result.map(|()| Arc::new(capture.graph))
    }

    /// Adds a job to the graph that a stream is captured for.
    pub(super) fn capture(&mut self, stream: usize, job: Job) -> Result<(), c_int> {
        let found = self.streams.get_mut(&stream).ok_or(INVALID_HANDLE)?;
        let Some((handle, tail)) = &mut found.capture else { return Err(INVALID_HANDLE) };
        let capture = self.captures.get_mut(handle).ok_or(INVALID_HANDLE)?;
        if !capture.is_valid {
            return Err(CAPTURE_INVALIDATED);
        }
        if let Job::Record { event } = job {
            let event = self.events.get_mut(&event).ok_or(INVALID_HANDLE)?;
            event.when = When::Captured { capture: *handle, nodes: tail.clone() };
            return Ok(());
        }
        capture.graph.nodes.push(Node { job, after: std::mem::take(tail) });
        tail.push(capture.graph.nodes.len() - 1);
        Ok(())
    }

    /// Makes a stream wait for an event, where either takes part in a capture. Returns whether one
    /// does.
    pub(super) fn capture_wait(
        &mut self,
        stream: usize,
        event: usize,
        is_legacy: bool,
    ) -> Result<bool, c_int> {
        let event = self.events.get(&event).ok_or(INVALID_HANDLE)?;
        let own =
            self.streams.get(&stream).ok_or(INVALID_HANDLE)?.capture.as_ref().map(|(handle, _)| *handle);
        let (capture, nodes) = match &event.when {
            // An event of an ended capture counts as one that was never recorded.
            When::Captured { capture, nodes } if self.captures.contains_key(capture) => {
                (*capture, nodes.clone())
            }
            _ => {
                let Some(own) = own else { return Ok(false) };
                self.invalidate(own);
                return Err(CAPTURE_ISOLATION);
            }
        };
        if is_legacy {
            self.invalidate(capture);
            return Err(CAPTURE_IMPLICIT);
        }
        if own.is_some_and(|own| own != capture) {
            self.invalidate(capture);
            return Err(CAPTURE_ISOLATION);
        }
        if let Some(stream) = self.streams.get_mut(&stream) {
            let (_, tail) = stream.capture.get_or_insert((capture, Vec::new()));
            tail.extend(nodes);
            tail.sort_unstable();
            tail.dedup();
        }
        Ok(true)
    }

    fn invalidate(&mut self, capture: usize) {
        if let Some(capture) = self.captures.get_mut(&capture) {
            capture.is_valid = false;
        }
    }

    /// Refuses a call that a captured stream does not allow. Such a call ends the capture.
    pub(super) fn refuse_captured(&mut self, stream: usize) -> Result<(), c_int> {
        let capture = self.streams.get(&stream).and_then(|stream| stream.capture.as_ref());
        let Some((capture, _)) = capture else { return Ok(()) };
        let capture = *capture;
        self.invalidate(capture);
        Err(CAPTURE_UNSUPPORTED)
    }

    /// Sets a thread's own mode, and returns the one before in its place: a thread whose mode is
    /// relaxed may make calls that could wait, and one whose mode is local heeds no captures of
    /// other threads.
    pub(super) fn exchange_mode(&mut self, thread: ThreadId, mode: &mut c_uint) -> Result<(), c_int> {
        if *mode > RELAXED {
            return Err(INVALID_VALUE);
        }
        *mode = self.modes.insert(thread, *mode).unwrap_or(GLOBAL);
        Ok(())
    }

    /// Refuses a call that could wait, or be waited for, during any capture that does not allow it.
    /// Such a call ends these captures.
    pub(super) fn refuse_unsafe(&mut self, thread: ThreadId) -> Result<(), c_int> {
        let own = self.modes.get(&thread).copied().unwrap_or(GLOBAL);
        if own == RELAXED {
            return Ok(());
        }
        let mut result = Ok(());
        for capture in self.captures.values_mut() {
            let is_own = capture.thread == thread;
            if capture.mode == GLOBAL && own == GLOBAL || capture.mode != RELAXED && is_own {
                capture.is_valid = false;
                result = Err(CAPTURE_UNSUPPORTED);
            }
        }
        result
    }

    /// Refuses work for the legacy stream of a card while a stream that it would have to wait for
    /// is captured.
    pub(super) fn refuse_implicit(&mut self, card: usize) -> Result<(), c_int> {
        let captured = self.streams.values().filter(|stream| stream.card == card && stream.is_blocking);
        let captured: Vec<usize> =
            captured.filter_map(|stream| stream.capture.as_ref().map(|(handle, _)| *handle)).collect();
        captured.iter().for_each(|capture| self.invalidate(*capture));
        if captured.is_empty() { Ok(()) } else { Err(CAPTURE_IMPLICIT) }
    }
}
