//! A shared library with the C interface of `df11.h`, called in this process.
//!
//! What it does to memory, it does to this process: judge it in a child, as `df11 judge` does.

#![allow(unsafe_code, reason = "functions of a foreign library are called")]

use std::ffi::{CStr, c_char, c_int};
use std::path::Path;

use df11::Parts;
use libloading::Symbol;
use safetensors::SafeTensors;

use super::ours::unit_of;
use super::{Answer, Subject};
use crate::vectors::Task;

/// `df11_bytes`.
#[repr(C)]
#[allow(dead_code, reason = "read by the library")]
#[derive(Clone, Copy)]
struct Bytes {
    data: *const u8,
    len: usize,
}

impl Bytes {
    fn of(bytes: &[u8]) -> Self {
        Bytes { data: bytes.as_ptr(), len: bytes.len() }
    }
}

/// `df11_tensors`.
#[repr(C)]
#[allow(dead_code, reason = "read by the library")]
struct Tensors {
    luts: Bytes,
    encoded_exponent: Bytes,
    sign_mantissa: Bytes,
    output_positions: Bytes,
    gaps: Bytes,
    split_positions: Bytes,
}

/// The front of `df11_error`.
#[repr(C)]
struct ErrorText {
    status: c_int,
    clause: [u8; 12],
    message: [u8; 240],
}

/// Memory for a structure of `df11.h`, larger than any of them.
#[repr(C, align(64))]
struct Room([u64; 1 << 14]);

impl Room {
    fn new() -> Box<Self> {
        Box::new(Room([0; 1 << 14]))
    }

    fn pointer(&mut self) -> *mut Room {
        self
    }

    /// What an error says, in memory for an error that a function may have filled in.
    fn told(&mut self) -> String {
        // SAFETY: `Room` is larger than `ErrorText`, aligned more, and initialised; every bit
        // pattern is a value of its fields.
        let error = unsafe { &*self.pointer().cast::<ErrorText>() };
        let text = |bytes: &[u8]| {
            let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
            String::from_utf8_lossy(&bytes[..end]).into_owned()
        };
        format!("status {}: {} {}", error.status, text(&error.clause), text(&error.message))
    }
}

/// The front of `df11_unit_info`.
#[repr(C)]
struct UnitInfo {
    elements: usize,
}

/// The front of `df11_frame_info`.
#[repr(C)]
#[allow(dead_code, reason = "fields before the one that is read")]
struct FrameInfo {
    element_type: u8,
    codec: u8,
    rank: usize,
    shape: [u64; 32],
    elements: usize,
    elements_bytes: usize,
}

/// The front of `df11_dietgpu_info`.
#[repr(C)]
#[allow(dead_code, reason = "fields before the one that is read")]
struct ArchiveInfo {
    element_type: u8,
    elements: usize,
    elements_bytes: usize,
}

type Status = c_int;
type UnitOpen = unsafe extern "C" fn(*mut Room, *const Tensors, *mut Room) -> Status;
type Describe = unsafe extern "C" fn(*const Room, *mut Room, *mut Room) -> Status;
type UnitVerify = unsafe extern "C" fn(*const Room, *mut u8, usize, *mut Room) -> Status;
type FrameOpen = unsafe extern "C" fn(*mut Room, *const u8, usize, *mut Room) -> Status;
type FrameTable = unsafe extern "C" fn(*const Room, *mut Room, *mut Room) -> Status;
type FrameDecode = unsafe extern "C" fn(*const Room, *const Room, *mut u8, usize, *mut Room) -> Status;
type ArchiveDescribe = unsafe extern "C" fn(*const u8, usize, *mut Room, *mut Room) -> Status;
type ArchiveDecode = unsafe extern "C" fn(*const u8, usize, *mut u8, usize, *mut Room) -> Status;
type Version = unsafe extern "C" fn() -> *const c_char;

/// Bytes behind the output that must stay as they are.
const GUARD: usize = 64;

/// What they are.
const GUARD_BYTE: u8 = 0xa5;

/// A shared library that exports what a decoder of `df11.h` needs.
#[derive(Debug)]
pub struct Library {
    library: libloading::Library,
    tasks: Vec<Task>,
}

/// What a library did when it did not give its output.
enum Stop {
    Status(Status),
    Crash(String),
}

impl Library {
    /// Opens a library; what it exports decides what it can be asked.
    ///
    /// # Errors
    ///
    /// If it cannot be opened, or lacks functions for every task.
    pub fn open(path: &Path) -> Result<Self, String> {
        // A name without a folder would be searched for where the system's libraries are.
        let found =
            path.canonicalize().map_err(|error| format!("cannot open {}: {error}", path.display()))?;
        // SAFETY: opening a library runs its initialisers, which is what the caller asks for: it is
        // to be judged, in a process made for that.
        let library = unsafe { libloading::Library::new(&found) };
        let library = library.map_err(|error| format!("cannot open {}: {error}", path.display()))?;
        let mut opened = Library { library, tasks: Vec::new() };
        let needs: [(Task, &[&str]); 3] = [
            (Task::UnitDecode, &["df11_unit_open", "df11_unit_describe", "df11_unit_verify"]),
            (
                Task::FrameDecode,
                &["df11_frame_open", "df11_frame_describe", "df11_frame_build_table", "df11_frame_decode"],
            ),
            (Task::ArchiveDecode, &["df11_dietgpu_describe", "df11_dietgpu_decode"]),
        ];
        for (task, names) in needs {
            if names.iter().all(|name| opened.exports(name)) {
                opened.tasks.push(task);
            }
        }
        if opened.tasks.is_empty() {
            let names = needs.map(|(_, names)| names.join(", ")).join("; or ");
            return Err(format!("{} exports no decoder: it takes {names}", path.display()));
        }
        Ok(opened)
    }

    fn exports(&self, name: &str) -> bool {
        // SAFETY: the symbol is looked for and not used.
        unsafe { self.library.get::<Version>(name.as_bytes()) }.is_ok()
    }

    /// What the library says its version is.
    #[must_use]
    pub fn version(&self) -> Option<String> {
        // SAFETY: `df11.h` declares this function: it takes nothing and gives a text that ends with
        // a zero byte and lives as long as the library.
        unsafe {
            let version: Symbol<'_, Version> = self.library.get(b"df11_version").ok()?;
            let text = version();
            (!text.is_null()).then(|| CStr::from_ptr(text).to_string_lossy().into_owned())
        }
    }

    /// A function of the library.
    ///
    /// # Safety
    ///
    /// `F` must be the type that `df11.h` gives this name.
    unsafe fn get<F>(&self, name: &str) -> Result<Symbol<'_, F>, Stop> {
        // SAFETY: the caller's promise.
        unsafe { self.library.get(name.as_bytes()) }.map_err(|error| Stop::Crash(error.to_string()))
    }

    fn unit(&self, parts: &Parts<&[u8]>, error: &mut Room) -> Result<Vec<u8>, Stop> {
        let tensors = Tensors {
            luts: Bytes::of(parts.luts),
            encoded_exponent: Bytes::of(parts.encoded_exponent),
            sign_mantissa: Bytes::of(parts.sign_mantissa),
            output_positions: Bytes::of(parts.output_positions),
            gaps: Bytes::of(parts.gaps),
            split_positions: Bytes::of(parts.split_positions),
        };
        let (mut unit, mut info) = (Room::new(), Room::new());
        // SAFETY: the types are those of `df11.h`. Every structure lies in a `Room`, which is
        // larger and aligned more than it needs; `tensors` has its layout, and what it points to
        // lives until the last call; the output has the length that is passed. `Room` begins with
        // the fields of `UnitInfo` once the library has filled it in.
        unsafe {
            let [open, describe, verify] = ["df11_unit_open", "df11_unit_describe", "df11_unit_verify"];
            check(self.get::<UnitOpen>(open)?(unit.pointer(), &raw const tensors, error.pointer()))?;
            check(self.get::<Describe>(describe)?(unit.pointer(), info.pointer(), error.pointer()))?;
            let elements = (*info.pointer().cast::<UnitInfo>()).elements;
            let verify = self.get::<UnitVerify>(verify)?;
            fill(elements.checked_mul(2), |out, len| verify(unit.pointer(), out, len, error.pointer()))
        }
    }

    fn frame(&self, bytes: &[u8], error: &mut Room) -> Result<Vec<u8>, Stop> {
        let (mut frame, mut info, mut table) = (Room::new(), Room::new(), Room::new());
        // SAFETY: as in `unit`; the bytes of the frame live until the last call.
        unsafe {
            let open = self.get::<FrameOpen>("df11_frame_open")?;
            check(open(frame.pointer(), bytes.as_ptr(), bytes.len(), error.pointer()))?;
            let describe = self.get::<Describe>("df11_frame_describe")?;
            check(describe(frame.pointer(), info.pointer(), error.pointer()))?;
            let size = (*info.pointer().cast::<FrameInfo>()).elements_bytes;
            let build = self.get::<FrameTable>("df11_frame_build_table")?;
            check(build(frame.pointer(), table.pointer(), error.pointer()))?;
            let decode = self.get::<FrameDecode>("df11_frame_decode")?;
            fill(Some(size), |out, len| decode(frame.pointer(), table.pointer(), out, len, error.pointer()))
        }
    }

    fn archive(&self, bytes: &[u8], error: &mut Room) -> Result<Vec<u8>, Stop> {
        let mut info = Room::new();
        // SAFETY: as in `unit`.
        unsafe {
            let describe = self.get::<ArchiveDescribe>("df11_dietgpu_describe")?;
            check(describe(bytes.as_ptr(), bytes.len(), info.pointer(), error.pointer()))?;
            let size = (*info.pointer().cast::<ArchiveInfo>()).elements_bytes;
            let decode = self.get::<ArchiveDecode>("df11_dietgpu_decode")?;
            fill(Some(size), |out, len| decode(bytes.as_ptr(), bytes.len(), out, len, error.pointer()))
        }
    }
}

fn check(status: Status) -> Result<(), Stop> {
    if status == 0 { Ok(()) } else { Err(Stop::Status(status)) }
}

/// Has an output of this many bytes filled in, with guards behind it.
fn fill(len: Option<usize>, decode: impl FnOnce(*mut u8, usize) -> Status) -> Result<Vec<u8>, Stop> {
    let mut out = Vec::new();
    let all = len.and_then(|len| Some((len, len.checked_add(GUARD)?)));
    let (len, all) = all
        .filter(|(_, all)| out.try_reserve_exact(*all).is_ok())
        .ok_or_else(|| Stop::Crash("says that there are more elements than memory can hold".to_owned()))?;
    out.resize(all, GUARD_BYTE);
    check(decode(out.as_mut_ptr(), len))?;
    if out[len..].iter().any(|byte| *byte != GUARD_BYTE) {
        return Err(Stop::Crash("wrote behind the end of its output".to_owned()));
    }
    out.truncate(len);
    Ok(out)
}

impl Subject for Library {
    fn tasks(&self) -> Vec<Task> {
        self.tasks.clone()
    }

    fn answer(&mut self, task: Task, input: &[u8]) -> Result<Answer, String> {
        let mut error = Room::new();
        let result = match task {
            Task::UnitDecode => {
                // The container is no affair of the library.
                let file = SafeTensors::deserialize(input);
                match file.map_err(|error| error.to_string()).and_then(|file| unit_of(&file)) {
                    Ok(parts) => self.unit(&parts, &mut error),
                    Err(why) => return Ok(Answer::Invalid(why)),
                }
            }
            Task::FrameDecode => self.frame(input, &mut error),
            Task::ArchiveDecode => self.archive(input, &mut error),
            Task::UnitEncode | Task::DeltaDecode => {
                return Err("a library is asked neither to encode nor for deltas".to_owned());
            }
        };
        let told = error.told();
        Ok(match result {
            Ok(output) => Answer::Accepted(output),
            // DF11_TRUNCATED, DF11_CORRUPT, DF11_LIMIT_EXCEEDED, DF11_CHECKSUM
            Err(Stop::Status(1 | 2 | 4 | 5)) => Answer::Invalid(told),
            // DF11_UNSUPPORTED
            Err(Stop::Status(3)) => Answer::Unsupported(told),
            Err(Stop::Status(status)) => Answer::Crashed(format!("ended with status {status} ({told})")),
            Err(Stop::Crash(how)) => Answer::Crashed(how),
        })
    }
}
