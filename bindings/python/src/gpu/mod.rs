//! GPUs: devices, their streams, what is stored on them compressed, and how it is decoded there.
//!
//! Memory and streams of PyTorch come as numbers: addresses, and handles of the driver. On an
//! emulated device, which has memory of its own, each address is one of the host's memory instead,
//! and what kernels write is copied there on the same stream ([`Host`]). Nothing else differs.

mod batch;
mod device;
mod host;
mod linear;
mod report;
mod stored;
mod stream;
mod update;

pub(crate) use batch::GpuBatch;
pub(crate) use device::GpuDevice;
pub(crate) use linear::GpuLinear;
pub(crate) use stored::GpuStored;
pub(crate) use stream::GpuStream;
