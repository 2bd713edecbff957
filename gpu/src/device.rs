//! Devices, and what is loaded on them.

use std::time::Duration;

use cust::context::{Context, CurrentContext};
use cust::device::{Device, DeviceAttribute};
use cust::error::CudaError;
use cust::event::{Event, EventFlags};
use cust::module::Module;
use cust::stream::{Stream, StreamFlags};
use cust::{CudaApiVersion, CudaFlags};

use crate::error::driver;
use crate::kernels::{DF11_DECODE, Ptx, RANS_DECODE, best};
use crate::{Backend, Emulation, Error, backend};

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

/// A device with the kernels loaded.
///
/// Everything is done on a [`stream`](Self::stream) of its own, which does not wait for others; functions that take a stream do it on
/// the caller's. They return before it is done, unless they say otherwise.
#[derive(Debug)]
pub struct Gpu {
    // Dropped in this order: what is on the device before the context.
    pub(crate) stream: Stream,
    pub(crate) df11: Module,
    pub(crate) rans: Module,
    pub(crate) multiprocessors: u32,
    info: DeviceInfo,
    context: Context,
}

impl Gpu {
    /// Opens a device by its number, and makes its primary context current on this thread.
    ///
    /// # Errors
    ///
    /// [`Error::NoDriver`], [`Error::NoDevice`], [`Error::TooOld`]; [`Error::Driver`] if the driver cannot load the kernels.
    pub fn open(number: u32) -> Result<Self, Error> {
        let devices = devices()?;
        if devices.is_empty() {
            return Err(Error::NoDriver);
        }
        let count = devices.len() as u32;
        let info = devices.into_iter().find(|device| device.number == number);
        let info = info.ok_or(Error::NoDevice { number, devices: count })?;
        let device = driver("get the device", Device::get_device(number))?;
        let context = driver("make a context on the device", Context::new(device))?;
        let load = |kernels: &[Ptx]| {
            let (major, minor) = info.capability;
            let ptx =
                best(kernels, 10 * major + minor).ok_or(Error::TooOld { capability: info.capability })?;
            driver("load the kernels", Module::from_ptx(ptx.text, &[]))
        };
        let (df11, rans) = (load(&DF11_DECODE)?, load(&RANS_DECODE)?);
        let stream = driver("make a stream", Stream::new(StreamFlags::NON_BLOCKING, None))?;
        let multiprocessors = device.get_attribute(DeviceAttribute::MultiprocessorCount);
        let multiprocessors = driver("ask for multiprocessors", multiprocessors)?.max(1) as u32;
        Ok(Gpu { stream, df11, rans, multiprocessors, info, context })
    }

    /// Opens the emulator as a device. From then on this process has no other.
    ///
    /// # Errors
    ///
    /// [`Error::OtherBackend`] if a driver has been used in this process before.
    pub fn emulated(emulation: Emulation) -> Result<Self, Error> {
        if df11_cuda_driver::emulate(emulation) { Gpu::open(0) } else { Err(Error::OtherBackend) }
    }

    /// What is known of the device.
    #[must_use]
    pub const fn info(&self) -> &DeviceInfo {
        &self.info
    }

    /// Whether this is no card.
    #[must_use]
    pub fn is_emulated(&self) -> bool {
        backend() == Backend::Emulator
    }

    /// Its own stream.
    #[must_use]
    pub const fn stream(&self) -> &Stream {
        &self.stream
    }

    /// Its context, for callers who have others.
    #[must_use]
    pub const fn context(&self) -> &Context {
        &self.context
    }

    /// Makes its context current on this thread: needed on every other than the one that opened it.
    ///
    /// # Errors
    ///
    /// [`Error::Driver`].
    pub fn make_current(&self) -> Result<(), Error> {
        driver("make the context current", CurrentContext::set_current(&self.context))
    }

    /// Waits until a stream is done.
    ///
    /// # Errors
    ///
    /// [`Error::Driver`] if something that it had to do went wrong.
    pub fn wait(&self, stream: &Stream) -> Result<(), Error> {
        driver("finish what was asked for", stream.synchronize())
    }

    /// How long a stream takes for what `work` gives it to do, by the clock of the device. (That of the emulator says nothing about a
    /// card.)
    ///
    /// # Errors
    ///
    /// [`Error::Driver`], or what `work` returns.
    pub fn time(&self, stream: &Stream, work: impl FnOnce() -> Result<(), Error>) -> Result<Duration, Error> {
        let event = || driver("make an event", Event::new(EventFlags::DEFAULT));
        let (start, end) = (event()?, event()?);
        driver("record an event", start.record(stream))?;
        work()?;
        driver("record an event", end.record(stream))?;
        driver("wait for an event", end.synchronize())?;
        let milliseconds = driver("ask how long it took", end.elapsed_time_f32(&start))?;
        Ok(Duration::from_secs_f32(milliseconds.max(0.0) / 1000.0))
    }
}
