//! Work without the interpreter's lock that Ctrl-C can stop.

use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use pyo3::prelude::*;

/// The interval at which signals are checked and progress is reported.
const TICK: Duration = Duration::from_millis(50);

/// The progress of an operation, and whether it should stop.
pub(crate) struct State {
    task: Mutex<String>,
    total: AtomicU64,
    done: AtomicU64,
    cancelled: AtomicBool,
    /// The number of threads that are working.
    running: Mutex<usize>,
    wake: Condvar,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl checkpoint::Progress for State {
    fn begin(&self, task: &str, bytes: u64) {
        task.clone_into(&mut lock(&self.task));
        self.done.store(0, Ordering::Relaxed);
        self.total.store(bytes, Ordering::Relaxed);
    }

    fn advance(&self, bytes: u64) {
        self.done.fetch_add(bytes, Ordering::Relaxed);
    }

    fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }
}

/// Records on drop that a thread has ended, whatever the reason.
struct Finish<'a>(&'a State);

impl Drop for Finish<'_> {
    fn drop(&mut self) {
        *lock(&self.0.running) -= 1;
        self.0.wake.notify_all();
    }
}

impl State {
    /// Makes the state of work on this many threads.
    fn of(threads: usize) -> Self {
        State {
            task: Mutex::default(),
            total: AtomicU64::new(0),
            done: AtomicU64::new(0),
            cancelled: AtomicBool::new(false),
            running: Mutex::new(threads),
            wake: Condvar::new(),
        }
    }

    /// Waits for at most one tick until all threads have ended. Returns whether they have.
    fn wait(&self) -> bool {
        let running = lock(&self.running);
        let still = self.wake.wait_timeout_while(running, TICK, |running| *running > 0);
        *still.unwrap_or_else(PoisonError::into_inner).0 == 0
    }

    /// Watches the work of other threads until it has ended. Returns the exception that a signal or
    /// the callback raised; in that case the work was told to stop.
    fn watch(&self, py: Python<'_>, callback: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let mut raised = Ok(());
        let mut told = (String::new(), 0);
        loop {
            let ended = py.detach(|| self.wait());
            if raised.is_ok() {
                raised = py.check_signals();
                if raised.is_ok()
                    && let Some(callback) = callback
                {
                    let (task, done) = (lock(&self.task).clone(), self.done.load(Ordering::Relaxed));
                    let total = self.total.load(Ordering::Relaxed);
                    if !task.is_empty() && told != (task.clone(), done) {
                        raised = callback.call1((&task, done, total)).map(drop);
                        told = (task, done);
                    }
                }
                if raised.is_err() {
                    self.cancelled.store(true, Ordering::Relaxed);
                }
            }
            if ended {
                return raised;
            }
        }
    }
}

/// Runs an operation on a thread of its own. Meanwhile this thread reports progress and checks for
/// signals.
pub(crate) fn operation<T: Send>(
    py: Python<'_>,
    callback: Option<&Bound<'_, PyAny>>,
    work: impl FnOnce(&State) -> T + Send,
) -> PyResult<T> {
    let state = State::of(1);
    thread::scope(|scope| {
        let worker = scope.spawn(|| {
            let _finish = Finish(&state);
            work(&state)
        });
        let raised = state.watch(py, callback);
        let done = py.detach(|| worker.join()).unwrap_or_else(|panic| resume_unwind(panic));
        raised.map(|()| done)
    })
}

/// Runs each job once, on this many threads (0 means one for each processor). The first error stops
/// all.
///
/// Threads are started for each call and never kept, so that no thread is missing in the child of a
/// process that forks.
pub(crate) fn jobs<J: Sync, E: Send>(
    py: Python<'_>,
    jobs: &[J],
    threads: usize,
    is_short: bool,
    work: impl Fn(&J) -> Result<(), E> + Sync,
) -> PyResult<Result<(), E>> {
    if is_short {
        return Ok(py.detach(|| jobs.iter().try_for_each(&work)));
    }
    let threads = count(threads).min(jobs.len()).max(1);
    let (state, next) = (State::of(threads), AtomicUsize::new(0));
    let one = || {
        let _finish = Finish(&state);
        while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
            if state.cancelled.load(Ordering::Relaxed) {
                break;
            }
            work(job).inspect_err(|_| state.cancelled.store(true, Ordering::Relaxed))?;
        }
        Ok(())
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(one)).collect();
        let raised = state.watch(py, None);
        let done = py.detach(|| {
            let ended = workers.into_iter().map(|worker| worker.join());
            let ended: Vec<_> = ended.map(|end| end.unwrap_or_else(|panic| resume_unwind(panic))).collect();
            ended.into_iter().collect::<Result<(), E>>()
        });
        raised.map(|()| done)
    })
}

/// Returns the number of threads that an argument stands for.
pub(crate) fn count(threads: usize) -> usize {
    if threads > 0 { threads } else { thread::available_parallelism().map_or(1, usize::from) }
}
