//! Which tensors of a checkpoint make which units.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use df11_core::df11::{MAX_ELEMENTS, PARTS};
use safetensors::tensor::Dtype;

use crate::checkpoint::Checkpoint;
use crate::error::Error;
use crate::packed::tensor_name;
use crate::pattern::{PatternDict, candidates, states_tied};

/// A matrix outside any repeated block makes a unit of its own from this many elements up. The tables and the padding of
/// `gaps` take 1 to 2 KB; of the 43 KB that a matrix of this size has to gain, that is 3 %, and more for a smaller one.
const LARGE_MATRIX: u64 = 1 << 16;

/// Names of lists of blocks. A list with one of these names is one even if it has a single block; any other needs two.
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

/// A unit to be compressed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UnitSpec {
    /// The module path: the prefix of its six tensors.
    pub(crate) path: String,
    /// Names of its tensors, in order.
    pub(crate) tensors: Vec<String>,
    pub(crate) elements: u64,
}

/// A unit that cannot be one.
#[derive(Clone, Debug)]
pub(crate) struct LeftPlain {
    pub(crate) path: String,
    pub(crate) tensors: Vec<String>,
    pub(crate) why: String,
}

/// How a checkpoint is cut into units.
#[derive(Debug)]
pub(crate) struct Units {
    pub(crate) units: Vec<UnitSpec>,
    /// What goes into `config.json`.
    pub(crate) pattern_dict: PatternDict,
    /// How the dictionary was found, for the report.
    pub(crate) origin: String,
    /// Modules that matched, but stay plain.
    pub(crate) left_plain: Vec<LeftPlain>,
    /// Patterns that matched no module.
    pub(crate) unmatched: Vec<String>,
}

impl Units {
    /// Cuts a checkpoint into units: by the given dictionary, else by that of its family, else by the general rule.
    pub(crate) fn find(checkpoint: &Checkpoint, given: Option<&PatternDict>) -> Result<Self, Error> {
        if let Some(dict) = given {
            let units = Self::by_dict(checkpoint, dict, "the given pattern dictionary".to_owned());
            return units.map_err(Error::Usage);
        }
        let tied = is_tied(checkpoint);
        let families = checkpoint.config().map_or(Ok(Vec::new()), |config| candidates(config, tied));
        let families = families.map_err(Error::Usage)?;
        let mut rejected = Vec::new();
        for family in families {
            let units =
                Self::by_dict(checkpoint, &family.pattern_dict, format!("model family {}", family.name))
                    .map_err(Error::Usage)?;
            // A family is confirmed if every pattern matches modules, and these have the tensors it lists.
            if units.unmatched.is_empty() && units.left_plain.iter().all(|unit| !unit.why.ends_with(MISSING))
            {
                return Ok(units);
            }
            rejected.push(family.name);
        }
        let (dict, tied) = general_rule(checkpoint, tied);
        let mut origin = "the general rule: repeated blocks, and large matrices on their own".to_owned();
        if !rejected.is_empty() {
            origin += &format!(" (the tensor names do not fit {})", rejected.join(", "));
        }
        let mut units = Self::by_dict(checkpoint, &dict, origin).map_err(Error::Usage)?;
        units.left_plain.extend(tied.into_iter().map(|module| {
            LeftPlain {
                path: module.to_owned(),
                tensors: vec![format!("{module}.weight")],
                why: "input and output embedding are one parameter, which published loaders cannot decode"
                    .to_owned(),
            }
        }));
        Ok(units)
    }

    /// Cuts by a dictionary.
    fn by_dict(checkpoint: &Checkpoint, dict: &PatternDict, origin: String) -> Result<Self, String> {
        let mut modules: Vec<&str> =
            modules(checkpoint).into_iter().filter(|module| !module.is_empty()).collect();
        modules.sort_by(|a, b| natural_order(a, b));
        let mut found = Units {
            units: Vec::new(),
            pattern_dict: dict.clone(),
            origin,
            left_plain: Vec::new(),
            unmatched: Vec::new(),
        };
        let (mut taken, mut taken_modules) = (BTreeSet::new(), BTreeSet::new());
        for (text, pattern) in dict.0.keys().zip(dict.compile()?) {
            let mut matched = false;
            for module in modules.iter().filter(|module| pattern.matches(module)) {
                let tensors = pattern.tensors(module);
                if tensors.iter().all(|name| checkpoint.get(name).is_none()) {
                    continue; // a module that the pattern happens to match
                }
                matched = true;
                let path = (*module).to_owned();
                let elements = if taken_modules.contains(module) {
                    Err("another pattern made this module a unit already".to_owned())
                } else if let Some(name) = tensors.iter().find(|name| taken.contains(*name)) {
                    Err(format!("{name} already belongs to another unit"))
                } else if let Some(name) = PARTS
                    .iter()
                    .map(|(key, _)| tensor_name(module, key))
                    .find(|name| checkpoint.get(name).is_some())
                {
                    Err(format!("there is a tensor {name}, which is what a part of the unit would be called"))
                } else {
                    count(checkpoint, &tensors)
                };
                match elements {
                    Ok(elements) => {
                        taken.extend(tensors.iter().cloned());
                        taken_modules.insert(*module);
                        found.units.push(UnitSpec { path, tensors, elements });
                    }
                    Err(why) => found.left_plain.push(LeftPlain { path, tensors, why }),
                }
            }
            if !matched {
                found.unmatched.push(text.clone());
            }
        }
        Ok(found)
    }
}

/// Part of the reason given when a unit's tensor is missing.
const MISSING: &str = "is missing";

/// Counts the elements of tensors that can make a unit, or says why they cannot, as far as names, types and sizes tell.
fn count(checkpoint: &Checkpoint, tensors: &[String]) -> Result<u64, String> {
    let mut elements = 0u64;
    let mut seen = BTreeSet::new();
    for name in tensors {
        if !seen.insert(name) {
            return Err(format!("{name} is listed twice"));
        }
        let Some((_, tensor)) = checkpoint.get(name) else {
            return Err(format!("{name} {MISSING}"));
        };
        if tensor.dtype != Dtype::BF16 {
            return Err(format!("{name} is {}, not BF16", tensor.dtype));
        }
        elements += tensor.bytes() / 2;
    }
    if elements == 0 {
        return Err("it has no elements".to_owned());
    }
    if elements > MAX_ELEMENTS as u64 {
        return Err(format!("{elements} elements, but a unit holds at most 2^31 - 1"));
    }
    Ok(elements)
}

/// Names with more parts than this make no modules. No model is that deep; a hostile one would cost time in the square of
/// its names' lengths.
const DEEPEST: usize = 64;

/// Every module path: each name of a tensor without its last part, and everything above.
fn modules(checkpoint: &Checkpoint) -> BTreeSet<&str> {
    let mut modules = BTreeSet::new();
    let shallow = |name: &&String| name.bytes().filter(|&b| b == b'.').nth(DEEPEST).is_none();
    for name in checkpoint.tensors.keys().filter(shallow) {
        let mut path = name.as_str();
        while let Some((parent, _)) = path.rsplit_once('.') {
            if !modules.insert(parent) {
                break;
            }
            path = parent;
        }
    }
    modules
}

/// Order of names in which `layers.2` comes before `layers.10`.
pub(crate) fn natural_order(a: &str, b: &str) -> Ordering {
    let part = |part: &str| -> (Option<u64>, String) { (part.parse().ok(), part.to_owned()) };
    a.split('.').map(part).cmp(b.split('.').map(part))
}

/// Last parts of the names of input and output embeddings.
const EMBEDDINGS: [&str; 9] = [
    "embed_tokens",
    "wte",
    "shared",
    "word_embeddings",
    "tok_embeddings",
    "embed_in",
    "embed_out",
    "lm_head",
    "output",
];

/// Whether a module is an input or output embedding, by its name.
pub(crate) fn is_embedding(module: &str) -> bool {
    EMBEDDINGS.contains(&module.rsplit('.').next().unwrap_or(module))
}

/// Whether input and output embedding are one parameter. A loader that takes the weight of one away for decoding leaves the
/// other without; published models of this kind keep them plain.
///
/// Configs say so, or leave it out where it is the model's default: then a class that has an output embedding, and a
/// checkpoint that has none, tell.
fn is_tied(checkpoint: &Checkpoint) -> bool {
    /// How the names of classes end that have an output embedding.
    const WITH_HEAD: [&str; 4] = ["ForCausalLM", "ForConditionalGeneration", "LMHeadModel", "ForMaskedLM"];
    let Some(config) = checkpoint.config() else { return false };
    states_tied(config).unwrap_or_else(|| {
        let classes = config.get("architectures").and_then(serde_json::Value::as_array).into_iter().flatten();
        let mut classes = classes.filter_map(serde_json::Value::as_str);
        let has_head = |name: &String| name.ends_with("lm_head.weight") || name.ends_with("embed_out.weight");
        classes.any(|class| WITH_HEAD.iter().any(|end| class.ends_with(end)))
            && !checkpoint.tensors.keys().any(has_head)
    })
}

/// Makes a dictionary for a checkpoint that no family fits. Returns it with the embeddings left out because they are tied.
///
/// Candidates are BF16 matrices named `….weight`: what published loaders can put back (they view the decoded weights as
/// `[out_features, in_features]`). A candidate inside a repeated block, the outermost numbered part of its name, belongs
/// to that block's unit, in natural order of names; any other is a unit of its own if it is large. Blocks of one list
/// that hold the same matrices share one pattern.
fn general_rule(checkpoint: &Checkpoint, tied: bool) -> (PatternDict, Vec<&str>) {
    // Lists of blocks, with the numbers that occur in them.
    let mut numbers: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for module in modules(checkpoint) {
        if let Some((list, number)) = module.rsplit_once('.').filter(|(_, number)| is_number(number)) {
            numbers.entry(list).or_default().insert(number);
        }
    }
    let is_list = |list: &str| {
        let name = list.rsplit('.').next().unwrap_or(list);
        BLOCK_LISTS.contains(&name) || numbers.get(list).is_some_and(|numbers| numbers.len() > 1)
    };

    let mut blocks: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
    let (mut own, mut left_out) = (Vec::new(), Vec::new());
    let candidates = checkpoint.iter().filter(|(_, t)| t.dtype == Dtype::BF16 && t.shape.len() == 2);
    for (_, tensor) in candidates {
        let Some(module) = tensor.name.strip_suffix(".weight") else { continue };
        match block_of(module).filter(|(list, _, _)| is_list(list)) {
            Some((list, number, submodule)) => blocks.entry((list, number)).or_default().push(submodule),
            None if tied && is_embedding(module) => left_out.push(module),
            None if tensor.bytes() / 2 >= LARGE_MATRIX => own.push(module),
            None => {}
        }
    }

    // Blocks with the same matrices, in natural order, share an entry.
    let mut groups: BTreeMap<(&str, Vec<&str>), Vec<&str>> = BTreeMap::new();
    for ((list, number), mut submodules) in blocks {
        submodules.sort_by(|a, b| natural_order(a, b));
        groups.entry((list, submodules)).or_default().push(number);
    }
    let mut dict = PatternDict::default();
    own.sort_by(|a, b| natural_order(a, b));
    for module in own {
        dict.0.insert(regex::escape(module), Vec::new());
    }
    for ((list, submodules), mut members) in groups {
        let number = if numbers.get(list).is_some_and(|numbers| numbers.len() == members.len()) {
            r"\d+".to_owned()
        } else {
            members.sort_by(|a, b| natural_order(a, b));
            format!("(?:{})", members.join("|"))
        };
        let submodules = submodules.into_iter().map(str::to_owned).collect();
        dict.0.insert(format!(r"{}\.{number}", regex::escape(list)), submodules);
    }
    (dict, left_out)
}

fn is_number(part: &str) -> bool {
    !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit())
}

/// Cuts a module path at its outermost number: the list before it, the number, the sub-module after it. A module that is
/// itself numbered has no sub-module and makes no block.
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
    fn natural_order_counts() {
        let mut names = ["h.10.b", "h.2.b", "h.2.a", "g.1", "h"];
        names.sort_by(|a, b| natural_order(a, b));
        assert_eq!(names, ["g.1", "h", "h.2.a", "h.2.b", "h.10.b"]);
    }

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
