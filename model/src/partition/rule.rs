//! The general rule: units of a checkpoint that no published family fits.
//!
//! Candidates are BF16 matrices named `….weight`, because published loaders can put these back
//! (they view the decoded weights as `[out_features, in_features]`). A candidate inside a repeated
//! block, the outermost numbered part of its name, belongs to that block's unit, in natural order
//! of names. Any other candidate is a unit of its own if it is large.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};

use indexmap::IndexMap;
use safetensors::tensor::Dtype;

use super::{UnitSpec, is_embedding};
use crate::checkpoint::Weights;
use crate::names::{is_number, natural_order};

/// The number of elements from which a matrix outside any repeated block is a unit of its own. The
/// tables and the padding of `gaps` take 1 to 2 KB. A matrix of this size can gain 43 KB, so they
/// cost 3 % of the gain, and more for a smaller matrix.
const LARGE_MATRIX: u64 = 1 << 16;

/// Names of lists of blocks. A list with one of these names counts even if it has a single block;
/// any other list needs two.
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
            Found::Block(list, number, _) => [list, ".", number].concat(),
        }
    }

    pub(super) fn tensors(&self) -> Vec<String> {
        match self {
            Found::Own(module) => vec![[module, ".weight"].concat()],
            Found::Block(list, number, submodules) => {
                let name = |submodule: &&str| [list, ".", number, ".", submodule, ".weight"].concat();
                submodules.iter().map(name).collect()
            }
        }
    }
}

/// A block while its matrices are collected.
struct Block<'a> {
    list: &'a str,
    number: &'a str,
    /// The value of the number, unless it is too large to matter.
    value: Option<u64>,
    submodules: Vec<&'a str>,
}

impl<'a> Block<'a> {
    fn new(list: &'a str, number: &'a str, submodule: &'a str) -> Self {
        Block { list, number, value: number.parse().ok(), submodules: vec![submodule] }
    }

    /// Compares as the paths would. It is faster for many blocks of few lists.
    fn natural_order(&self, other: &Self) -> Ordering {
        let lists =
            if self.list == other.list { Ordering::Equal } else { natural_order(self.list, other.list) };
        lists.then_with(|| self.value.cmp(&other.value)).then_with(|| self.number.cmp(other.number))
    }
}

/// The units that the rule finds.
pub(super) struct Rule<'a> {
    /// The units; matrices on their own come first.
    pub(super) units: Vec<Found<'a>>,
    /// Embeddings that are left out because they are tied.
    pub(super) embeddings: Vec<&'a str>,
}

/// Applies the rule to the tensors that `free` admits.
pub(super) fn general_rule<'a>(
    weights: &'a Weights,
    modules: &[&'a str],
    tied: bool,
    free: impl Fn(&str) -> bool,
) -> Rule<'a> {
    let numbers = numbers(modules);
    let is_list = |list: &str| {
        let name = list.rsplit('.').next().unwrap_or(list);
        BLOCK_LISTS.contains(&name) || numbers.get(list).is_some_and(|&numbers| numbers > 1)
    };
    // Names come in order, so the matrices of a block follow each other.
    let mut blocks: Vec<Block<'_>> = Vec::new();
    let (mut own, mut embeddings) = (Vec::new(), Vec::new());
    let candidates = weights.iter().filter(|(_, t)| t.dtype == Dtype::BF16 && t.shape.len() == 2);
    for (_, tensor) in candidates.filter(|(_, tensor)| free(&tensor.name)) {
        let Some(module) = tensor.name.strip_suffix(".weight").filter(|module| !module.is_empty()) else {
            continue;
        };
        match block_of(module).filter(|(list, _, _)| is_list(list)) {
            Some((list, number, submodule)) => match blocks.last_mut() {
                Some(last) if (last.list, last.number) == (list, number) => last.submodules.push(submodule),
                _ => blocks.push(Block::new(list, number, submodule)),
            },
            None if tied && is_embedding(module) => embeddings.push(module),
            None if tensor.bytes() / 2 >= LARGE_MATRIX => own.push(module),
            None => {}
        }
    }
    own.sort_by(|a, b| natural_order(a, b));
    blocks.sort_by(Block::natural_order);
    let mut units: Vec<Found<'_>> = own.into_iter().map(Found::Own).collect();
    for Block { list, number, mut submodules, .. } in blocks {
        submodules.sort_by(|a, b| natural_order(a, b));
        units.push(Found::Block(list, number, submodules));
    }
    Rule { units, embeddings }
}

/// Counts the distinct numbers in each list.
fn numbers<'a>(modules: &[&'a str]) -> BTreeMap<&'a str, usize> {
    let mut numbers: BTreeMap<&str, usize> = BTreeMap::new();
    for module in modules {
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

/// Makes the entries of a dictionary that yields these units. Blocks that hold the same matrices,
/// and whose paths differ only in numbers, share an entry, if no other module has such a path.
pub(super) fn dictionary(modules: &[&str], units: &[UnitSpec]) -> Vec<Entry> {
    let mut shapes: IndexMap<String, Shape<'_>> = IndexMap::new();
    // Many units share few shapes, so the text of each shape is allocated once. Neighbours mostly
    // have the same one.
    let (mut text, mut before) = (String::new(), 0);
    for (i, unit) in units.iter().enumerate() {
        shape(&unit.path, &mut text);
        let found = position(&shapes, &text, before);
        before = found.unwrap_or_else(|| shapes.insert_full(text.clone(), Shape::default()).0);
        shapes[before].groups.entry(submodules(unit)).or_default().push(i);
    }
    for module in modules {
        shape(module, &mut text);
        if let Some(found) = position(&shapes, &text, before) {
            before = found;
            shapes[found].modules += 1;
        }
    }
    let groups = shapes.iter().flat_map(|(text, shape)| {
        shape.groups.iter().map(move |(submodules, members)| (text, shape.modules, submodules, members))
    });
    let mut groups: Vec<_> = groups.collect();
    groups.sort_by_key(|(_, _, _, members)| members[0]);
    let mut entries = Vec::new();
    for (shape, modules, submodules, members) in groups {
        let submodules: Vec<String> = submodules.iter().map(|&submodule| submodule.to_owned()).collect();
        if modules == members.len() {
            entries.push(Entry { pattern: shape.clone(), submodules, members: members.clone() });
            continue;
        }
        // If only some blocks of a list are units, the entry lists their last numbers, list by
        // list.
        let mut lists: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for &i in members {
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

/// Finds a shape, which may be that of the one before.
fn position(shapes: &IndexMap<String, Shape<'_>>, text: &str, before: usize) -> Option<usize> {
    match shapes.get_index(before) {
        Some((shape, _)) if shape == text => Some(before),
        _ => shapes.get_index_of(text),
    }
}

/// The modules whose paths have the same shape.
#[derive(Default)]
struct Shape<'a> {
    /// The number of modules.
    modules: usize,
    /// The units, by their sub-modules.
    groups: HashMap<Vec<&'a str>, Vec<usize>>,
}

/// Writes a module path to `shape` as a pattern that accepts any number in place of each number.
fn shape(module: &str, shape: &mut String) {
    shape.clear();
    for (i, part) in module.split('.').enumerate() {
        shape.push_str(if i > 0 { r"\." } else { "" });
        if is_number(part) {
            shape.push_str(r"\d+");
        } else if part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            shape.push_str(part);
        } else {
            shape.push_str(&regex::escape(part));
        }
    }
}

/// Lists the sub-modules of a unit as a dictionary does: none if the unit is its own.
fn submodules(unit: &UnitSpec) -> Vec<&str> {
    let submodule = |name| {
        let inside = str::strip_prefix(name, &*unit.path)?.strip_prefix('.')?.strip_suffix("weight")?;
        Some(inside.strip_suffix('.').unwrap_or_default())
    };
    let submodules: Vec<&str> = unit.tensors.iter().filter_map(|name| submodule(name.as_str())).collect();
    if submodules == [""] { Vec::new() } else { submodules }
}

/// Splits a module path at its outermost number: the list before it, the number, the sub-module
/// after it. A module that is itself numbered has no sub-module and forms no block.
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
