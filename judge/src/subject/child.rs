//! Child processes: how they are started under limits, and how they ended.

use std::fs;
use std::path::Path;
use std::process::{Command, ExitStatus};

use super::{Answer, INVALID, Limits, UNSUPPORTED};

/// Cuts a command into words as a shell does.
pub(super) fn words(command: &str) -> Result<Vec<String>, String> {
    let words = shlex::split(command).ok_or_else(|| format!("the command {command:?} has an open quote"))?;
    if words.is_empty() {
        return Err("the command is empty".to_owned());
    }
    Ok(words)
}

/// A command of these words that keeps the limit of memory.
pub(super) fn command(words: &[String], limits: &Limits) -> Result<Command, String> {
    let (program, arguments) = words.split_first().ok_or("the command is empty")?;
    let mut command = Command::new(program);
    command.args(arguments);
    if let Some(bytes) = limits.memory {
        limit(&mut command, bytes);
    }
    Ok(command)
}

/// Limits the address space of a command that is yet to be started, and lets it leave no core file.
#[cfg(unix)]
#[allow(unsafe_code, reason = "the operating system takes limits between fork and exec")]
fn limit(command: &mut Command, bytes: u64) {
    use std::os::unix::process::CommandExt;

    use rustix::process::{Resource, Rlimit, setrlimit};
    let set = move || {
        setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
        setrlimit(Resource::As, Rlimit { current: Some(bytes), maximum: Some(bytes) })?;
        Ok(())
    };
    // SAFETY: between fork and exec a child may only do what is async-signal-safe. The closure
    // makes two system calls, `setrlimit`, on values that it owns; it takes no memory and no lock.
    unsafe { command.pre_exec(set) };
}

#[cfg(not(unix))]
fn limit(_: &mut Command, _: u64) {}

/// The last line that a program wrote to its log.
pub(super) fn last_line(log: &Path) -> String {
    let said = fs::read(log).unwrap_or_default();
    let said = String::from_utf8_lossy(&said);
    said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default().trim().to_owned()
}

/// What an exit says; `None` for the code 0.
pub(super) fn refusal(status: ExitStatus, log: &Path) -> Option<Answer> {
    let last = last_line(log);
    let told = |what: String| if last.is_empty() { what } else { format!("{what}: {last}") };
    Some(match status.code() {
        Some(0) => return None,
        Some(code) if code == i32::from(INVALID) => Answer::Invalid(last),
        Some(code) if code == i32::from(UNSUPPORTED) => Answer::Unsupported(last),
        Some(code) => Answer::Crashed(told(format!("crashed with exit code {code}"))),
        None => Answer::Crashed(told(format!("crashed ({status})"))),
    })
}

/// The answer of a program that did not end in time.
pub(super) fn late(limits: &Limits) -> Answer {
    Answer::Crashed(format!("did not end within {} s", limits.time.as_secs_f64()))
}
