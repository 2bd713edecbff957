//! Cuts blocks that are too large for a unit.

use std::collections::BTreeMap;

use crate::names::{is_number, natural_order};

/// A part of a block that was cut: its module path and its tensors.
pub(super) type CutOff = (String, Vec<String>);

/// Cuts a block that is too large at the numbered lists inside it, or, without lists, at the
/// modules directly inside it. Returns the tensors outside of these, and each list member or
/// module with its tensors. `None` if there is nothing to cut at.
pub(super) fn cut(module: &str, tensors: &[String]) -> Option<(Vec<String>, Vec<CutOff>)> {
    cut_at(module, tensors, member).or_else(|| cut_at(module, tensors, child))
}

fn cut_at(
    module: &str,
    tensors: &[String],
    part: impl Fn(&str, usize) -> Option<&str>,
) -> Option<(Vec<String>, Vec<CutOff>)> {
    let mut rest = Vec::new();
    let mut inner: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for name in tensors {
        let inside = name.strip_prefix(module).and_then(|rest| rest.strip_prefix('.'));
        match inside.and_then(|inside| part(name, name.len() - inside.len())) {
            Some(path) => inner.entry(path).or_default().push(name.clone()),
            None => rest.push(name.clone()),
        }
    }
    if inner.is_empty() {
        return None;
    }
    let mut inner: Vec<CutOff> =
        inner.into_iter().map(|(path, tensors)| (path.to_owned(), tensors)).collect();
    inner.sort_by(|(a, _), (b, _)| natural_order(a, b));
    Some((rest, inner))
}

/// Returns the module path up to the end of the part that begins at `from`. `None` if that is the
/// last part of the name.
fn child(name: &str, from: usize) -> Option<&str> {
    name[from..].find('.').map(|dot| &name[..from + dot])
}

/// Returns the module path up to the first number from `from` on. `None` if there is no number, or
/// only as the last part of the name.
fn member(name: &str, from: usize) -> Option<&str> {
    let mut start = from;
    for part in name[from..].split('.') {
        let end = start + part.len();
        if is_number(part) && end < name.len() {
            return Some(&name[..end]);
        }
        start = end + 1;
    }
    None
}
