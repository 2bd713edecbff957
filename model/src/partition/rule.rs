//! The general rule: units of a checkpoint that no published family fits.
//!
//! Candidates are BF16 matrices named `….weight`: what published loaders can put back (they view
//! the decoded weights as `[out_features, in_features]`). A candidate inside a repeated block, the
//! outermost numbered part of its name, belongs to that block's unit, in natural order of names;
//! any other is a unit of its own if it is large.

use std::collections::BTreeMap;

use safetensors::tensor::Dtype;

use super::{UnitSpec, is_embedding, modules};
use crate::checkpoint::Weights;
use crate::names::{is_number, natural_order};

/// A matrix outside any repeated block makes a unit of its own from this many elements up. The
/// tables and the padding of `gaps` take 1 to 2 KB; of the 43 KB that a matrix of this size has to
/// gain, that is 3 %, and more for a smaller one.
const LARGE_MATRIX: u64 = 1 << 16;

/// Names of lists of blocks. A list with one of these names is one even if it has a single block;
/// any other needs two.
const BLOCK_LISTS: [&str; 8] = [
    "layers",
    "layer",
    "blocks",
    "block",
    "h",
    "transformer_blocks",
    "single_transformer_blocks",
    "resblocks",
];

/// A unit that the rule finds.
pub(super) enum Found<'a> {
    /// A matrix on its own, by its module path.
    Own(&'a str),
    /// A block: its list, its number, its sub-modules in order.
    Block(&'a str, &'a str, Vec<&'a str>),
}

impl Found<'_> {
    pub(super) fn path(&self) -> String {
        match self {
            Found::Own(module) => (*module).to_owned(),
            Found::Block(list, number, _) => format!("{list}.{number}"),
        }
    }

    pub(super) fn tensors(&self) -> Vec<String> {
        match self {
            Found::Own(module) => vec![format!("{module}.weight")],
            Found::Block(list, number, submodules) => {
                submodules.iter().map(|submodule| format!("{list}.{number}.{submodule}.weight")).collect()
            }
        }
    }
}

/// What the rule finds.
pub(super) struct Rule<'a> {
    /// Units, matrices on their own first.
    pub(super) units: Vec<Found<'a>>,
    /// Embeddings that are left out because they are tied.
    pub(super) embeddings: Vec<&'a str>,
}

/// Applies the rule to the tensors that are free for it.
pub(super) fn general_rule(weights: &Weights, tied: bool, free: impl Fn(&str) -> bool) -> Rule<'_> {
    let numbers = numbers(weights);
    let is_list = |list: &str| {
        let name = list.rsplit('.').next().unwrap_or(list);
        BLOCK_LISTS.contains(&name) || numbers.get(list).is_some_and(|&numbers| numbers > 1)
    };
    let mut blocks: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
    let (mut own, mut embeddings) = (Vec::new(), Vec::new());
    let candidates = weights.iter().filter(|(_, t)| t.dtype == Dtype::BF16 && t.shape.len() == 2);
    for (_, tensor) in candidates.filter(|(_, tensor)| free(&tensor.name)) {
        let Some(module) = tensor.name.strip_suffix(".weight").filter(|module| !module.is_empty()) else {
            continue;
        };
        match block_of(module).filter(|(list, _, _)| is_list(list)) {
            Some((list, number, submodule)) => blocks.entry((list, number)).or_default().push(submodule),
            None if tied && is_embedding(module) => embeddings.push(module),
            None if tensor.bytes() / 2 >= LARGE_MATRIX => own.push(module),
            None => {}
        }
    }
    own.sort_by(|a, b| natural_order(a, b));
    let mut blocks: Vec<_> = blocks.into_iter().collect();
    blocks.sort_by(|((a, m), _), ((b, n), _)| natural_order(a, b).then_with(|| natural_order(m, n)));
    let mut units: Vec<Found<'_>> = own.into_iter().map(Found::Own).collect();
    for ((list, number), mut submodules) in blocks {
        submodules.sort_by(|a, b| natural_order(a, b));
        units.push(Found::Block(list, number, submodules));
    }
    Rule { units, embeddings }
}

/// How many numbers occur in each list.
fn numbers(weights: &Weights) -> BTreeMap<&str, usize> {
    let mut numbers: BTreeMap<&str, usize> = BTreeMap::new();
    for module in modules(weights, |_| true) {
        if let Some((list, _)) = module.rsplit_once('.').filter(|(_, number)| is_number(number)) {
            *numbers.entry(list).or_default() += 1;
        }
    }
    numbers
}

/// An entry of a dictionary, with the positions of its units.
pub(super) struct Entry {
    pub(super) pattern: String,
    pub(super) submodules: Vec<String>,
    pub(super) members: Vec<usize>,
}

/// The entries of a dictionary that gives these units. Blocks that hold the same matrices, and
/// whose paths differ in numbers alone, share an entry, if no other module has such a path.
pub(super) fn dictionary(weights: &Weights, units: &[UnitSpec]) -> Vec<Entry> {
    let mut shapes: BTreeMap<String, usize> = BTreeMap::new();
    let mut groups: BTreeMap<(String, Vec<String>), Vec<usize>> = BTreeMap::new();
    for (i, unit) in units.iter().enumerate() {
        let shape = shape(&unit.path);
        shapes.insert(shape.clone(), 0);
        groups.entry((shape, submodules(unit))).or_default().push(i);
    }
    for module in modules(weights, |_| true) {
        if let Some(count) = shapes.get_mut(&shape(module)) {
            *count += 1;
        }
    }
    let mut groups: Vec<_> = groups.into_iter().collect();
    groups.sort_by_key(|(_, members)| members[0]);
    let mut entries = Vec::new();
    for ((shape, submodules), members) in groups {
        if shapes.get(&shape) == Some(&members.len()) {
            entries.push(Entry { pattern: shape, submodules, members });
            continue;
        }
        // Some of a list alone: by their last numbers, list by list.
        let mut lists: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for i in members {
            lists.entry(units[i].path.rsplit_once('.').map_or("", |(list, _)| list)).or_default().push(i);
        }
        for (list, members) in lists {
            let numbers = members.iter().map(|&i| {
                let last = units[i].path.rsplit('.').next().unwrap_or_default();
                regex::escape(last)
            });
            let numbers: Vec<String> = numbers.collect();
            let number = if let [number] = numbers.as_slice() {
                number.clone()
            } else {
                format!("(?:{})", numbers.join("|"))
            };
            let list = if list.is_empty() { String::new() } else { regex::escape(list) + r"\." };
            let submodules = submodules.clone();
            entries.push(Entry { pattern: list + &number, submodules, members });
        }
    }
    entries
}

/// A module path as a pattern, with any number for each number.
fn shape(module: &str) -> String {
    let mut shape = String::with_capacity(module.len() + 8);
    for (i, part) in module.split('.').enumerate() {
        shape += if i > 0 { r"\." } else { "" };
        if is_number(part) {
            shape += r"\d+";
        } else {
            shape += &regex::escape(part);
        }
    }
    shape
}

/// The sub-modules of a unit, as a dictionary lists them: none if it is its own.
fn submodules(unit: &UnitSpec) -> Vec<String> {
    let submodule = |name: &String| {
        let inside = name.strip_prefix(&unit.path)?.strip_prefix('.')?.strip_suffix("weight")?;
        Some(inside.strip_suffix('.').unwrap_or_default().to_owned())
    };
    let submodules: Vec<String> = unit.tensors.iter().filter_map(submodule).collect();
    if submodules == [String::new()] { Vec::new() } else { submodules }
}

/// Cuts a module path at its outermost number: the list before it, the number, the sub-module after
/// it. A module that is itself numbered has no sub-module and makes no block.
fn block_of(module: &str) -> Option<(&str, &str, &str)> {
    let mut start = 0;
    for part in module.split('.') {
        let end = start + part.len();
        if start > 0 && is_number(part) && end < module.len() {
            return Some((&module[..start - 1], part, &module[end + 1..]));
        }
        start = end + 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_cut_at_the_outermost_number() {
        assert_eq!(
            block_of("model.layers.3.mlp.experts.7.w1"),
            Some(("model.layers", "3", "mlp.experts.7.w1"))
        );
        assert_eq!(block_of("merger.mlp.0"), None);
        assert_eq!(block_of("lm_head"), None);
        assert_eq!(block_of("0.weight"), None);
    }
}
