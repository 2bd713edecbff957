//! Devices, and the kernels that are loaded on them.

#![allow(unsafe_code, reason = "contexts of the caller")]

use std::ffi::c_void;
use std::sync::Arc;
use std::time::Duration;

use cust::device::{Device, DeviceAttribute};
use cust::error::CudaError;
use cust::{CudaApiVersion, CudaFlags};
use df11_cuda_driver::cuMemcpyDtoDAsync_v2;

use crate::batch::Item;
use crate::context::{Current, Handle, Kind, Shared, current_device};
use crate::error::{call, driver};
use crate::{Backend, Batch, Cubin, Error, Event, Memory, Stream, backend};

/// The properties of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceInfo {
    /// Its number.
    pub number: u32,
    /// Its name.
    pub name: String,
    /// The compute capability, such as 9 and 0.
    pub capability: (i32, i32),
    /// Bytes of memory.
    pub memory: usize,
    /// The CUDA version that the driver supports, such as 12 and 8.
    pub driver: (i32, i32),
}

/// Lists the devices of this machine's driver; none without a driver.
///
/// # Errors
///
/// [`Error::Driver`] if there is a driver and it refuses the query.
///
/// ```
/// for device in df11_gpu::devices()? {
///     println!("cuda:{}: {}", device.number, device.name);
/// }
/// # Ok::<(), df11_gpu::Error>(())
/// ```
pub fn devices() -> Result<Vec<DeviceInfo>, Error> {
    match cust::init(CudaFlags::empty()) {
        Err(CudaError::NoDevice) => return Ok(Vec::new()),
        result => driver("start the CUDA driver", result)?,
    }
    let version = driver("ask for the driver's version", CudaApiVersion::get())?;
    let count = driver("count the devices", Device::num_devices())?;
    let info = |number| {
        let device = Device::get_device(number)?;
        Ok(DeviceInfo {
            number,
            name: device.name()?,
            capability: capability(device)?,
            memory: device.total_memory()?,
            driver: (version.major(), version.minor()),
        })
    };
    (0..count).map(|number| driver("ask for a device", info(number))).collect()
}

fn capability(device: Device) -> Result<(i32, i32), CudaError> {
    Ok((
        device.get_attribute(DeviceAttribute::ComputeCapabilityMajor)?,
        device.get_attribute(DeviceAttribute::ComputeCapabilityMinor)?,
    ))
}

/// Finds the device of a number.
fn find(devices: Vec<DeviceInfo>, number: u32) -> Result<DeviceInfo, Error> {
    if devices.is_empty() {
        return Err(Error::no_driver());
    }
    let count = devices.len() as u32;
    let info = devices.into_iter().find(|device| device.number == number);
    info.ok_or(Error::NoDevice { number, devices: count })
}

/// A device, in one context. Kernels are loaded into it when they are first needed.
///
/// It may be used on any thread, and beside other devices. Each function makes the context current
/// while it runs, and then restores the previous one.
#[derive(Clone, Debug)]
pub struct Gpu {
    shared: Arc<Shared>,
}

impl Gpu {
    /// Opens a device by its number, in its primary context, which other libraries use as well. The
    /// current context of this thread stays the same.
    ///
    /// Kernels are loaded when they are first needed. This crate has them
    /// [assembled](crate::kernels::fatbin) for many cards. For others, the driver compiles their
    /// PTX, which takes a while, and needs a compiler that containers often lack.
    ///
    /// # Errors
    ///
    /// [`Error::NoDriver`], [`Error::NoDevice`], [`Error::TooOld`]; [`Error::Driver`].
    pub fn open(number: u32) -> Result<Self, Error> {
        // SAFETY: there are no cubins.
        unsafe { Gpu::open_with(number, &[]) }
    }

    /// Opens a device with other kernels than those of this crate, which were assembled for cards.
    /// Of the cubins that fit this card, the best is loaded. If there is none, or if the driver
    /// refuses it, the kernels are those that [`open`](Self::open) loads.
    ///
    /// # Safety
    ///
    /// Each cubin must be a whole file that `ptxas` has made of the PTX of this version of this
    /// crate.
    ///
    /// # Errors
    ///
    /// The errors of [`open`](Self::open).
    pub unsafe fn open_with(number: u32, cubins: &[Cubin<'_>]) -> Result<Self, Error> {
        let info = find(devices()?, number)?;
        Ok(Gpu { shared: Arc::new(Shared::primary(info, cubins)?) })
    }

    /// Opens a device in the caller's context, with cubins as [`open_with`](Self::open_with) takes
    /// them.
    ///
    /// # Safety
    ///
    /// `context` must be a context (`CUcontext`) of the driver, and stay until everything that was
    /// made with this device is gone. For cubins, the requirements are those of
    /// [`open_with`](Self::open_with).
    ///
    /// # Errors
    ///
    /// The errors of [`open`](Self::open).
    pub unsafe fn from_context(context: *mut c_void, cubins: &[Cubin<'_>]) -> Result<Self, Error> {
        // This call starts the driver, which the caller has done already.
        let devices = devices()?;
        let context = Handle(context);
        let current = Current::enter(context)?;
        let number = current_device()?;
        drop(current);
        let info = find(devices, number)?;
        Ok(Gpu { shared: Arc::new(Shared::of_caller(context, info, cubins)?) })
    }

    /// Opens the emulator as a device. After this call the process has no other driver.
    /// [`open`](Self::open) opens more of its devices, if it has several.
    ///
    /// # Errors
    ///
    /// [`Error::OtherBackend`] if a driver has been used in this process before.
    #[cfg(feature = "emulator")]
    pub fn emulated(emulation: crate::Emulation) -> Result<Self, Error> {
        if df11_cuda_driver::emulate(emulation) { Gpu::open(0) } else { Err(Error::OtherBackend) }
    }

    pub(crate) const fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Returns the properties of the device.
    #[must_use]
    pub fn info(&self) -> &DeviceInfo {
        &self.shared.info
    }

    /// Tells whether the device is emulated.
    #[must_use]
    pub fn is_emulated(&self) -> bool {
        backend() == Backend::Emulator
    }

    /// Loads all kernels that decode, so that no [`Batch`] has to wait for it later.
    ///
    /// # Errors
    ///
    /// [`Error::Driver`] if the driver takes neither the assembled kernels nor their PTX.
    pub fn load(&self) -> Result<(), Error> {
        Kind::ALL.into_iter().try_for_each(|kind| self.shared.kernel(kind.source()).map(|_| ()))
    }

    /// Returns the names of the loaded sources that the driver had to compile from PTX.
    #[must_use]
    pub fn compiled(&self) -> Vec<&'static str> {
        self.shared.compiled()
    }

    /// Returns the device's own stream, which it uses for copies.
    #[must_use]
    pub fn stream(&self) -> &Stream {
        &self.shared.stream
    }

    /// Returns its context, a `CUcontext`.
    #[must_use]
    pub fn context(&self) -> *mut c_void {
        self.shared.context.0
    }

    /// Allocates memory on the device, at least one byte. Its content is undefined.
    ///
    /// # Errors
    ///
    /// [`Error::Driver`], most likely because the device lacks this much memory.
    pub fn allocate(&self, bytes: usize) -> Result<Memory, Error> {
        Memory::new(&self.shared, bytes)
    }

    /// Allocates memory on the device with a copy of these bytes. When this returns, every stream
    /// can use it.
    ///
    /// # Errors
    ///
    /// The errors of [`allocate`](Self::allocate).
    pub fn copy(&self, bytes: &[u8]) -> Result<Memory, Error> {
        Ok(self.shared.place(&[bytes])?.0)
    }

    /// Copies from one address of the device to another on a stream, and returns before the copy is
    /// done.
    ///
    /// # Safety
    ///
    /// `stream` must be a stream (`CUstream`) of this device's context, or null for its legacy
    /// stream. Both addresses must have this many bytes of memory of this context until the stream
    /// is done. Meanwhile no one may write the source, or read or write the target.
    ///
    /// # Errors
    ///
    /// [`Error::Driver`] if the driver refuses.
    pub unsafe fn enqueue_copy(
        &self,
        stream: *mut c_void,
        from: u64,
        to: u64,
        bytes: usize,
    ) -> Result<(), Error> {
        let _current = self.shared.enter()?;
        // SAFETY: the caller promises that both addresses have this many bytes until the stream is
        // done, and that `stream` is of this context, or null.
        call("copy on the device", unsafe { cuMemcpyDtoDAsync_v2(to, from, bytes, stream) })
    }

    /// Decodes one item and downloads the result.
    ///
    /// # Errors
    ///
    /// The errors of [`Batch::new`] and [`Batch::decode`].
    pub fn decode_to_host(&self, item: Item<'_>) -> Result<Vec<u8>, Error> {
        let batch = Batch::packed(self, &[item])?;
        let mut outputs = self.allocate(item.bytes())?;
        batch.decode(&mut outputs)?;
        let mut found = outputs.to_host()?;
        found.truncate(item.bytes());
        Ok(found)
    }

    /// Measures how long a stream takes for the work that `work` submits, by the device's clock.
    /// (The emulator's clock says nothing about a card.)
    ///
    /// # Errors
    ///
    /// [`Error::Driver`], or what `work` returns.
    pub fn time(&self, stream: &Stream, work: impl FnOnce() -> Result<(), Error>) -> Result<Duration, Error> {
        let (start, end) = (Event::new(self)?, Event::new(self)?);
        start.record(stream)?;
        work()?;
        end.record(stream)?;
        end.wait()?;
        end.since(&start)
    }
}
