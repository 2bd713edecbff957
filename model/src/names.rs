//! Names of files with a meaning, of tensors and of modules, and the order of names.

use std::cmp::Ordering;
use std::path::{Component, Path, PathBuf};

use sha2::{Digest, Sha256};

/// The file that describes a model.
pub(crate) const CONFIG: &str = "config.json";

/// The record of a compressed directory: which files were read, written and left out.
pub(crate) const MANIFEST: &str = "df11.json";

/// The prefix of the hidden files that exist only while a run lasts.
pub(crate) const OURS: &str = ".df11-";

/// The file name ending of an index, which says which tensor is in which shard.
pub(crate) const INDEX: &str = ".safetensors.index.json";

/// The file name ending of weight files.
pub(crate) const WEIGHTS: &str = ".safetensors";

/// Returns the name of a file as text.
pub(crate) fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Returns the folder of a relative path; it is empty at the root.
pub(crate) fn folder_of(path: &Path) -> PathBuf {
    path.parent().map(Path::to_owned).unwrap_or_default()
}

/// Tells from its name whether a file holds weights.
pub(crate) fn is_weights(path: &Path) -> bool {
    file_name(path).ends_with(WEIGHTS)
}

/// Tells from its name whether a file is an index of shards.
pub(crate) fn is_index(path: &Path) -> bool {
    file_name(path).ends_with(INDEX)
}

/// Writes a relative path as manifests do, with slashes between its parts. `None` if it is not
/// UTF-8, or if a part would not survive the way back.
pub(crate) fn portable(path: &Path) -> Option<String> {
    let parts = path.components().map(|part| match part {
        Component::Normal(part) => part.to_str().filter(|part| !part.contains(['\\', '\0'])),
        _ => None,
    });
    let parts: Option<Vec<&str>> = parts.collect();
    parts.filter(|parts| !parts.is_empty()).map(|parts| parts.join("/"))
}

/// Parses a path that a file contains. `None` unless it leads to a place below the directory that
/// it is relative to, and not to a file that a run needs for itself.
pub(crate) fn relative(name: &str) -> Option<PathBuf> {
    let plain = |part: &str| !part.is_empty() && part != "." && part != ".." && !part.starts_with(OURS);
    let good = !name.contains(['\\', '\0']) && name.split('/').all(plain);
    // On Windows, some paths begin elsewhere, such as `C:x`.
    let path = PathBuf::from(name);
    let normal = path.components().all(|part| matches!(part, Component::Normal(_)));
    (good && normal).then_some(path)
}

/// Compares names in natural order, in which `layers.2` comes before `layers.10`. Allocates
/// nothing, and reads no further than the part in which the two names differ.
pub(crate) fn natural_order(a: &str, b: &str) -> Ordering {
    let same = a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count();
    let start = a.as_bytes()[..same].iter().rposition(|&byte| byte == b'.').map_or(0, |dot| dot + 1);
    match (a.as_bytes().get(same), b.as_bytes().get(same)) {
        (None, None) => return Ordering::Equal,
        // All parts of one name are the first parts of the other.
        (None, Some(b'.')) => return Ordering::Less,
        (Some(b'.'), None) => return Ordering::Greater,
        _ => {}
    }
    let end = |name: &str| name.bytes().skip(same).position(|byte| byte == b'.').map(|length| same + length);
    let part = &a[start..end(a).unwrap_or(a.len())];
    let other = &b[start..end(b).unwrap_or(b.len())];
    let number = |part: &str| part.parse::<u64>().ok();
    number(part).cmp(&number(other)).then_with(|| part.cmp(other))
}

/// Tells whether a part of a name is a number.
pub(crate) fn is_number(part: &str) -> bool {
    !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit())
}

/// Returns the name of a unit's tensor.
pub(crate) fn tensor_name(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// Computes the SHA-256 as text.
pub(crate) fn digest(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn natural_order_counts() {
        let mut names = ["h.10.b", "h.2.b", "h.2.a", "g.1", "h"];
        names.sort_by(|a, b| natural_order(a, b));
        assert_eq!(names, ["g.1", "h", "h.2.a", "h.2.b", "h.10.b"]);
        let mut names = ["1", "a", "01", "1.b"];
        names.sort_by(|a, b| natural_order(a, b));
        assert_eq!(names, ["a", "01", "1", "1.b"]);
    }

    #[test]
    fn natural_order_is_that_of_parts_one_after_the_other() {
        let by_parts = |a: &str, b: &str| {
            let key = |part: &str| (part.parse::<u64>().ok(), part.to_owned());
            a.split('.').map(key).cmp(b.split('.').map(key))
        };
        let parts = ["", "h", "2", "02", "10", "h2", "ä", "ö"];
        let pairs = parts.iter().flat_map(|a| parts.iter().map(move |b| format!("{a}.{b}")));
        let triples = pairs.clone().flat_map(|pair| parts.iter().map(move |c| format!("{pair}.{c}")));
        let names: Vec<String> = parts.iter().map(|&a| a.to_owned()).chain(pairs).chain(triples).collect();
        for a in &names {
            for b in &names {
                assert_eq!(natural_order(a, b), by_parts(a, b), "{a:?} and {b:?}");
            }
        }
    }

    #[test]
    fn paths_from_files_lead_nowhere_else() {
        for name in ["", "a//b", "../a", "a/../b", "/a", "a/", ".", "a\\b", "x\0y", ".df11-x", "a/.df11-x"] {
            assert_eq!(relative(name), None, "{name}");
        }
        assert_eq!(relative("a/b.txt"), Some(PathBuf::from("a/b.txt")));
        assert_eq!(portable(Path::new("a/b.txt")).as_deref(), Some("a/b.txt"));
        assert_eq!(portable(Path::new("../b")), None);
    }
}
