//! Codes of the driver, from cuda.h.

use std::ffi::{CStr, c_int};

pub(super) const SUCCESS: c_int = 0;
pub(super) const INVALID_VALUE: c_int = 1;
pub(super) const OUT_OF_MEMORY: c_int = 2;
pub(super) const INVALID_DEVICE: c_int = 101;
pub(super) const INVALID_CONTEXT: c_int = 201;
pub(super) const NO_BINARY_FOR_GPU: c_int = 209;
pub(super) const INVALID_PTX: c_int = 218;
pub(super) const INVALID_HANDLE: c_int = 400;
pub(super) const NOT_FOUND: c_int = 500;
pub(super) const NOT_READY: c_int = 600;
pub(super) const ILLEGAL_ADDRESS: c_int = 700;
pub(super) const OUT_OF_RESOURCES: c_int = 701;
pub(super) const LAUNCH_TIMEOUT: c_int = 702;
pub(super) const MISALIGNED_ADDRESS: c_int = 716;
pub(super) const LAUNCH_FAILED: c_int = 719;
pub(super) const CAPTURE_UNSUPPORTED: c_int = 900;
pub(super) const CAPTURE_INVALIDATED: c_int = 901;
pub(super) const CAPTURE_UNMATCHED: c_int = 903;
pub(super) const CAPTURE_UNJOINED: c_int = 904;
pub(super) const CAPTURE_ISOLATION: c_int = 905;
pub(super) const CAPTURE_IMPLICIT: c_int = 906;
pub(super) const CAPTURE_WRONG_THREAD: c_int = 908;

/// Describes a code in words.
pub(super) fn describe(code: c_int) -> &'static CStr {
    match code {
        SUCCESS => c"no error",
        INVALID_VALUE => c"invalid argument",
        OUT_OF_MEMORY => c"out of memory",
        crate::NO_DRIVER => c"no CUDA-capable device is detected",
        INVALID_DEVICE => c"invalid device ordinal",
        INVALID_CONTEXT => c"invalid device context",
        NO_BINARY_FOR_GPU => c"no kernel image is available for execution on the device",
        INVALID_PTX => c"a PTX JIT compilation failed",
        INVALID_HANDLE => c"invalid resource handle",
        NOT_FOUND => c"named symbol not found",
        NOT_READY => c"device not ready",
        ILLEGAL_ADDRESS => c"an illegal memory access was encountered",
        OUT_OF_RESOURCES => c"too many resources requested for launch",
        LAUNCH_TIMEOUT => c"the launch timed out and was terminated",
        MISALIGNED_ADDRESS => c"misaligned address",
        LAUNCH_FAILED => c"unspecified launch failure",
        CAPTURE_UNSUPPORTED => c"operation not permitted when stream is capturing",
        CAPTURE_INVALIDATED => c"operation failed due to a previous error during capture",
        CAPTURE_UNMATCHED => c"capture was not initiated in this stream",
        CAPTURE_UNJOINED => c"capturing stream has unjoined work",
        CAPTURE_ISOLATION => c"dependency created on uncaptured work in another stream",
        CAPTURE_IMPLICIT => c"operation would make the legacy stream depend on a capturing blocking stream",
        CAPTURE_WRONG_THREAD => c"attempt to terminate a thread-local capture sequence from another thread",
        _ => c"another error",
    }
}
