//! Decides which tensors of a checkpoint form which units.

use std::collections::{BTreeSet, HashMap, HashSet};

use df11::{MAX_ELEMENTS, PARTS};
use safetensors::tensor::Dtype;

use crate::checkpoint::Weights;
use crate::error::Error;
use crate::names::natural_order;

mod cut;
pub(crate) mod pattern;
mod rule;

use pattern::{Pattern, PatternDict, candidates, states_tied};

/// A unit to be compressed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UnitSpec {
    /// The module path: the prefix of its six tensors.
    pub(crate) path: String,
    /// Names of its tensors, in order.
    pub(crate) tensors: Vec<String>,
    pub(crate) elements: u64,
}

/// Tensors that cannot form a unit.
#[derive(Clone, Debug)]
pub(crate) struct LeftPlain {
    pub(crate) path: String,
    pub(crate) tensors: Vec<String>,
    pub(crate) why: String,
}

/// The division of a checkpoint into units.
#[derive(Debug, Default)]
pub(crate) struct Units {
    pub(crate) units: Vec<UnitSpec>,
    /// The dictionary that goes into `config.json`.
    pub(crate) pattern_dict: PatternDict,
    /// How the dictionary was found, for the report.
    pub(crate) origin: String,
    /// Modules that matched but stay plain.
    pub(crate) left_plain: Vec<LeftPlain>,
    /// Patterns that matched no module.
    pub(crate) unmatched: Vec<String>,
}

/// The reason why tensors do not form a unit.
enum Refused {
    /// They have too many elements for one unit. They may be cut.
    TooLarge(u64),
    Missing(String),
    Other(String),
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Refused::TooLarge(n) => write!(f, "{n} elements, but a unit holds at most 2^31 - 1"),
            Refused::Missing(name) => write!(f, "{name} is missing"),
            Refused::Other(why) => f.write_str(why),
        }
    }
}

impl Units {
    /// Divides a checkpoint into units: by the given dictionary, else by that of its family, else
    /// by the general rule. For tensors in files that no index names, only the general rule
    /// applies.
    pub(crate) fn find(weights: &Weights, given: Option<&PatternDict>) -> Result<Self, Error> {
        let modules = &modules(weights)[..];
        if let Some(dict) = given {
            let mut cutter = Cutter::new(weights, modules, "the given pattern dictionary".to_owned());
            cutter.apply(dict).map_err(Error::Usage)?;
            return Ok(cutter.finish());
        }
        let tied = is_tied(weights);
        let families = weights.config().map_or(Ok(Vec::new()), |config| candidates(config, tied));
        let mut rejected = Vec::new();
        for family in families.map_err(Error::Usage)? {
            let mut cutter = Cutter::new(weights, modules, format!("model family {}", family.name));
            cutter.apply(&family.pattern_dict).map_err(Error::Usage)?;
            // A family is confirmed if every pattern matches modules that have the tensors it
            // lists.
            if cutter.found.unmatched.is_empty() && !cutter.missing {
                let secondary = |name: &str| !weights.is_primary(name);
                cutter.apply_rule(tied, secondary);
                return Ok(cutter.finish());
            }
            rejected.push(family.name);
        }
        let mut origin = "the general rule: repeated blocks, and large matrices on their own".to_owned();
        if !rejected.is_empty() {
            origin += &format!(" (the tensor names do not fit {})", rejected.join(", "));
        }
        let mut cutter = Cutter::new(weights, modules, origin);
        cutter.apply_rule(tied, |_| true);
        Ok(cutter.finish())
    }
}

/// Forms units, and records which tensors they take.
struct Cutter<'a> {
    weights: &'a Weights,
    /// All module paths, as [`modules`] lists them.
    modules: &'a [&'a str],
    found: Units,
    /// Tensors whose names are those of a unit's part, by module.
    like_parts: HashMap<&'a str, &'a str>,
    /// Whether each tensor, by its position among all, belongs to a unit.
    taken: Vec<bool>,
    taken_modules: HashSet<String>,
    /// Whether a pattern lists a tensor that does not exist.
    missing: bool,
    /// The number of blocks that were cut into several units.
    cut: usize,
}

impl<'a> Cutter<'a> {
    fn new(weights: &'a Weights, modules: &'a [&'a str], origin: String) -> Self {
        let found = Units { origin, ..Units::default() };
        let like_parts = weights.tensors.keys().filter_map(|name| {
            let (module, last) = name.rsplit_once('.').unwrap_or(("", name));
            PARTS.iter().any(|(key, _)| *key == last).then_some((module, name.as_str()))
        });
        Cutter {
            weights,
            modules,
            found,
            like_parts: like_parts.collect(),
            taken: vec![false; weights.tensors.len()],
            taken_modules: HashSet::new(),
            missing: false,
            cut: 0,
        }
    }

    /// Forms units by a dictionary.
    fn apply(&mut self, dict: &PatternDict) -> Result<(), String> {
        let mut modules: Vec<&str> =
            self.modules.iter().copied().filter(|module| !module.is_empty()).collect();
        modules.sort_by(|a, b| natural_order(a, b));
        let mut texts = dict.0.keys();
        dict.for_each(|pattern| {
            let text = texts.next().cloned().unwrap_or_default();
            let (first, cut) = (self.found.units.len(), self.cut);
            if !self.apply_pattern(pattern, &modules) {
                self.found.unmatched.push(text.clone());
            }
            if self.cut == cut {
                self.found.pattern_dict.0.insert(text, pattern.submodules.clone());
            } else {
                // No module may match two patterns, so the parts of a cut block get patterns of
                // their own.
                let entries = rule::dictionary(self.modules, &self.found.units[first..]);
                let entries = entries.into_iter().map(|entry| (entry.pattern, entry.submodules));
                self.found.pattern_dict.0.extend(entries);
            }
            Ok(())
        })
    }

    fn apply_pattern(&mut self, pattern: &Pattern, modules: &[&str]) -> bool {
        let mut matched = false;
        for module in modules.iter().filter(|module| pattern.matches(module)) {
            let tensors = pattern.tensors(module);
            if tensors.iter().all(|name| self.weights.get(name).is_none()) {
                continue; // a module that the pattern happens to match
            }
            matched = true;
            self.add(module, tensors);
        }
        matched
    }

    /// Forms units from the remaining tensors by the general rule.
    fn apply_rule(&mut self, tied: bool, of: impl Fn(&str) -> bool) {
        let is_taken =
            |name: &str| self.weights.tensors.get_index_of(name).is_some_and(|place| self.taken[place]);
        let free = |name: &str| of(name) && !is_taken(name);
        let rule::Rule { units, embeddings } = rule::general_rule(self.weights, self.modules, tied, free);
        let first = self.found.units.len();
        for unit in units {
            self.add(&unit.path(), unit.tensors());
        }
        let entries = rule::dictionary(self.modules, &self.found.units[first..]);
        let room = pattern::MAX_PATTERNS.saturating_sub(self.found.pattern_dict.0.len());
        let mut kept = vec![true; self.found.units.len()];
        for (i, rule::Entry { pattern, submodules, members }) in entries.into_iter().enumerate() {
            let fits = i < room && pattern.len() <= pattern::MAX_PATTERN;
            if fits && !self.found.pattern_dict.0.contains_key(&pattern) {
                self.found.pattern_dict.0.insert(pattern, submodules);
            } else {
                members.into_iter().for_each(|member| kept[first + member] = false);
            }
        }
        if kept.contains(&false) {
            let why = format!("the model has more than {} kinds of blocks", pattern::MAX_PATTERNS);
            let units = std::mem::take(&mut self.found.units);
            for (unit, kept) in units.into_iter().zip(kept) {
                if kept {
                    self.found.units.push(unit);
                } else {
                    let UnitSpec { path, tensors, .. } = unit;
                    self.found.left_plain.push(LeftPlain { path, tensors, why: why.clone() });
                }
            }
        }
        for module in embeddings {
            let why = "input and output embedding are one parameter, which published loaders cannot decode";
            self.found.left_plain.push(LeftPlain {
                path: module.to_owned(),
                tensors: vec![format!("{module}.weight")],
                why: why.to_owned(),
            });
        }
    }

    /// Makes tensors into a unit, or into several if they have too many elements for one. Records
    /// the reason if they form none.
    fn add(&mut self, module: &str, tensors: Vec<String>) {
        match self.check(module, &tensors) {
            Ok((elements, places)) => {
                places.into_iter().for_each(|place| self.taken[place] = true);
                self.taken_modules.insert(module.to_owned());
                self.found.units.push(UnitSpec { path: module.to_owned(), tensors, elements });
            }
            Err(Refused::TooLarge(elements)) => {
                let Some((rest, inner)) = cut::cut(module, &tensors) else {
                    let why = Refused::TooLarge(elements).to_string();
                    self.found.left_plain.push(LeftPlain { path: module.to_owned(), tensors, why });
                    return;
                };
                self.cut += 1;
                if !rest.is_empty() {
                    self.add(module, rest);
                }
                for (path, tensors) in inner {
                    self.add(&path, tensors);
                }
            }
            Err(why) => {
                self.missing |= matches!(why, Refused::Missing(_));
                let why = why.to_string();
                self.found.left_plain.push(LeftPlain { path: module.to_owned(), tensors, why });
            }
        }
    }

    /// Counts the elements of tensors that can form a unit, and returns their positions among all.
    /// Otherwise returns the reason, as far as names, types and sizes show it.
    fn check(&self, module: &str, tensors: &[String]) -> Result<(u64, Vec<usize>), Refused> {
        if self.taken_modules.contains(module) {
            return Err(Refused::Other("another pattern made this module a unit already".to_owned()));
        }
        if let Some(name) = self.like_parts.get(module) {
            let why = format!("there is a tensor {name}, which is what a part of the unit would be called");
            return Err(Refused::Other(why));
        }
        let mut elements = 0u64;
        let mut places = Vec::with_capacity(tensors.len());
        for name in tensors {
            let Some((place, _, &found)) = self.weights.tensors.get_full(name) else {
                return Err(Refused::Missing(name.clone()));
            };
            if self.taken[place] {
                return Err(Refused::Other(format!("{name} already belongs to another unit")));
            }
            let (_, tensor) = self.weights.at(found);
            if tensor.dtype != Dtype::BF16 {
                return Err(Refused::Other(format!("{name} is {}, not BF16", tensor.dtype)));
            }
            elements += tensor.bytes() / 2;
            places.push(place);
        }
        places.sort_unstable();
        if let Some(twice) = places.windows(2).find(|pair| pair[0] == pair[1]) {
            let name = self.weights.tensors.get_index(twice[0]).map_or("", |(name, _)| name);
            return Err(Refused::Other(format!("{name} is listed twice")));
        }
        if elements == 0 {
            return Err(Refused::Other("it has no elements".to_owned()));
        }
        if elements > MAX_ELEMENTS as u64 {
            return Err(Refused::TooLarge(elements));
        }
        Ok((elements, places))
    }

    fn finish(self) -> Units {
        self.found
    }
}

/// The largest number of parts in a module name. No model is nested this deeply. A hostile one
/// would cost time quadratic in the lengths of its names.
pub(crate) const DEEPEST: usize = 64;

/// Lists every module path once: each tensor name without its last part, and all its prefixes.
///
/// Names come in order, so all tensors of a module come together. A path is therefore new if the
/// previous name does not lie in it.
fn modules(weights: &Weights) -> Vec<&str> {
    let mut modules = Vec::new();
    let mut before = "";
    let shallow = |name: &str| name.bytes().filter(|&b| b == b'.').nth(DEEPEST).is_none();
    for name in weights.tensors.keys().filter(|name| shallow(name)) {
        let common = name.bytes().zip(before.bytes()).take_while(|(a, b)| a == b).count();
        let dots = name.bytes().enumerate().filter(|(_, byte)| *byte == b'.').map(|(at, _)| at);
        modules.extend(dots.filter(|&dot| dot >= common).map(|dot| &name[..dot]));
        before = name;
    }
    modules
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

/// Tells from its name whether a module is an input or output embedding.
pub(crate) fn is_embedding(module: &str) -> bool {
    EMBEDDINGS.contains(&module.rsplit('.').next().unwrap_or(module))
}

/// Tells whether input and output embedding are one parameter. A loader that removes the weight of
/// one for decoding leaves the other without it. Published models of this kind keep them plain.
///
/// Configs state it, or omit it where it is the model's default. In that case it is inferred from a
/// class that has an output embedding and a checkpoint that has none.
fn is_tied(weights: &Weights) -> bool {
    /// Endings of the names of classes that have an output embedding.
    const WITH_HEAD: [&str; 4] = ["ForCausalLM", "ForConditionalGeneration", "LMHeadModel", "ForMaskedLM"];
    let Some(config) = weights.config() else { return false };
    states_tied(config).unwrap_or_else(|| {
        let classes = config.get("architectures").and_then(serde_json::Value::as_array).into_iter().flatten();
        let mut classes = classes.filter_map(serde_json::Value::as_str);
        let has_head = |name: &String| name.ends_with("lm_head.weight") || name.ends_with("embed_out.weight");
        classes.any(|class| WITH_HEAD.iter().any(|end| class.ends_with(end)))
            && !weights.tensors.keys().any(has_head)
    })
}

/// Returns, by tensor name, why tensors stay plain whose units could not be formed.
pub(crate) fn reasons(left_plain: &[LeftPlain]) -> HashMap<&str, String> {
    let mut reasons = HashMap::new();
    for LeftPlain { path, tensors, why } in left_plain {
        let shown: BTreeSet<&String> = tensors.iter().collect();
        for name in shown {
            reasons.insert(name.as_str(), format!("unit {path}: {why}"));
        }
    }
    reasons
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    /// Writes a file that consists of the header for these BF16 matrices, and a hole for their
    /// data.
    fn sparse(tensors: &[(String, [usize; 2])]) -> (tempfile::TempDir, Weights) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("m.safetensors");
        let (mut header, mut at) = (String::from("{"), 0);
        for (name, [rows, columns]) in tensors {
            let end = at + 2 * rows * columns;
            let comma = if at > 0 { "," } else { "" };
            header += &format!(
                "{comma}\"{name}\":{{\"dtype\":\"BF16\",\"shape\":[{rows},{columns}],\"data_offsets\":[{at},{end}]}}"
            );
            at = end;
        }
        header.push('}');
        let mut file = std::fs::File::create(&path).unwrap();
        file.write_all(&crate::container::head(&header)).unwrap();
        file.set_len((8 + header.len() + at) as u64).unwrap();
        let weights = Weights::open(&path).unwrap();
        (directory, weights)
    }

    #[test]
    fn a_block_above_the_limit_of_a_unit_is_cut_at_its_experts() {
        let mut tensors = vec![("model.layers.0.mlp.up_proj.weight".to_owned(), [64, 64])];
        for layer in 1..3 {
            for expert in 0..130 {
                let name = format!("model.layers.{layer}.mlp.experts.{expert}.up_proj.weight");
                tensors.push((name, [4096, 4096]));
            }
            tensors.push((format!("model.layers.{layer}.attn.q_proj.weight"), [64, 64]));
        }
        let (_directory, weights) = sparse(&tensors);
        let found = Units::find(&weights, None).unwrap();
        assert!(found.left_plain.is_empty() && found.unmatched.is_empty());
        assert_eq!(found.units.len(), 1 + 2 * 131);
        assert!(found.units.iter().all(|unit| unit.elements <= MAX_ELEMENTS as u64));
        let taken: usize = found.units.iter().map(|unit| unit.tensors.len()).sum();
        assert_eq!(taken, tensors.len());
        // A loader that goes by the dictionary finds each unit once, with its tensors.
        let patterns = found.pattern_dict.compile().unwrap();
        assert!(patterns.len() <= 4, "{:?}", found.pattern_dict);
        for unit in &found.units {
            let matching: Vec<_> = patterns.iter().filter(|pattern| pattern.matches(&unit.path)).collect();
            assert_eq!(matching.len(), 1, "{}", unit.path);
            assert_eq!(matching[0].tensors(&unit.path), unit.tensors);
        }
    }

    #[test]
    fn a_block_above_the_limit_without_experts_is_cut_at_its_modules() {
        // The blocks of Llama 3.1 405B.
        let mut tensors = Vec::new();
        for layer in 0..2 {
            let matrices = [
                ("self_attn.q_proj", [16384, 16384]),
                ("self_attn.k_proj", [1024, 16384]),
                ("self_attn.v_proj", [1024, 16384]),
                ("self_attn.o_proj", [16384, 16384]),
                ("mlp.gate_proj", [53248, 16384]),
                ("mlp.up_proj", [53248, 16384]),
                ("mlp.down_proj", [16384, 53248]),
            ];
            for (name, shape) in matrices {
                tensors.push((format!("model.layers.{layer}.{name}.weight"), shape));
            }
        }
        let (_directory, weights) = sparse(&tensors);
        let found = Units::find(&weights, None).unwrap();
        assert!(found.left_plain.is_empty() && found.unmatched.is_empty());
        let of_first = |unit: &&UnitSpec| unit.path.starts_with("model.layers.0.");
        let paths: Vec<_> = found.units.iter().filter(of_first).map(|unit| &unit.path[15..]).collect();
        assert_eq!(paths, ["mlp.down_proj", "mlp.gate_proj", "mlp.up_proj", "self_attn"]);
        let patterns = found.pattern_dict.compile().unwrap();
        for unit in &found.units {
            let matching: Vec<_> = patterns.iter().filter(|pattern| pattern.matches(&unit.path)).collect();
            assert_eq!(matching.len(), 1, "{}", unit.path);
            assert_eq!(matching[0].tensors(&unit.path), unit.tensors);
        }
    }

    #[test]
    fn modules_are_each_path_once() {
        let names = ["a.b.c", "a.b-x.c", "a.b.d.e", "a", "b.c"];
        let tensors: Vec<_> = names.iter().map(|name| ((*name).to_owned(), [1, 1])).collect();
        let (_directory, weights) = sparse(&tensors);
        let mut found = modules(&weights);
        found.sort_unstable();
        assert_eq!(found, ["a", "a.b", "a.b-x", "a.b.d", "b"]);
    }
}
