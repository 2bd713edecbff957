//! The driver itself, its devices, and their contexts.

use std::ffi::{c_char, c_int, c_uint, c_void};

use super::codes::{self, INVALID_CONTEXT, INVALID_VALUE, SUCCESS};
use super::{CURRENT, Driver, MOST_THREADS, code, give, number, pointer};

impl Driver {
    pub(crate) unsafe fn cuInit(&self, _: c_uint) -> c_int {
        SUCCESS
    }

    pub(crate) unsafe fn cuDriverGetVersion(&self, version: *mut c_int) -> c_int {
        // 12.8, the version that introduced PTX 8.6.
        code(give(version, 12080))
    }

    pub(crate) unsafe fn cuDeviceGetCount(&self, count: *mut c_int) -> c_int {
        code(give(count, number(self.emulation.devices)))
    }

    pub(crate) unsafe fn cuDeviceGet(&self, device: *mut c_int, ordinal: c_int) -> c_int {
        self.device(ordinal, |_, _| give(device, ordinal))
    }

    pub(crate) unsafe fn cuDeviceGetName(&self, name: *mut c_char, len: c_int, device: c_int) -> c_int {
        self.device(device, |_, _| {
            let text = b"df11 emulator\0";
            if usize::try_from(len).is_ok_and(|len| len < text.len()) {
                return Err(INVALID_VALUE);
            }
            // SAFETY: the caller promises `len` bytes, and the text is no longer.
            unsafe { name.cast::<u8>().copy_from_nonoverlapping(text.as_ptr(), text.len()) };
            Ok(())
        })
    }

    pub(crate) unsafe fn cuDeviceGetAttribute(
        &self,
        value: *mut c_int,
        attribute: c_uint,
        device: c_int,
    ) -> c_int {
        // From cuda.h: threads of a thread block, warp size, multiprocessors, compute capability,
        // opt-in shared memory.
        let found = match attribute {
            1 => number(MOST_THREADS as usize),
            10 => 32,
            16 => 4,
            75 => self.emulation.capability / 10,
            76 => self.emulation.capability % 10,
            97 => number(self.emulation.options.most_shared),
            _ => return INVALID_VALUE,
        };
        self.device(device, |_, _| give(value, found))
    }

    pub(crate) unsafe fn cuDeviceTotalMem_v2(&self, bytes: *mut usize, device: c_int) -> c_int {
        self.device(device, |_, _| give(bytes, self.emulation.memory))
    }

    pub(crate) unsafe fn cuDevicePrimaryCtxRetain(&self, context: *mut *mut c_void, device: c_int) -> c_int {
        self.device(device, |state, card| {
            if state.cards[card].retained == 0 {
                state.begin(card);
            }
            state.cards[card].retained += 1;
            give(context, pointer(state.cards[card].context))
        })
    }

    pub(crate) unsafe fn cuDevicePrimaryCtxRelease_v2(&self, device: c_int) -> c_int {
        self.device(device, |state, card| {
            match state.cards[card].retained {
                0 => return Err(INVALID_CONTEXT),
                1 => state.end(card),
                _ => state.cards[card].retained -= 1,
            }
            Ok(())
        })
    }

    pub(crate) unsafe fn cuDevicePrimaryCtxReset_v2(&self, device: c_int) -> c_int {
        self.device(device, |state, card| {
            state.end(card);
            Ok(())
        })
    }

    pub(crate) unsafe fn cuDevicePrimaryCtxSetFlags_v2(&self, device: c_int, _: c_uint) -> c_int {
        self.device(device, |_, _| Ok(()))
    }

    pub(crate) unsafe fn cuCtxPushCurrent_v2(&self, context: *mut c_void) -> c_int {
        if let Err(code) = self.state().card_of(context.addr()) {
            return code;
        }
        CURRENT.with_borrow_mut(|current| current.push(context.addr()));
        SUCCESS
    }

    pub(crate) unsafe fn cuCtxPopCurrent_v2(&self, context: *mut *mut c_void) -> c_int {
        match CURRENT.with_borrow_mut(Vec::pop) {
            None => INVALID_CONTEXT,
            Some(_) if context.is_null() => SUCCESS,
            Some(found) => code(give(context, pointer(found))),
        }
    }

    pub(crate) unsafe fn cuCtxSetCurrent(&self, context: *mut c_void) -> c_int {
        if !context.is_null()
            && let Err(code) = self.state().card_of(context.addr())
        {
            return code;
        }
        CURRENT.with_borrow_mut(|current| {
            current.pop();
            if !context.is_null() {
                current.push(context.addr());
            }
        });
        SUCCESS
    }

    pub(crate) unsafe fn cuCtxGetCurrent(&self, context: *mut *mut c_void) -> c_int {
        let found = CURRENT.with_borrow(|current| current.last().copied().unwrap_or(0));
        code(give(context, pointer(found)))
    }

    pub(crate) unsafe fn cuCtxGetApiVersion(&self, _: *mut c_void, version: *mut c_uint) -> c_int {
        code(give(version, 12080))
    }

    pub(crate) unsafe fn cuCtxGetDevice(&self, device: *mut c_int) -> c_int {
        self.here(|_, card| give(device, number(card)))
    }

    pub(crate) unsafe fn cuCtxSynchronize(&self) -> c_int {
        self.waiting(|state, card| state.finish_card(&self.emulation, card))
    }

    pub(crate) unsafe fn cuGetErrorString(&self, error: c_uint, text: *mut *const c_char) -> c_int {
        let found = codes::describe(c_int::try_from(error).unwrap_or(c_int::MAX));
        code(give(text, found.as_ptr()))
    }
}
