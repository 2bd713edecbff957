//! Pattern dictionaries: the rules for which tensors form a unit.
//!
//! A dictionary maps regular expressions for module paths to lists of sub-modules. Every module
//! whose whole path matches is a unit. It consists of the `.weight` tensors of the listed
//! sub-modules, in the listed order. With an empty list, it consists of the module's own `.weight`.
//! The order fixes every byte of the unit.

use indexmap::IndexMap;
use regex::bytes::{Regex, RegexBuilder};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::is_embedding;

/// An ordered dictionary from patterns to sub-modules, as `dfloat11_config.pattern_dict` holds it.
///
/// ```
/// use df11_model::PatternDict;
///
/// let dict: PatternDict = serde_json::from_str(r#"{"model\\.layers\\.\\d+": ["mlp.up_proj"]}"#)?;
/// let patterns = dict.compile()?;
/// assert_eq!(patterns.iter().filter(|p| p.matches("model.layers.12")).count(), 1);
/// assert_eq!(patterns.iter().filter(|p| p.matches("model.layers.12.mlp")).count(), 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PatternDict(pub IndexMap<String, Vec<String>>);

/// One compiled entry of a dictionary.
#[derive(Clone, Debug)]
pub struct Pattern {
    regex: Regex,
    /// The sub-modules, in order.
    pub submodules: Vec<String>,
}

impl Pattern {
    /// Tells whether a whole module path matches.
    #[must_use]
    pub fn matches(&self, module: &str) -> bool {
        self.regex.is_match(module.as_bytes())
    }

    /// Returns the names of the tensors that a matching module contributes, in order.
    #[must_use]
    pub fn tensors(&self, module: &str) -> Vec<String> {
        if self.submodules.is_empty() {
            return vec![format!("{module}.weight")];
        }
        self.submodules.iter().map(|submodule| format!("{module}.{submodule}.weight")).collect()
    }
}

/// The largest number of patterns in a dictionary. Published ones have twelve. A larger claim would
/// cost time.
pub(crate) const MAX_PATTERNS: usize = 1000;

/// The length of the longest accepted pattern in bytes.
pub(crate) const MAX_PATTERN: usize = 1 << 14;

/// The largest compiled size of a pattern in bytes: a constant, plus a number of bytes for each
/// byte of the pattern.
const MAX_COMPILED: (usize, usize) = (1 << 16, 64);

/// The largest sum of repetition counts in a dictionary, as in `a{30}`.
const MAX_COUNTED: usize = 10_000;

impl PatternDict {
    /// Compiles the patterns, in order.
    ///
    /// # Errors
    ///
    /// A line that names the pattern, if it is not a regular expression that can be matched in
    /// linear time (look-around and back-references cannot), if it is longer than 16 KiB or
    /// compiles to far more than its length, or if there are more than a thousand patterns.
    pub fn compile(&self) -> Result<Vec<Pattern>, String> {
        let mut all = Vec::new();
        self.for_each(|pattern| {
            all.push(pattern.clone());
            Ok(())
        })?;
        Ok(all)
    }

    /// Compiles one pattern after the other, so that only one is held at a time.
    pub(crate) fn for_each(
        &self,
        mut each: impl FnMut(&Pattern) -> Result<(), String>,
    ) -> Result<(), String> {
        if self.0.len() > MAX_PATTERNS {
            return Err(format!(
                "{} patterns, but at most {MAX_PATTERNS} are accepted in a dictionary",
                self.0.len()
            ));
        }
        let mut counted = 0;
        self.0.iter().try_for_each(|(pattern, submodules)| {
            counted += repetitions(pattern);
            if counted > MAX_COUNTED {
                return Err(format!("more than {MAX_COUNTED} counted repetitions in a dictionary"));
            }
            let regex = compile(pattern)?;
            each(&Pattern { regex, submodules: submodules.clone() })
        })
    }
}

/// Sums the numbers that a pattern has in braces.
fn repetitions(pattern: &str) -> usize {
    let braces = pattern.split('{').skip(1).filter_map(|rest| rest.split('}').next());
    let numbers = braces.flat_map(|inside| inside.split(','));
    numbers.filter_map(|number| number.trim().parse::<usize>().ok()).fold(0, usize::saturating_add)
}

/// Compiles a pattern to match as Python's `re.fullmatch` does: the whole path or nothing. Classes
/// such as `\d` contain only their ASCII members. Module names have no others, and with tables for
/// all of Unicode a cheap hostile file would cost its reader much.
fn compile(pattern: &str) -> Result<Regex, String> {
    let refused = |why: &str| {
        let shown: String = pattern.chars().take(100).collect();
        format!("the pattern {shown:?} cannot be used: {why}")
    };
    if pattern.len() > MAX_PATTERN {
        return Err(refused(&format!("it is longer than {MAX_PATTERN} bytes")));
    }
    let build = |text: &str| {
        let mut builder = RegexBuilder::new(text);
        let limit = MAX_COMPILED.0 + MAX_COMPILED.1 * pattern.len();
        let built = builder.unicode(false).size_limit(limit).dfa_size_limit(limit).nest_limit(100).build();
        built.map_err(|error| refused(error.to_string().lines().last().unwrap_or_default()))
    };
    // A pattern such as `a)|(b` would change its meaning inside brackets. Where brackets seem not
    // to match, the pattern first has to compile on its own.
    if !has_matching_brackets(pattern) {
        build(pattern)?;
    }
    build(&format!("^(?:{pattern})$"))
}

/// Tells whether every `)` closes a `(` before it, apart from escaped ones. Returns false for a
/// pattern with a class, since a bracket in a class matches nothing: the safe side.
fn has_matching_brackets(pattern: &str) -> bool {
    let (mut depth, mut escaped) = (0i64, false);
    for byte in pattern.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'[' => return false,
            b'(' => depth += 1,
            b')' if depth == 0 => return false,
            b')' => depth -= 1,
            _ => {}
        }
    }
    depth == 0
}

/// A dictionary that belongs to a published model family.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Family {
    /// The family's name in reports.
    pub(crate) name: String,
    /// Values of `model_type` in `config.json`.
    #[serde(default)]
    model_types: Vec<String>,
    /// Values of `_class_name` or `architectures` in `config.json`.
    #[serde(default)]
    classes: Vec<String>,
    pub(crate) pattern_dict: PatternDict,
}

/// The dictionaries of published DF11 models. The file names their sources.
const FAMILIES: &str = include_str!("families.json");

#[derive(Deserialize)]
struct Families {
    families: Vec<Family>,
}

/// Returns what `config.json` states about input and output embedding being one parameter, if it
/// states anything.
pub(crate) fn states_tied(config: &Value) -> Option<bool> {
    let places = [Some(config), config.get("text_config")];
    places.into_iter().flatten().find_map(|place| place.get("tie_word_embeddings")?.as_bool())
}

/// Returns the families that `config.json` points to. They still have to be confirmed against the
/// tensors.
pub(crate) fn candidates(config: &Value, tied: bool) -> Result<Vec<Family>, String> {
    let families: Families = serde_json::from_str(FAMILIES)
        .map_err(|error| format!("the built-in dictionaries are damaged: {error}"))?;
    let model_type = config.get("model_type").and_then(Value::as_str);
    let class = config.get("_class_name").and_then(Value::as_str);
    let architectures = config.get("architectures").and_then(Value::as_array);
    let classes: Vec<&str> =
        architectures.into_iter().flatten().filter_map(Value::as_str).chain(class).collect();
    Ok(families
        .families
        .into_iter()
        .filter(|family| {
            family.classes.iter().any(|known| classes.contains(&known.as_str()))
                || family.model_types.iter().any(|known| model_type == Some(known))
        })
        .map(|mut family| {
            if tied {
                family.pattern_dict.0.retain(|pattern, _| !is_embedding(pattern));
            }
            family
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_dictionary_compiles_and_is_reached() {
        let families: Families = serde_json::from_str(FAMILIES).unwrap();
        assert_eq!(families.families.len(), 12);
        for family in &families.families {
            family.pattern_dict.compile().unwrap();
            assert!(!family.model_types.is_empty() || !family.classes.is_empty(), "{}", family.name);
        }
    }

    #[test]
    fn tied_embeddings_stay_out() {
        let config = serde_json::json!({"model_type": "llama", "text_config": {"tie_word_embeddings": true}});
        assert_eq!(states_tied(&config), Some(true));
        let keys = |tied| candidates(&config, tied).unwrap()[0].pattern_dict.0.keys().count();
        assert_eq!((keys(false), keys(true)), (3, 1));
    }

    #[test]
    fn a_dictionary_has_a_thousand_patterns_at_most() {
        let of = |n: usize| PatternDict((0..n).map(|i| (format!("a{i}"), vec![])).collect());
        assert_eq!(of(1000).compile().unwrap().len(), 1000);
        assert!(of(1001).compile().unwrap_err().contains("at most 1000"));
    }

    #[test]
    fn unescaped_dots_match_as_published_loaders_match_them() {
        let dict = PatternDict(IndexMap::from([("model.layers.\\d+".to_owned(), vec![])]));
        let pattern = &dict.compile().unwrap()[0];
        assert!(pattern.matches("model.layers.3") && pattern.matches("modelXlayersX3"));
        assert!(!pattern.matches("model.layers.3.mlp") && !pattern.matches("a.model.layers.3"));
        let error = |pattern: &str| {
            PatternDict(IndexMap::from([(pattern.to_owned(), vec![])])).compile().unwrap_err()
        };
        assert!(error(&"x".repeat(20_000)).contains("longer than 16384 bytes"));
        assert!(error(r"((a{20}){20}){20}").contains("size limit"));
        assert!(error(r"a{20000}").contains("counted repetitions"));
        assert!(error("(?!x)y").contains("look-around"));
        assert!(error("a)|(b").contains("cannot be used"));
    }
}
