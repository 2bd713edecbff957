//! Names of the files that are written.

use std::collections::HashMap;

use crate::names::WEIGHTS;

/// Hands out file names, none of them twice.
#[derive(Default)]
pub(super) struct FileNames {
    taken: HashMap<String, usize>,
}

impl FileNames {
    /// Names a unit's file: the module path with dots as underscores, unless that name is taken.
    pub(super) fn of_unit(&mut self, path: &str) -> String {
        /// File systems allow 255 bytes. The suffix needs some of them.
        const LONGEST: usize = 200;
        let safe: String = path
            .chars()
            .take(LONGEST)
            .map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' })
            .collect();
        self.taken.entry("model".to_owned()).or_insert(1);
        loop {
            // Some file systems do not distinguish upper and lower case.
            let number = self.taken.entry(safe.to_lowercase()).or_default();
            *number += 1;
            if *number == 1 {
                return format!("{safe}{WEIGHTS}");
            }
            let numbered = format!("{safe}-{number}");
            let again = self.taken.entry(numbered.to_lowercase()).or_default();
            *again += 1;
            if *again == 1 {
                return format!("{numbered}{WEIGHTS}");
            }
        }
    }
}
