//! Status codes and error descriptions.

use std::ffi::c_char;
use std::fmt::Write as _;

use df11::ErrorKind;

/// The status of a finished call.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum df11_status {
    /// All went well.
    DF11_OK = 0,
    /// Bytes are missing. More of the same input could make it valid.
    DF11_TRUNCATED = 1,
    /// The bytes are complete and contradict the format.
    DF11_CORRUPT = 2,
    /// The data is valid, but the layout cannot hold it.
    DF11_UNSUPPORTED = 3,
    /// A stated limit of the layout is exceeded.
    DF11_LIMIT_EXCEEDED = 4,
    /// The data decodes, but does not match its checksum.
    DF11_CHECKSUM = 5,
    /// The call is wrong: a NULL pointer, a buffer of the wrong length, an index out of range,
    /// memory that overlaps or was never opened, or the name of a tensor that does not exist.
    DF11_INVALID_INPUT = 6,
    /// The operating system refused to open, read or map a file.
    DF11_IO = 7,
    /// A defect of the library; please report the message.
    DF11_INTERNAL = 8,
}

/// The description of a failure, in the caller's memory. Pass NULL if you do not need it.
///
/// Every function that takes one writes it, also when it succeeds. Texts are UTF-8 and end with a
/// zero byte. A text that is too long is cut.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct df11_error {
    /// The status that the function returned.
    pub status: df11_status,
    /// The broken clause of the specification, as in "D-5.6" (DF11.md), "F-3.1" (FRAME.md), "R-2.1"
    /// (RANS.md) or "G-2.2" (DIETGPU.md); empty where no clause is broken.
    pub clause: [c_char; 12],
    /// One line: the rule, the place where it is broken (file, tensor, offset), and the values that
    /// break it.
    pub message: [c_char; 240],
}

/// The reason for a failure, on this side of the boundary.
#[derive(Debug)]
pub(crate) enum Failure {
    Core(df11::Error),
    #[cfg(feature = "files")]
    Model(df11_model::Error),
    /// A wrong argument of the caller.
    Input(&'static str, &'static str),
}

impl From<df11::Error> for Failure {
    fn from(error: df11::Error) -> Self {
        Failure::Core(error)
    }
}

#[cfg(feature = "files")]
impl From<df11_model::Error> for Failure {
    fn from(error: df11_model::Error) -> Self {
        Failure::Model(error)
    }
}

const fn status_of(error: &df11::Error) -> df11_status {
    match error.kind() {
        ErrorKind::Truncated => df11_status::DF11_TRUNCATED,
        ErrorKind::Unsupported => df11_status::DF11_UNSUPPORTED,
        ErrorKind::LimitExceeded => df11_status::DF11_LIMIT_EXCEEDED,
        ErrorKind::Checksum => df11_status::DF11_CHECKSUM,
        ErrorKind::InvalidInput => df11_status::DF11_INVALID_INPUT,
        // Kinds are non-exhaustive. Data of a new kind of error is at least not valid.
        _ => df11_status::DF11_CORRUPT,
    }
}

impl Failure {
    fn status(&self) -> df11_status {
        match self {
            Failure::Core(error) => status_of(error),
            #[cfg(feature = "files")]
            Failure::Model(
                df11_model::Error::Unit { source, .. } | df11_model::Error::Frame { source, .. },
            ) => status_of(source),
            #[cfg(feature = "files")]
            Failure::Model(error) => match error.kind() {
                df11_model::ErrorKind::Io => df11_status::DF11_IO,
                df11_model::ErrorKind::Usage => df11_status::DF11_INVALID_INPUT,
                _ => df11_status::DF11_CORRUPT,
            },
            Failure::Input(..) => df11_status::DF11_INVALID_INPUT,
        }
    }

    fn clause(&self) -> &'static str {
        match self {
            Failure::Core(error) => error.clause().unwrap_or(""),
            #[cfg(feature = "files")]
            Failure::Model(
                df11_model::Error::Unit { source, .. } | df11_model::Error::Frame { source, .. },
            ) => source.clause().unwrap_or(""),
            #[cfg(feature = "files")]
            Failure::Model(_) => "",
            Failure::Input(..) => "",
        }
    }

    fn write_message(&self, text: &mut Text<'_>) -> std::fmt::Result {
        match self {
            Failure::Core(error) => write!(text, "{error}"),
            #[cfg(feature = "files")]
            Failure::Model(error) => write!(text, "{error}"),
            Failure::Input(what, problem) => write!(text, "{what} {problem}"),
        }
    }
}

/// A text in a C array, which always ends with a zero byte.
struct Text<'a> {
    array: &'a mut [c_char],
    len: usize,
}

impl<'a> Text<'a> {
    fn new(array: &'a mut [c_char]) -> Self {
        array.fill(0);
        Text { array, len: 0 }
    }
}

impl std::fmt::Write for Text<'_> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let room = self.array.len() - 1 - self.len;
        let mut fits = room.min(text.len());
        while !text.is_char_boundary(fits) {
            fits -= 1;
        }
        for (to, from) in self.array[self.len..].iter_mut().zip(&text.as_bytes()[..fits]) {
            *to = from.cast_signed() as c_char;
        }
        self.len += fits;
        // Text after a cut would only mislead.
        if fits < text.len() { Err(std::fmt::Error) } else { Ok(()) }
    }
}

impl df11_error {
    /// Makes the description of success, of this failure, or of a panic.
    pub(crate) fn of(failure: Option<&Failure>, panicked: bool) -> Self {
        let mut error = df11_error { status: df11_status::DF11_OK, clause: [0; 12], message: [0; 240] };
        // Writing fails only for a text that is too long, and that is cut.
        if let Some(failure) = failure {
            error.status = failure.status();
            let _ = Text::new(&mut error.clause).write_str(failure.clause());
            let _ = failure.write_message(&mut Text::new(&mut error.message));
        } else if panicked {
            error.status = df11_status::DF11_INTERNAL;
            let _ = Text::new(&mut error.message)
                .write_str("a defect of the library: it panicked; please report it");
        }
        error
    }
}
