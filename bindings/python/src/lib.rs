//! The extension module of the Python package `df11`: what Python cannot do well by itself.
//!
//! It holds no codec logic. Operations on checkpoints, a reader, and single frames and units are
//! passed on to the crates below. This crate releases the interpreter's lock while they work,
//! reports progress, reacts to Ctrl-C, and converts errors to exceptions. Its functions are private
//! to the Python sources beside it. Some take addresses of memory that those sources own.

mod command;
mod deltas;
mod error;
mod frames;
#[cfg(target_os = "linux")]
mod gpu;
mod memory;
mod operations;
mod plans;
mod reader;
mod run;
mod units;

use pyo3::prelude::*;

/// The functions and classes that the Python sources use.
#[pymodule]
mod _df11 {
    #[pymodule_export]
    use crate::command::command;
    #[pymodule_export]
    use crate::deltas::{apply_deltas, describe_delta, encode_deltas};
    #[pymodule_export]
    use crate::frames::{decode_frame, describe_frame, encode_frame};
    #[cfg(target_os = "linux")]
    #[pymodule_export]
    use crate::gpu::{GpuBatch, GpuDevice, GpuLinear, GpuStored, GpuStream};
    #[pymodule_export]
    use crate::operations::{compress, decompress, inspect, verify};
    #[pymodule_export]
    use crate::plans::{
        finish, plan, restore_finish, restore_plan, restore_task, run_task, tasks_left, verify_share,
    };
    #[pymodule_export]
    use crate::reader::Reader;
    #[pymodule_export]
    use crate::units::{code_of, decode_unit, encode_unit, tables_of};

    use super::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
