//! Memory of devices and of the host, and copies between them.

use std::ffi::{c_int, c_uint, c_void};

use super::codes::{INVALID_VALUE, OUT_OF_MEMORY};
use super::state::{Host, Job, Source};
use super::{Driver, code, give, number, pointer};

/// Copies the caller's bytes, which must exist.
pub(super) fn host_bytes(from: *const c_void, bytes: usize) -> Vec<u8> {
    let mut copy = vec![0u8; bytes];
    if bytes > 0 {
        // SAFETY: the caller of the driver promises this many readable bytes.
        unsafe { copy.as_mut_ptr().copy_from_nonoverlapping(from.cast(), bytes) };
    }
    copy
}

impl Driver {
    pub(crate) unsafe fn cuMemAlloc_v2(&self, address: *mut u64, bytes: usize) -> c_int {
        if bytes == 0 {
            return INVALID_VALUE;
        }
        self.waiting(|state, card| {
            let card = &mut state.cards[card];
            let used: usize = card.allocated.values().sum();
            if bytes > self.emulation.memory.saturating_sub(used) {
                return Err(OUT_OF_MEMORY);
            }
            let found = card.device.allocate(bytes);
            card.allocated.insert(found, bytes);
            give(address, found)
        })
    }

    pub(crate) unsafe fn cuMemFree_v2(&self, address: u64) -> c_int {
        self.waiting(|state, _| {
            let owner = state.cards.iter().position(|card| card.allocated.contains_key(&address));
            let owner = owner.ok_or(INVALID_VALUE)?;
            // Freeing waits for all work of the card.
            let result = state.finish_card(&self.emulation, owner);
            let owner = &mut state.cards[owner];
            owner.allocated.remove(&address);
            owner.device.free(address);
            result
        })
    }

    pub(crate) unsafe fn cuMemGetInfo_v2(&self, free: *mut usize, total: *mut usize) -> c_int {
        self.here(|state, card| {
            let used: usize = state.cards[card].allocated.values().sum();
            give(free, self.emulation.memory.saturating_sub(used))?;
            give(total, self.emulation.memory)
        })
    }

    pub(crate) unsafe fn cuMemAllocHost_v2(&self, memory: *mut *mut c_void, bytes: usize) -> c_int {
        // SAFETY: `cuMemHostAlloc` has the same contract, and the caller promises to keep it.
        unsafe { self.cuMemHostAlloc(memory, bytes, 0) }
    }

    pub(crate) unsafe fn cuMemHostAlloc(&self, memory: *mut *mut c_void, bytes: usize, _: c_uint) -> c_int {
        if bytes == 0 {
            return INVALID_VALUE;
        }
        self.waiting(|state, _| {
            let mut found = vec![0u8; bytes].into_boxed_slice();
            let address = found.as_mut_ptr();
            // The address does not change when the box moves.
            state.pinned.insert(address.addr(), found);
            give(memory, address.cast())
        })
    }

    pub(crate) unsafe fn cuMemFreeHost(&self, memory: *mut c_void) -> c_int {
        self.waiting(|state, card| {
            let result = state.finish_card(&self.emulation, card);
            state.pinned.remove(&memory.addr()).ok_or(INVALID_VALUE)?;
            result
        })
    }

    pub(crate) unsafe fn cuPointerGetAttribute(
        &self,
        value: *mut c_void,
        attribute: c_uint,
        address: u64,
    ) -> c_int {
        let state = self.state();
        let Ok(owner) = state.owner(address, 1) else { return INVALID_VALUE };
        // The context, the kind of memory (2 means device memory), the number of the device.
        code(match attribute {
            1 => give(value.cast(), pointer(state.cards[owner].context)),
            2 => give(value.cast(), 2 as c_uint),
            9 => give(value.cast(), number(owner)),
            _ => Err(INVALID_VALUE),
        })
    }

    pub(crate) unsafe fn cuMemcpyHtoD_v2(&self, to: u64, from: *const c_void, bytes: usize) -> c_int {
        let job = Job::Write { to, from: Source::Staged(host_bytes(from, bytes)) };
        // A copy from pageable memory returns when the bytes are staged.
        let is_pinned = self.state().is_pinned(from.addr(), bytes);
        if is_pinned { self.at_once(job) } else { self.later(job) }
    }

    pub(crate) unsafe fn cuMemcpyDtoH_v2(&self, to: *mut c_void, from: u64, bytes: usize) -> c_int {
        self.at_once(Job::Read { to: Host(to.cast()), from, bytes })
    }

    pub(crate) unsafe fn cuMemcpyDtoD_v2(&self, to: u64, from: u64, bytes: usize) -> c_int {
        self.later(Job::Copy { to, from, bytes })
    }

    pub(crate) unsafe fn cuMemcpyHtoDAsync_v2(
        &self,
        to: u64,
        from: *const c_void,
        bytes: usize,
        stream: *mut c_void,
    ) -> c_int {
        self.submit(stream, |state, is_captured| {
            let from = if is_captured || state.is_pinned(from.addr(), bytes) {
                Source::Later(Host(from.cast_mut().cast()), bytes)
            } else {
                Source::Staged(host_bytes(from, bytes))
            };
            Job::Write { to, from }
        })
    }

    pub(crate) unsafe fn cuMemcpyDtoHAsync_v2(
        &self,
        to: *mut c_void,
        from: u64,
        bytes: usize,
        stream: *mut c_void,
    ) -> c_int {
        self.submit(stream, |_, _| Job::Read { to: Host(to.cast()), from, bytes })
    }

    pub(crate) unsafe fn cuMemcpyDtoDAsync_v2(
        &self,
        to: u64,
        from: u64,
        bytes: usize,
        stream: *mut c_void,
    ) -> c_int {
        self.submit(stream, |_, _| Job::Copy { to, from, bytes })
    }

    pub(crate) unsafe fn cuMemsetD8_v2(&self, to: u64, value: u8, bytes: usize) -> c_int {
        self.later(Job::Set { to, value, bytes })
    }

    pub(crate) unsafe fn cuMemsetD8Async(
        &self,
        to: u64,
        value: u8,
        bytes: usize,
        stream: *mut c_void,
    ) -> c_int {
        self.submit(stream, |_, _| Job::Set { to, value, bytes })
    }
}
