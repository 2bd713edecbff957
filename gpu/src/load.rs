//! Loads kernels: what was assembled for the card, if there is such a thing, and otherwise PTX,
//! which the driver compiles.

#![allow(unsafe_code, reason = "calls of the driver")]

use std::ffi::{CString, c_void};
use std::ptr;

use cust::module::Module;
use df11_cuda_driver::{cuModuleLoadDataEx, cuModuleUnload};

use crate::Error;
use crate::error::driver;
use crate::kernels::{Ptx, best, fatbin};

/// `CU_JIT_ERROR_LOG_BUFFER` and `CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES`
const ERROR_LOG: [u32; 2] = [5, 6];

/// The first bytes of a cubin, which is an ELF file.
const ELF: &[u8] = b"\x7fELF";

/// The size of the buffer for the driver's message about PTX that it refuses.
const LOG_BYTES: usize = 4 << 10;

/// Kernels that were assembled for one card, as `ptxas` writes them.
#[derive(Clone, Copy, Debug)]
pub struct Cubin<'a> {
    /// The name of the source: `df11_decode`, `rans_decode`, `fast_decode`, `delta_apply`,
    /// `df11_encode` or `rans_encode`.
    pub name: &'a str,
    /// The compute capability that they were assembled for: 86 for 8.6.
    pub capability: i32,
    /// The content of the file.
    pub bytes: &'a [u8],
}

/// An owned [`Cubin`].
#[derive(Clone, Debug)]
pub(crate) struct OwnedCubin {
    name: String,
    capability: i32,
    bytes: Vec<u8>,
}

impl From<&Cubin<'_>> for OwnedCubin {
    fn from(cubin: &Cubin<'_>) -> Self {
        let Cubin { name, capability, bytes } = *cubin;
        OwnedCubin { name: name.to_owned(), capability, bytes: bytes.to_vec() }
    }
}

impl OwnedCubin {
    /// Tells whether a card can run it. The card must be of the same generation, and not older.
    const fn is_for(&self, capability: i32) -> bool {
        self.capability / 10 == capability / 10 && self.capability <= capability
    }
}

/// Loaded kernels.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) module: Module,
    /// Whether the driver compiled them from PTX.
    pub(crate) compiled: bool,
}

/// Loads kernels for a compute capability: the caller's cubin for it, what this crate has for it,
/// or the best PTX. Whatever the driver refuses leaves the way of the next.
pub(crate) fn load(name: &str, ptx: &[Ptx], cubins: &[OwnedCubin], capability: i32) -> Result<Loaded, Error> {
    let cubins = cubins.iter().filter(|cubin| cubin.name == name && cubin.is_for(capability));
    let cubin = cubins.max_by_key(|cubin| cubin.capability).map(|cubin| &cubin.bytes[..]);
    let cubin = cubin.filter(|bytes| bytes.starts_with(ELF));
    for bytes in cubin.into_iter().chain(fatbin(name)) {
        if let Ok(module) = Module::from_cubin(bytes, &[]) {
            return Ok(Loaded { module, compiled: false });
        }
    }
    let ptx =
        best(ptx, capability).ok_or(Error::TooOld { capability: (capability / 10, capability % 10) })?;
    Ok(Loaded { module: load_text(ptx.text)?, compiled: true })
}

/// Loads PTX. If the driver refuses it, returns the driver's message.
pub(crate) fn load_text(text: &str) -> Result<Module, Error> {
    driver("load the kernels", Module::from_ptx(text, &[])).map_err(|error| match error {
        Error::Driver(mut refusal) => {
            refusal.log = log_of(text);
            Error::Driver(refusal)
        }
        other => other,
    })
}

/// Returns the driver's message about PTX that it has refused. This needs a second call, since
/// `cust` cannot pass the message on.
fn log_of(text: &str) -> Option<String> {
    let text = CString::new(text).ok()?;
    let mut log = vec![0u8; LOG_BYTES];
    let mut options = ERROR_LOG;
    let mut values: [*mut c_void; 2] = [log.as_mut_ptr().cast(), ptr::without_provenance_mut(log.len())];
    let mut module = ptr::null_mut();
    // SAFETY: the text ends in a zero. There are two options, each with its value: a buffer, and
    // its size in bytes.
    let code = unsafe {
        let image = text.as_ptr().cast();
        cuModuleLoadDataEx(&mut module, image, 2, options.as_mut_ptr(), values.as_mut_ptr())
    };
    if code == 0 {
        // SAFETY: the module was loaded just now, and no one else knows it.
        unsafe { cuModuleUnload(module) };
    }
    let len = log.iter().position(|byte| *byte == 0).unwrap_or(log.len());
    let told = String::from_utf8_lossy(&log[..len]).trim().to_owned();
    (!told.is_empty()).then_some(told)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests {
    use super::load_text;
    use crate::context::Current;
    use crate::{Emulation, Error, Gpu};

    #[test]
    fn what_the_driver_says_about_ptx_is_in_the_message() {
        let gpu = Gpu::emulated(Emulation::default()).unwrap();
        let _current = Current::enter(gpu.shared().context).unwrap();
        let error = load_text(".version 7.0\n.target sm_80\n.address_size 64\nnonsense").unwrap_err();
        let Error::Driver(refusal) = &error else { panic!("{error}") };
        assert_eq!((refusal.function, refusal.code), ("cuModuleLoadDataEx", 218));
        let text = error.to_string();
        assert!(text.contains("PTX line 4") && text.contains("update it"), "{text}");
    }
}
