//! Progress bars, on a terminal only.

use std::io::{IsTerminal, stderr};

use df11_model::Progress;
use indicatif::{ProgressBar, ProgressStyle};

/// One bar for the running task. It is silent where there is no terminal.
pub(crate) struct Bars {
    bar: ProgressBar,
}

impl Bars {
    pub(crate) fn new(silent: bool) -> Self {
        let bar = if silent || !stderr().is_terminal() { ProgressBar::hidden() } else { ProgressBar::new(0) };
        let style = "{msg} [{bar:32}] {bytes}/{total_bytes} {bytes_per_sec}, {eta} left";
        // The template is fixed and valid. If a library update rejects it, the default bar is good
        // enough.
        if let Ok(style) = ProgressStyle::with_template(style) {
            bar.set_style(style.progress_chars("=> "));
        }
        Bars { bar }
    }

    /// Removes the bar, so that results stand alone.
    pub(crate) fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

impl Progress for Bars {
    fn begin(&self, task: &str, bytes: u64) {
        self.bar.set_message(task.to_owned());
        self.bar.set_length(bytes);
        self.bar.reset();
    }

    fn advance(&self, bytes: u64) {
        self.bar.inc(bytes);
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        self.clear();
    }
}
