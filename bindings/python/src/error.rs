//! Converts errors to exceptions of the tree under `df11.Error`.

use std::path::Path;

use pyo3::prelude::*;
use pyo3::types::PyDict;

/// The description of an error, in the form that the function `df11._errors.build` accepts.
#[derive(Default)]
struct Facts<'a> {
    kind: &'static str,
    clause: Option<&'static str>,
    path: Option<&'a Path>,
    tensor: Option<&'a str>,
    errno: Option<i32>,
}

/// Turns an error of a checkpoint into an exception.
pub(crate) fn of_checkpoint(py: Python<'_>, error: &checkpoint::Error) -> PyErr {
    use checkpoint::Error;
    let facts = match error {
        Error::Io { path, source, .. } => {
            Facts { kind: "io", path: Some(path), errno: source.raw_os_error(), ..Facts::default() }
        }
        Error::File { path, .. } => Facts { kind: "data", path: Some(path), ..Facts::default() },
        Error::Tensor { path, tensor, .. } => {
            Facts { kind: "data", path: Some(path), tensor: Some(tensor), ..Facts::default() }
        }
        Error::Unit { path, unit: tensor, source } | Error::Frame { path, tensor, source } => Facts {
            kind: kind(source),
            clause: source.clause(),
            path: Some(path),
            tensor: Some(tensor),
            errno: None,
        },
        Error::Cancelled => Facts { kind: "cancelled", ..Facts::default() },
        _ => Facts { kind: "invalid_input", ..Facts::default() },
    };
    build(py, &error.to_string(), &facts)
}

/// Turns an error of the codec into an exception.
pub(crate) fn of_codec(py: Python<'_>, error: codec::Error) -> PyErr {
    let facts = Facts { kind: kind(&error), clause: error.clause(), ..Facts::default() };
    build(py, &error.to_string(), &facts)
}

/// Turns an error of the codec that concerns this tensor into an exception.
pub(crate) fn of_tensor(py: Python<'_>, tensor: Option<&str>, error: &codec::Error) -> PyErr {
    let message = match tensor {
        Some(name) => format!("tensor {name}: {error}"),
        None => error.to_string(),
    };
    build(py, &message, &Facts { kind: kind(error), clause: error.clause(), tensor, ..Facts::default() })
}

/// Turns an error of a GPU into an exception. `what` is what was asked for, if that helps.
#[cfg(target_os = "linux")]
pub(crate) fn of_gpu(py: Python<'_>, error: &df11_gpu::Error, what: Option<&str>) -> PyErr {
    let message = what.map_or_else(|| error.to_string(), |what| format!("{what}: {error}"));
    build(py, &message, &Facts { kind: kind_of_gpu(error), ..Facts::default() })
}

/// Turns an error of what was to be stored on a GPU into an exception.
#[cfg(target_os = "linux")]
pub(crate) fn of_stored(py: Python<'_>, error: &df11_gpu::Error, what: &str, name: &str) -> PyErr {
    let clause = match error {
        df11_gpu::Error::Invalid(error) => error.clause(),
        _ => None,
    };
    let facts = Facts { kind: kind_of_gpu(error), clause, tensor: Some(name), ..Facts::default() };
    build(py, &format!("{what}: {error}"), &facts)
}

/// Makes the exception for what a kernel has found wrong with a tensor or unit.
#[cfg(target_os = "linux")]
pub(crate) fn of_fault(
    py: Python<'_>,
    message: &str,
    kind: &'static str,
    clause: &'static str,
    tensor: Option<&str>,
) -> PyErr {
    let facts = Facts { kind, clause: Some(clause), tensor, ..Facts::default() };
    build(py, message, &facts)
}

/// Makes the exception for what a GPU or its driver refused.
#[cfg(target_os = "linux")]
pub(crate) fn of_device(py: Python<'_>, message: &str) -> PyErr {
    build(py, message, &Facts { kind: "device", ..Facts::default() })
}

#[cfg(target_os = "linux")]
fn kind_of_gpu(error: &df11_gpu::Error) -> &'static str {
    use df11_gpu::ErrorKind;
    match (error.kind(), error) {
        (ErrorKind::Data, df11_gpu::Error::Invalid(error)) => kind(error),
        (ErrorKind::Data, _) => "corrupt",
        (ErrorKind::Usage, _) => "invalid_input",
        _ => "device",
    }
}

/// Makes the exception for a wrong call: an argument with a wrong type, length or name.
pub(crate) fn invalid(py: Python<'_>, problem: &str) -> PyErr {
    build(py, problem, &Facts { kind: "invalid_input", ..Facts::default() })
}

fn kind(error: &codec::Error) -> &'static str {
    match error.kind() {
        codec::ErrorKind::Truncated => "truncated",
        codec::ErrorKind::Unsupported => "unsupported",
        codec::ErrorKind::LimitExceeded => "limit_exceeded",
        codec::ErrorKind::Checksum => "checksum",
        codec::ErrorKind::InvalidInput => "invalid_input",
        _ => "corrupt",
    }
}

fn build(py: Python<'_>, message: &str, facts: &Facts<'_>) -> PyErr {
    let built = || -> PyResult<PyErr> {
        let fields = PyDict::new(py);
        fields.set_item("message", message)?;
        fields.set_item("kind", facts.kind)?;
        fields.set_item("clause", facts.clause)?;
        fields.set_item("path", facts.path.map(Path::as_os_str))?;
        fields.set_item("tensor", facts.tensor)?;
        fields.set_item("errno", facts.errno)?;
        let build = py.import("df11._errors")?.getattr("build")?;
        Ok(PyErr::from_value(build.call((), Some(&fields))?))
    };
    built().unwrap_or_else(|error| error)
}
