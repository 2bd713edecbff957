//! Memory that is handed out once.

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, Ordering};

/// A variable in RAM, which the first user [takes](Self::take).
#[derive(Debug)]
pub(crate) struct Ram<T> {
    value: UnsafeCell<T>,
    is_taken: AtomicBool,
}

// SAFETY: the only access is by `take`, which hands the value out once, whoever asks. So it goes to
// one thread, for which it need be no more than `Send`.
unsafe impl<T: Send> Sync for Ram<T> {}

impl<T> Ram<T> {
    /// A variable with this value, which should be all zeros: the start-up code copies nothing to
    /// RAM.
    pub(crate) const fn new(value: T) -> Self {
        Ram { value: UnsafeCell::new(value), is_taken: AtomicBool::new(false) }
    }

    /// The variable; `None` from the second time on.
    #[expect(clippy::mut_from_ref, reason = "it is handed out once")]
    pub(crate) fn take(&'static self) -> Option<&'static mut T> {
        if self.is_taken.swap(true, Ordering::Relaxed) {
            return None;
        }
        // SAFETY: of all calls only one sees `false` in `is_taken`, so this is the only reference
        // that there ever is.
        Some(unsafe { &mut *self.value.get() })
    }
}
