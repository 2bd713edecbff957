//! The shared library, judged by every vector through its C interface.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use df11_judge::judge::{Terms, run};
use df11_judge::question::Mode;
use df11_judge::subject::{Library, Subject};
use df11_judge::vectors::Task;

// Cargo builds the library for C where it builds the one for Rust, if something needs that.
use df11_capi as _;

#[test]
fn the_shared_library_keeps_every_vector() {
    let beside = std::env::current_exe().unwrap().parent().unwrap().to_owned();
    let name = format!("{}df11_capi{}", std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX);
    let mut library = Library::open(&beside.join(name)).unwrap();
    assert_eq!(library.tasks(), [Task::UnitDecode, Task::FrameDecode, Task::ArchiveDecode]);
    assert_eq!(library.version().as_deref(), Some(env!("CARGO_PKG_VERSION")));
    let terms = Terms { mode: Mode::Lenient, ..Terms::default() };
    let report = run("libdf11", &mut library, &terms).unwrap();
    assert!(report.passed(), "{}", report.to_text());
}
