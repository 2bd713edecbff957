//! Devices, and what is loaded on them.

#![allow(unsafe_code, reason = "contexts of the caller")]

use std::ffi::c_void;
use std::sync::Arc;
use std::time::Duration;

use cust::device::{Device, DeviceAttribute};
use cust::error::CudaError;
use cust::{CudaApiVersion, CudaFlags};
use df11_cuda_driver::cuMemcpyDtoDAsync_v2;

use crate::batch::Item;
use crate::context::{Current, Handle, Shared, current_device};
use crate::error::{call, driver};
use crate::{Backend, Batch, Cubin, Error, Event, Memory, Stream, backend};

/// What is known of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceInfo {
    /// Its number.
    pub number: u32,
    /// Its name.
    pub name: String,
    /// Compute capability: 9 and 0.
    pub capability: (i32, i32),
    /// Bytes of memory.
    pub memory: usize,
    /// The version of CUDA that the driver is for: 12 and 8.
    pub driver: (i32, i32),
}

/// The devices that the driver of this machine has; none without a driver.
///
/// # Errors
///
/// [`Error::Driver`] if there is a driver that refuses to tell.
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

/// The device of a number.
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
/// It may be used on any thread, and beside others: each function makes the context current while
/// it runs, and puts back what was.
#[derive(Clone, Debug)]
pub struct Gpu {
    shared: Arc<Shared>,
}

impl Gpu {
    /// Opens a device by its number, in its primary context: the one that other libraries use. What
    /// is current on this thread stays so.
    ///
    /// # Errors
    ///
    /// [`Error::NoDriver`], [`Error::NoDevice`], [`Error::TooOld`]; [`Error::Driver`].
    pub fn open(number: u32) -> Result<Self, Error> {
        // SAFETY: there are no cubins.
        unsafe { Gpu::open_with(number, &[]) }
    }

    /// The same with kernels that were assembled for cards. Of those that are for this one the best
    /// is loaded; without any, or where the driver does not take it, the driver compiles the PTX of
    /// this crate, which takes a while, and a compiler that containers often lack.
    ///
    /// # Safety
    ///
    /// Each cubin is a whole file that `ptxas` has made of the PTX of this version of this crate.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub unsafe fn open_with(number: u32, cubins: &[Cubin<'_>]) -> Result<Self, Error> {
        let info = find(devices()?, number)?;
        Ok(Gpu { shared: Arc::new(Shared::primary(info, cubins)?) })
    }

    /// Opens a device in the caller's context, with cubins as [`open_with`](Self::open_with) takes
    /// them.
    ///
    /// # Safety
    ///
    /// `context` is a context (`CUcontext`) of the driver, and stays until everything that was made
    /// with this is gone. For cubins see [`open_with`](Self::open_with).
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub unsafe fn from_context(context: *mut c_void, cubins: &[Cubin<'_>]) -> Result<Self, Error> {
        // By this the driver is started, which the caller has done already.
        let devices = devices()?;
        let context = Handle(context);
        let current = Current::enter(context)?;
        let number = current_device()?;
        drop(current);
        let info = find(devices, number)?;
        Ok(Gpu { shared: Arc::new(Shared::of_caller(context, info, cubins)?) })
    }

    /// Opens the emulator as a device. From then on this process has no other driver;
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

    /// What is known of the device.
    #[must_use]
    pub fn info(&self) -> &DeviceInfo {
        &self.shared.info
    }

    /// Whether this is no card.
    #[must_use]
    pub fn is_emulated(&self) -> bool {
        backend() == Backend::Emulator
    }

    /// Its own stream, on which it copies.
    #[must_use]
    pub fn stream(&self) -> &Stream {
        &self.shared.stream
    }

    /// Its context, a `CUcontext`.
    #[must_use]
    pub fn context(&self) -> *mut c_void {
        self.shared.context.0
    }

    /// Memory on the device, with nothing in it yet; at least one byte.
    ///
    /// # Errors
    ///
    /// [`Error::Driver`], most likely because there is not so much.
    pub fn allocate(&self, bytes: usize) -> Result<Memory, Error> {
        Memory::new(&self.shared, bytes)
    }

    /// Memory on the device with a copy of these bytes, which is there when this returns, for every
    /// stream.
    ///
    /// # Errors
    ///
    /// As [`allocate`](Self::allocate).
    pub fn copy(&self, bytes: &[u8]) -> Result<Memory, Error> {
        Ok(self.shared.place(&[bytes])?.0)
    }

    /// Copies from one place on the device to another, on a stream, and returns before that is
    /// done.
    ///
    /// # Safety
    ///
    /// `stream` is a stream (`CUstream`) of this device's context, or null for its legacy stream.
    /// At both addresses are this many bytes of memory of this context until the stream is done,
    /// which nobody else writes, or reads at the second, meanwhile.
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
        // SAFETY: the caller's promise.
        call("copy on the device", unsafe { cuMemcpyDtoDAsync_v2(to, from, bytes, stream) })
    }

    /// Decodes one item and downloads what comes of it.
    ///
    /// # Errors
    ///
    /// As [`Batch::new`] and [`Batch::decode`].
    pub fn decode_to_host(&self, item: Item<'_>) -> Result<Vec<u8>, Error> {
        let batch = Batch::packed(self, &[item])?;
        let mut outputs = self.allocate(item.bytes())?;
        batch.decode(&mut outputs)?;
        let mut found = outputs.to_host()?;
        found.truncate(item.bytes());
        Ok(found)
    }

    /// How long a stream takes for what `work` gives it to do, by the clock of the device. (That of
    /// the emulator says nothing about a card.)
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
